"""A node whose attempts run in the test's own process, without a gang, and scripts that tell what ranks tell."""

from __future__ import annotations

import functools
import gc
import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from k8sddp.worker import main, root_cause
from k8sddp.worker.contract import node_env
from k8sddp.worker.net import loop
from k8sddp.worker.ranks import attempt, process_tree, rank_output, reports, shm
from k8sddp.worker.ranks.launcher import rank_env
from tests.unit.worker import gangs, serving, workers

LIMIT = 20.0  # seconds; only reached by a test that fails


def apart(test: Callable[..., None]) -> Callable[..., None]:
    """Run a test in a process of its own: an attempt ends every descendant of the process that it lives in."""

    @functools.wraps(test)
    def run(**values: Any) -> None:
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                gc.collect()  # what earlier tests left open must not be closed in the middle of this one
                process_tree.become_subreaper()
                test(**values)
            except BaseException:
                os.write(write, traceback.format_exc().encode()[:60_000])
            finally:
                os._exit(0)
        os.close(write)
        with os.fdopen(read) as told:
            problem = told.read()
        os.waitpid(pid, 0)
        if problem:
            pytest.fail(problem, pytrace=False)

    return run


class Node:
    """A node whose attempts run here, with everything that they report."""

    def __init__(self, folder: Path, script: str, **options: str) -> None:
        self.folder = folder
        (folder / "train.py").write_text(script)
        (folder / "memory").mkdir()
        env = workers.make_env(0, folder, 29400, **{f"K8SDDP_{name.upper()}": text for name, text in options.items()})
        env["PYTHONPATH"] = str(workers.FAKE_TORCH)
        self.node = node_env.parse(env)
        self.environ = {**env, "MEMORY": str(folder / "memory"), "LOG": str(folder / "log")}
        self.log = os.open(folder / "log", os.O_CREAT | os.O_RDWR | os.O_APPEND)
        self.events = loop.Loop()
        self.events.handle_signals(lambda signum: None)
        self.sink = rank_output.Sink(self.events, self.log)
        self.memory = shm.SharedMemory(str(folder / "memory"), machine=str(folder / "memory"))
        self.told: list[tuple[str, object]] = []
        self.failures: list[root_cause.Failure] = []
        self.python = sys.executable
        self.number = -1

    def start(self) -> attempt.NodeAttempt:
        """Start the next attempt."""
        self.number += 1
        listener = reports.Listener(
            failed=self._failed,
            left=lambda rank: self.told.append(("left", rank)),
            back=lambda: self.told.append(("back", None)),
            complete=lambda: self.told.append(("complete", None)),
            over=lambda: self.told.append(("over", None)),
        )
        folder = str(self.folder / f"attempt-{self.number}")
        ranks = attempt.NodeAttempt(
            self.events, self.sink, self.node, folder=folder, memory=self.memory, listener=listener
        )
        place = rank_env.Place(self.python, folder, main.instrument_dir(), self.environ)
        ranks.start(gangs.make_attempt(self.number), (str(self.folder / "train.py"),), place=place)
        return ranks

    def _failed(self, failure: root_cause.Failure) -> None:
        self.told.append(("failed", failure.rank))
        self.failures.append(failure)

    def run_until(self, condition: Callable[[], bool]) -> None:
        """Serve the loop until `condition` holds."""
        serving.until(self.events, condition, limit=LIMIT, said=lambda: f"{self.told}, {self.text()}")

    def wait(self, seconds: float) -> None:
        """Serve the loop for so long."""
        until = time.monotonic() + seconds
        self.run_until(lambda: time.monotonic() >= until)

    def end(self, ranks: attempt.NodeAttempt, *, grace: bool = False) -> None:
        """End an attempt and wait for the answer."""
        answers: list[tuple[int, ...]] = []
        ranks.end(answers.append, grace=grace)
        self.run_until(lambda: bool(answers))
        assert [()] == answers

    def text(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def says(self, text: str) -> Callable[[], bool]:
        return lambda: text in self.text()


TELLS = """
import json, os, subprocess, sys, time
EVENTS = os.path.join(os.environ["K8SDDP_RANK_DIR"], "events")
def tell(*records, **record):
    with open(EVENTS, "w") as events:
        events.write("".join(json.dumps(one) + "\\n" for one in records or [record]))
def wait_for(name):
    while not os.path.exists(os.path.join(os.environ["K8SDDP_RANK_DIR"], name)):
        time.sleep(0.005)
"""
