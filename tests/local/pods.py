"""Pods that are small Python programs in hand-written manifests, run by `local.run`: no torch, no worker.

Every process of a run carries a mark in its environment, so that /proc tells whether one is left.
"""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from k8sddp import local
from k8sddp.local import faults, machine
from tests.unit.local.builders import make_job

# A pod as bad as it gets: ignores SIGTERM, has a child in another session, and that one has a stopped child.
STUBBORN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
sleep = [sys.executable, "-S", "-c", "import time; time.sleep(300)"]
helper = subprocess.Popen(sleep, start_new_session=True)
orphan = "import os, subprocess, sys; p = subprocess.Popen(sys.argv[1:]); os.kill(p.pid, 19)"
subprocess.run([sys.executable, "-S", "-c", orphan, *sleep], start_new_session=True)
print("up", flush=True)
time.sleep(300)
"""
POLITE = """
import signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
print("up", flush=True)
signal.sigwait({signal.SIGTERM})
print("saved", flush=True)
sys.exit(143)
"""


class Run:
    """One call of `local.run` in this process."""

    def __init__(
        self,
        tmp_path: Path,
        *,
        on_line: Callable[[bytes], None] = lambda _: None,
        on_report: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.folder = tmp_path
        self.mark = f"mark-{uuid.uuid4()}"
        self.printed = b""
        self.reported: list[str] = []
        self._on_line = on_line
        self._on_report = on_report

    def __call__(self, program: str, *, asked: Sequence[faults.Fault] = (), **changes: Any) -> local.Result:
        with local.Output(self._out, self._report) as output:
            result = local.run(
                [marked_job(program, self.mark, **changes)],
                work_dir=self.folder / "wd",
                output=output,
                machine=machine.observe(),
                asked=asked,
            )
            output.finish()
        return result

    def _report(self, text: str) -> None:
        self.reported.append(text)
        self._on_report(text)

    def _out(self, data: bytes) -> None:
        self.printed += data
        self._on_line(data)


def marked_job(program: str, mark: str, **changes: Any) -> dict[str, Any]:
    """Return a job whose pods run `program`; the first failure fails it unless `changes` say otherwise."""
    rules: dict[str, Any] = {"backoffLimitPerIndex": 0, "maxFailedIndexes": 0}
    rules |= {"volumes": [{"name": "tmp", "emptyDir": {}}], "mounts": [{"name": "tmp", "mountPath": "/tmp"}]}
    env = {"MARK": mark, "K8SDDP_SCRATCH_DIR": "/tmp"}
    return make_job(command=["python3", "-S", "-c", program], env=env, **rules | changes)


def alive(mark: str) -> list[int]:
    """Return the processes that carry `mark`."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"MARK={mark}".encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
    return found


def until(condition: Callable[[], object], *, seconds: float = 20.0) -> None:
    """Wait for something that no event announces."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.01)
