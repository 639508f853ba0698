"""Builders for tests that run real worker processes: a small gang on loopback addresses, one folder per pod."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests import ports

FAKE_TORCH = Path(__file__).with_name("fake_torch")
ROOT = Path(__file__).parents[3]
PYTHON = os.environ.get("WORKER_PYTHON", sys.executable)  # the worker's; make test-worker names another
# Scripts
WAIT_FOR_EVER = "import time, os\nprint('up', os.environ['RANK'])\ntime.sleep(100)\n"
RANK_1_WAITS_ELSE = "import os, sys, time\nif os.environ['RANK'] != '1':\n    time.sleep(100)\n"

DEADLINE = 60.0  # seconds; only reached by a test that fails


def output_of(script: str, *arguments: str) -> str:
    """Return what Python code that can import k8sddp prints, in a process of its own that must end well."""
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [PYTHON, "-c", script, *arguments]
    return subprocess.run(command, env=environ, check=True, capture_output=True, text=True).stdout


def make_env(index: int, folder: Path, port: int, **changes: str) -> dict[str, str]:
    """Return the environment of pod `index`, as the rendered manifest and `local` would set it."""
    address = f"127.0.0.{2 + index}"
    env = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "K8SDDP_JOB": "digits",
        "K8SDDP_NNODES": "1",
        "K8SDDP_NPROC_PER_NODE": "1",
        "K8SDDP_BACKEND": "gloo",
        "K8SDDP_LAUNCHER": "torchrun",
        "K8SDDP_PORT": str(port),
        "K8SDDP_JOIN_TIMEOUT": "30",
        "K8SDDP_MAX_ATTEMPTS": "1",
        "K8SDDP_GRACE_PERIOD": "10",
        "K8SDDP_HANG_TIMEOUT": "600",
        "K8SDDP_ON_HANG": "restart",
        "K8SDDP_GPUS": "0",
        "K8SDDP_NAMESPACE": "team-a",
        "K8SDDP_POD_NAME": f"digits-{index}",
        "K8SDDP_POD_IP": address,
        "K8SDDP_KUBE_NODE": f"node-{'abcdef'[index]}",
        "K8SDDP_NODE_RANK": str(index),
        "K8SDDP_JOB_UID": "3f0c6a52-uid",
        "K8SDDP_SCRATCH_DIR": str(folder / "tmp"),
        "K8SDDP_TERMINATION_LOG": str(folder / "termination-log"),
        "K8SDDP_BIND_HOST": address,
        "K8SDDP_COORDINATOR": "127.0.0.2",
    }
    env.update(changes)
    return env


def at(address: str) -> dict[str, str]:
    """Return what a pod with another address than its index gives it is told."""
    return {"K8SDDP_BIND_HOST": address, "K8SDDP_POD_IP": address}


class Pod:
    """One worker process with its folder."""

    def __init__(self, index: int, folder: Path, env: Mapping[str, str], words: Sequence[str], python: str) -> None:
        self.folder = folder
        (folder / "tmp").mkdir(parents=True)
        self.log_path = folder / "log"
        with self.log_path.open("wb") as log:
            command = [python, "-m", "k8sddp.worker", *words]
            self.process = subprocess.Popen(command, env=env, cwd=folder.parent, stdout=log, stderr=subprocess.STDOUT)

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    @property
    def verdict(self) -> Mapping[str, object]:
        return json.loads((self.folder / "termination-log").read_text())

    @property
    def cause(self) -> Mapping[str, object]:
        first = self.verdict["first_failure"]
        assert isinstance(first, dict), self.log
        return first

    @property
    def scratch(self) -> list[str]:
        """Return what is left in the pod's scratch folder."""
        return sorted(path.name for path in (self.folder / "tmp").iterdir())

    def wait_for(self, text: str) -> None:
        """Wait until the pod's log contains `text`."""
        wait_until(lambda: text in self.log, lambda: f"no {text!r} in {self.log}")

    def wait(self) -> int:
        return self.process.wait(DEADLINE)

    def send(self, signum: int) -> None:
        self.process.send_signal(signum)


class Gang:
    """Some pods of one job; leaving the context kills what is left of them."""

    def __init__(self, folder: Path, script: str, *args: str, nnodes: int = 1, **options: str) -> None:
        self.folder = folder
        self.port = ports.free_for_a_job()
        self.words = ("train.py", *args)
        self.nnodes = nnodes
        self.python = options.pop("python", PYTHON)
        self.torch = options.pop("torch", str(FAKE_TORCH))
        self.options = {f"K8SDDP_{name.upper()}": value for name, value in options.items()}
        self.pods: list[Pod] = []
        (folder / "train.py").write_text(script)

    def __enter__(self) -> Gang:
        return self

    def __exit__(self, *_: object) -> None:
        for pod in self.pods:
            if pod.process.poll() is None:
                pod.send(signal.SIGTERM)
                pod.send(signal.SIGTERM)  # the second time without grace
        for pod in self.pods:
            pod.wait()

    def start(self, *indices: int, name: str = "", **changes: str) -> Gang:
        """Start the pods `indices`, all by default."""
        for index in indices or range(self.nnodes):
            folder = self.folder / (name or f"pod-{index}")
            env = make_env(index, folder, self.port, K8SDDP_NNODES=str(self.nnodes), **self.options)
            if self.torch:
                env["PYTHONPATH"] += os.pathsep + self.torch
            env.update(changes)
            self.pods.append(Pod(index, folder, env, self.words, self.python))
        return self

    def wait(self) -> list[int]:
        """Return the pods' exit codes when all have ended."""
        return [pod.wait() for pod in self.pods]

    def get(self, path: str, index: int = 0, *, timeout: float = 5) -> tuple[int, str]:
        """Return status and body of a pod's HTTP answer."""
        with socket.create_connection((f"127.0.0.{2 + index}", self.port + 1), timeout=timeout) as sock:
            sock.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            answer = b"".join(iter(lambda: sock.recv(4096), b"")).decode()
        return int(answer.split()[1]), answer.partition("\r\n\r\n")[2].strip()

    def wait_ready(self, index: int, text: str) -> None:
        """Wait until a pod's /readyz says `text`."""

        def says() -> bool:
            try:
                return self.get("/readyz", index)[1] == text
            except ConnectionError:
                return False

        wait_until(says)


def wait_until(condition: Callable[[], bool], why: Callable[[], str] = lambda: "it did not happen") -> None:
    """Wait for `condition`, which something else makes true."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, why()
        time.sleep(0.005)


def alive(marker: str) -> list[int]:
    """Return the living processes that carry `marker` in their environment."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                environ = (entry / "environ").read_bytes()
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            if marker.encode() in environ and state != "Z":
                found.append(int(entry.name))
    return found
