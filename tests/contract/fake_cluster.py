"""A Kubernetes API server for tests: real HTTP on a loopback port, no cluster behind it.

It behaves like the real one in what our code relies on (the contract suite runs on both): server-side apply with its
201, 200, conflicts and its 500 for an unknown field, immutable fields, suspension, ownership and the three deletion
policies, watches with bookmarks and 410, logs, warnings. Pods do nothing by themselves: the test moves them. What it
does not have: a scheduler, admission, back-off, other users.
"""

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

from tests.contract.fake_jobs import JobController
from tests.contract.fake_server import Handler
from tests.contract.fake_store import Object, Store, now


class Fault(NamedTuple):
    """What a request gets instead of its answer."""

    status: int = 503
    body: Any = b""
    headers: Mapping[str, str] = {}
    drop: bool = False  # cut the connection instead
    late: bool = False  # do what is asked, then cut the connection
    method: str = ""
    path: str = ""  # a part of it
    after: int = 0  # that many matching requests are served first


class FakeCluster:
    """The server, its objects, and the strings that a test pulls; use it as a context manager."""

    def __init__(self, folder: Path, *, namespace: str = "research") -> None:
        self.namespace = namespace
        self.token = "fake-token"
        self.version = (1, 37)
        self.store = Store()
        self.jobs = JobController(self.store)
        self.store.reactions = [self.store.collect_garbage, self.jobs.reconcile]
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.faults: list[Fault] = []
        self.forbidden: set[tuple[str, str]] = set()
        self.warnings: dict[str, str] = {}
        self.answers: dict[tuple[str, str], Any] = {}  # of pods to the proxy: (pod, path) -> text or JSON
        self.bookmarks = True
        self.connections = 0  # raised to cut every open stream
        self._logs: dict[str, list[tuple[str, bytes]]] = {}
        self._mute_after: int | None = None
        handler = type("BoundHandler", (Handler,), {"fake": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self.kubeconfig = folder / "fake-kubeconfig.yaml"
        self.kubeconfig.write_text(json.dumps(kubeconfig(self.url, self.token, namespace)))

    def __enter__(self) -> FakeCluster:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.cut()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    # faults

    def fail(self, *faults: Fault) -> None:
        """Answer the next matching requests with these faults, each once."""
        self.faults.extend(faults)

    def dies_after(self, requests: int) -> None:
        """Serve that many more requests that change something, then cut every connection."""
        self._mute_after = requests

    def recovers(self) -> None:
        """Serve everything again."""
        self._mute_after = None
        self.faults.clear()

    def next_fault(self, method: str, path: str) -> Fault | None:
        if self._mute_after is not None:
            if self._mute_after <= 0:
                return Fault(drop=True)
            self._mute_after -= method != "GET"
        for position, fault in enumerate(self.faults):
            if fault.method in ("", method) and fault.path in path:
                if fault.after:
                    self.faults[position] = fault._replace(after=fault.after - 1)
                    return None
                self.faults.remove(fault)
                return fault
        return None

    def cut(self) -> None:
        """Cut every open watch and log stream."""
        with self.store.changed:
            self.connections += 1
            self.store.changed.notify_all()

    # objects

    def object(self, plural: str, name: str) -> Object | None:
        """Return what is stored, as a copy, or None."""
        return copy.deepcopy(self.store.objects.get((plural, self.namespace, name)))

    def names(self, *but: str) -> list[str]:
        """Return `plural/name` of everything that exists but for these plurals."""
        return [f"{plural}/{name}" for plural, _, name in sorted(self.store.objects) if plural not in but]

    @contextmanager
    def changing(self, plural: str, name: str) -> Iterator[Object]:
        """Give a copy of an object to change; it is stored at the end, and everybody reacts."""
        with self.store.changed:
            one = copy.deepcopy(self.store.objects[plural, self.namespace, name])
            yield one
            self.store.update(plural, one)

    # pods

    def pods(self, job: str) -> list[Object]:
        """Return the pods of a job in the order of their index."""
        found = self.store.list("pods", self.namespace)
        return [pod for pod in found if pod["metadata"]["labels"].get("batch.kubernetes.io/job-name") == job]

    def pod(self, job: str, index: int) -> str:
        """Return the name of the pod of an index."""
        label = "batch.kubernetes.io/job-completion-index"
        return next(p["metadata"]["name"] for p in self.pods(job) if p["metadata"]["labels"][label] == str(index))

    def run_pod(self, name: str, *, kube_node: str = "node-a", ready: bool = True) -> None:
        """Let a pod run on a node."""
        with self.changing("pods", name) as pod:
            pod["spec"]["nodeName"] = kube_node
            state = {"running": {"startedAt": now()}}
            conditions = [
                {"type": "PodScheduled", "status": "True"},
                {"type": "Ready", "status": "True" if ready else "False"},
            ]
            pod["status"] = {"phase": "Running", "conditions": conditions, "containerStatuses": [_container(state)]}

    def end_container(self, name: str, exit_code: int, *, message: str = "", reason: str = "") -> None:
        """Let the pod's container end."""
        ended = {"exitCode": exit_code, "reason": reason or ("Completed" if exit_code == 0 else "Error")}
        ended |= {"message": message, "startedAt": now(), "finishedAt": now()}
        with self.changing("pods", name) as pod:
            phase = "Succeeded" if exit_code == 0 else "Failed"
            pod["status"] = {"phase": phase, "containerStatuses": [_container({"terminated": ended})]}

    def finish_deletion(self, name: str) -> None:
        """Let a lingering pod go."""
        with self.store.changed:
            self.store.remove("pods", self.namespace, name)
            self.store.react()

    def has_started(self, pod: Object) -> bool:
        return (pod.get("status") or {}).get("phase", "Pending") != "Pending"

    def has_ended(self, namespace: str, name: str) -> bool:
        pod = self.store.objects.get(("pods", namespace, name))
        return pod is None or pod["status"]["phase"] in ("Succeeded", "Failed")

    # logs

    def log_of(self, pod: str) -> list[tuple[str, bytes]]:
        return self._logs.setdefault(pod, [])

    def write_log(self, pod: str, *lines: bytes, same_time: bool = False) -> None:
        """Add lines to a container's log, a millisecond apart or all at one time."""
        with self.store.changed:
            log = self.log_of(pod)
            for number, line in enumerate(lines):
                moment = datetime(2026, 11, 24, tzinfo=timezone.utc) + timedelta(
                    milliseconds=len(log) - number * same_time
                )
                log.append((moment.strftime("%Y-%m-%dT%H:%M:%S.%f") + "000Z", line))
            self.store.changed.notify_all()

    def write_stamped(self, pod: str, *lines: bytes) -> None:
        """Add lines that carry their time stamps, whatever the clock of the pod's node says."""
        with self.store.changed:
            for line in lines:
                stamp, _, text = line.partition(b" ")
                self.log_of(pod).append((stamp.decode(), text))
            self.store.changed.notify_all()

    def rotate_log(self, pod: str) -> None:
        """Put away what is in a container's log: the kubelet gives out the newest file only."""
        with self.store.changed:
            self.log_of(pod).clear()


def _container(state: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": "worker", "image": "example.com/torch:1", "state": state}


def kubeconfig(server: str, token: str, namespace: str) -> dict[str, Any]:
    """Return a kubeconfig with one context, `fake`."""
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "fake",
        "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "jane", "namespace": namespace}}],
        "clusters": [{"name": "fake", "cluster": {"server": server}}],
        "users": [{"name": "jane", "user": {"token": token}}],
    }
