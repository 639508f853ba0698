"""Somebody who types k8sddp commands against the fake API server, over real HTTP."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.contract.fake_cluster import FakeCluster
from tests.unit.cli import program

OBJECTS = ["configmaps/digits-worker", "jobs/digits", "networkpolicies/digits", "services/digits"]
CREATED = (
    "service/digits created\nconfigmap/digits-worker created\n"
    "networkpolicy.networking.k8s.io/digits created\njob.batch/digits created\n"
)
HEADER = "context fake, namespace research, mode direct\n"


class User:
    """Somebody with a shell, a job file and a kubeconfig for the fake cluster."""

    def __init__(self, fake: FakeCluster, folder: Path) -> None:
        self.fake = fake
        self.folder = folder
        self.env = {"KUBECONFIG": str(fake.kubeconfig)}

    def write(self, **spec: Any) -> None:
        """Write job.yaml with these fields beside the usual ones."""
        metadata = spec.pop("metadata", {"name": "digits"})
        spec = {"image": "example.com/torch:1", "command": ["train.py"], "nnodes": 2, **spec}
        job = {"apiVersion": "k8sddp.dev/v1alpha1", "kind": "DDPJob", "metadata": metadata, "spec": spec}
        (self.folder / "job.yaml").write_text(json.dumps(job))

    def says(self, *words: str) -> program.Ended:
        """Run `k8sddp WORDS...`."""
        ended = program.k8sddp(*words, cwd=self.folder, env=self.env)
        assert "Traceback" not in ended.err
        return ended

    @contextlib.contextmanager
    def starts(self, *words: str) -> Iterator[subprocess.Popen[str]]:
        """Start `k8sddp WORDS...`, give it running, and kill it if it still runs at the end."""
        with subprocess.Popen(
            [program.SCRIPTS / "k8sddp", *words],
            cwd=self.folder,
            env={**os.environ, **self.env},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def refused(self, *words: str, code: int = 1) -> str:
        """Run a command that must fail, and return its one error sentence."""
        ended = self.says(*words)
        assert (code, "") == (ended.code, ended.out)
        return ended.err.rpartition("error: ")[2].rstrip("\n")

    def pods(self) -> list[str]:
        """Return the names of the job's pods, by index."""
        return [self.fake.pod("digits", index) for index in range(2)]

    def trains(self) -> None:
        """Let both nodes run, and node 0 tell how far they are."""
        for pod in self.pods():
            self.fake.run_pod(pod)
        history = [{"attempt": 0, "counted": False, "message": "node 1 was asked to stop (SIGTERM)"}]
        told = {"state": "training", "attempt": 1, "spent": 0, "max_attempts": 4, "history": history}
        far = {"step": 12, "total_steps": 48, "rate": 2.0, "ranks": 2}
        self.fake.answers[self.pods()[0], "/status"] = {**told, "progress": far, "ranks": [{"rank": 0, "step": 12}]}

    def fails(self, code: int, traceback: str = "") -> str:
        """Let rank 1 end with `code` as the worker reports it; return the sentence."""
        first, second = self.pods()
        sentence = f"rank 1 (pod {second}, node node-a) raised ValueError: bad batch"
        cause = {"rank": 1, "node_rank": 1, "pod": second, "kube_node": "node-a", "class": "exception"}
        cause |= {"exit_code": code, "exception": "ValueError: bad batch", "traceback": traceback, "message": sentence}
        verdict = {"schema": 1, "job": "digits", "outcome": "failed", "attempt": 0, "exit_code": code}
        verdict |= {"spent": 4, "max_attempts": 4}
        text = json.dumps({**verdict, "first_failure": cause, "victims": [0]})
        self.fake.end_container(second, 79, message=text)
        self.fake.end_container(first, code, message=text)
        return f"{sentence} (exit code {code})"


@pytest.fixture
def user(tmp_path: Path) -> Iterator[User]:
    """Give a user whose cluster is empty and whose job.yaml is good."""
    with FakeCluster(tmp_path) as fake:
        user = User(fake, tmp_path)
        user.write()
        yield user
