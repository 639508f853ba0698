"""A user of the cluster and the programs that they start: `k8sddp` and kubectl, as from a shell.

The user has the role `edit` in one namespace that enforces the restricted Pod Security profile, and nothing else. What
happens later is awaited: `eventually` looks again until a deadline and then says what it saw last; `Running` reads a
program's output while it runs.
"""

import contextlib
import fcntl
import json
import os
import queue
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from tests.cluster.clusters import Cluster

SCRIPTS = Path(sys.executable).parent
JOB_LABEL = "k8sddp.dev/job"
LIMIT = 180.0  # seconds for what takes fifteen on an idle machine


class Ended(NamedTuple):
    """What a finished program left: its exit code and its two outputs."""

    code: int
    out: str
    err: str


def eventually(look: Callable[[], Any], wanted: Callable[[Any], object], *, seconds: float = LIMIT) -> Any:
    """Look until what is seen is wanted and return it; fail with what was seen last."""
    deadline = time.monotonic() + seconds
    while not wanted(seen := look()):
        assert time.monotonic() < deadline, f"not after {seconds:g} s; last seen: {seen}"
        time.sleep(0.2)
    return seen


class Running:
    """A program that runs: its lines as they come, stdout and stderr together."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.lines: list[str] = []
        self._inbox: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def until(self, *texts: str, seconds: float = LIMIT) -> str:
        """Return the first line that contains all the texts; fail when the program ends or the time is up before."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                line = self._inbox.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                line = None
            assert line is not None, f"no line with {texts} in {self.lines}"
            if all(text in line for text in texts):
                return line

    def interrupt(self) -> int:
        """Press Ctrl-C and return the exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(LIMIT)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))
            self._inbox.put(self.lines[-1])
        self._inbox.put(None)


@dataclass(frozen=True)
class User:
    """Somebody with a kubeconfig whose context names their namespace."""

    cluster: Cluster
    namespace: str
    kubeconfig: Path

    def k8sddp(
        self, *words: str, stdin: str | None = None, env: Mapping[str, str] | None = None, program: str = "k8sddp"
    ) -> Ended:
        """Run `k8sddp WORDS...` to its end."""
        done = self.cluster.run_inside(
            (str(SCRIPTS / program), *words), env=self._env(env), stdin=stdin, timeout=LIMIT, check=False
        )
        return Ended(done.returncode, done.stdout, done.stderr)

    @contextlib.contextmanager
    def running(self, *words: str) -> Iterator[Running]:
        """Start `k8sddp WORDS...`; it is ended with the block if it still runs."""
        with self._started((str(SCRIPTS / "k8sddp"), *words)) as running:
            yield running

    def on_terminal(self, terminal: int, *words: str) -> "subprocess.Popen[bytes]":
        """Start `k8sddp WORDS...` on this terminal, as its foreground; the caller ends it."""
        options: dict[str, Any] = {
            **dict.fromkeys(("stdin", "stdout", "stderr"), terminal),
            "start_new_session": True,
            "preexec_fn": lambda: fcntl.ioctl(1, termios.TIOCSCTTY, 0),
        }
        looked_at = {"TERM": "xterm", "CI": ""}
        return subprocess.Popen(
            self.cluster.inside_argv((str(SCRIPTS / "k8sddp"), *words)),
            env={**os.environ, **self.cluster.environment, **self._env(looked_at)},
            **options,
        )

    @contextlib.contextmanager
    def following(self, pod: str) -> Iterator[Running]:
        """Start `kubectl logs --follow POD`; it ends with the pod or with the block."""
        with self._started(self.cluster.kubectl_argv("logs", "--follow", pod, kubeconfig=self.kubeconfig)) as running:
            yield running

    @contextlib.contextmanager
    def _started(self, argv: Sequence[str]) -> Iterator[Running]:
        process = subprocess.Popen(
            self.cluster.inside_argv(argv),
            env={**os.environ, **self.cluster.environment, **self._env(None)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        with process:
            try:
                yield Running(process)
            finally:
                process.kill()

    def kubectl(self, *words: str, stdin: str | None = None, check: bool = True) -> str:
        """Run kubectl as this user in their namespace; return what it printed."""
        return self.cluster.kubectl(*words, kubeconfig=self.kubeconfig, stdin=stdin, timeout=LIMIT, check=check)

    def execute(self, pod: str, program: str) -> str:
        """Run a Python program in the pod's container and return what it printed."""
        return self.kubectl("exec", pod, "--", "python3", "-c", program).strip()

    def object(self, kind: str, name: str) -> dict[str, Any]:
        """Return one object."""
        return dict(json.loads(self.kubectl("get", kind, name, "--output=json")))

    def pods(self, job: str) -> list[dict[str, Any]]:
        """Return the pods of a job, oldest first, then by index."""
        found = json.loads(self.kubectl("get", "pods", f"--selector={JOB_LABEL}={job}", "--output=json"))["items"]
        return sorted(found, key=lambda pod: (pod["metadata"]["creationTimestamp"], pod["metadata"]["name"]))

    def pod(self, job: str, index: int) -> dict[str, Any]:
        """Return the youngest pod of an index."""
        label = "batch.kubernetes.io/job-completion-index"
        return [pod for pod in self.pods(job) if pod["metadata"]["labels"][label] == str(index)][-1]

    def await_condition(self, job: str, condition: str) -> None:
        """Wait for a condition of the Job."""
        self.kubectl("wait", f"--for=condition={condition}", f"--timeout={LIMIT - 5:g}s", f"job/{job}")

    def await_ready(self, job: str, nodes: int) -> None:
        """Wait until that many nodes of the gang are ready."""
        limit = f"--timeout={LIMIT - 5:g}s"
        self.kubectl("wait", "--for=jsonpath={.status.ready}=" + str(nodes), limit, f"job/{job}")

    def await_objects(self, wanted: set[str]) -> None:
        """Wait until the namespace holds these objects and nothing else."""
        eventually(self.objects, lambda seen: seen == wanted)

    def objects(self) -> set[str]:
        """Return every object of every kind in the namespace but its events, as its admin sees it."""
        scope = ("--namespace", self.namespace)
        listed = self.cluster.kubectl("api-resources", "--namespaced", "--verbs=list", "--cached", "--output=name")
        kinds = ",".join(kind for kind in listed.split() if kind.partition(".")[0] != "events")
        return set(self.cluster.kubectl("get", kinds, *scope, "--output=name", "--ignore-not-found").split())

    def versions(self, job: str) -> dict[str, str]:
        """Return the resourceVersion of the Job and its children by kind and name."""
        kinds = "job,service,configmap,networkpolicy"
        found = json.loads(self.kubectl("get", kinds, f"--selector={JOB_LABEL}={job}", "--output=json"))["items"]
        return {f"{one['kind']}/{one['metadata']['name']}": one["metadata"]["resourceVersion"] for one in found}

    def _env(self, more: Mapping[str, str] | None) -> dict[str, str]:
        return {"KUBECONFIG": str(self.kubeconfig), **(more or {})}
