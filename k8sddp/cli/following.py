"""Follow a running job: the logs of the nodes that are asked for, and why it waits.

One thread watches the job, one per pod reads that pod's log from its beginning, and all speak to the main thread
through one queue; it alone writes, because a daemon thread that holds stdout when Python ends would abort it. A pod
that replaces a lost one is picked up by itself; with `replace` the lost one is replaced at once. Nothing is missed at
the end: it is reported when the logs have ended too, or after LAST_WORDS seconds without a word, should a lost
Kubernetes Node never close its log.
"""

from __future__ import annotations

import functools
import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from k8sddp import constants, errors
from k8sddp.cli import jobs

if TYPE_CHECKING:
    from k8sddp import cluster, plan
    from k8sddp.manifest import Manifest

LAST_WORDS: Final = 10.0
LOOK_AGAIN: Final = 1.0  # seconds between two looks at a pod that is being deleted and may never end
MAX_WAITING: Final = 1024  # lines read and not yet written: a slow terminal slows the reading, not our memory
MAX_NODES: Final = 64  # each is a connection to the API server


def is_readable(pod: Manifest) -> bool:
    """Return whether the pod's container has started, so that it has a log."""
    for container in (pod.get("status") or {}).get("containerStatuses") or ():
        if container["name"] == constants.CONTAINER_NAME:
            return bool({"running", "terminated"} & set(container.get("state") or ()))
    return False


class _LogEnded(NamedTuple):
    """The log of a pod has been read to its end, or as far as it can be."""

    uid: str
    fault: str = ""


class _Remark(NamedTuple):
    """A sentence for the user, from another thread."""

    text: str


_News = bytes | _LogEnded | _Remark | BaseException | tuple["plan.Snapshot"]


class Follower:
    """Follows one job; `emit` gets log lines, `tell` gets remarks about the job, one sentence each."""

    def __init__(
        self,
        connection: cluster.Cluster,
        name: str,
        *,
        emit: Callable[[bytes], None],
        tell: Callable[[str], None],
        tail: int | None = None,
        since: float | None = None,
        replace: bool = False,
    ) -> None:
        self._connection = connection
        self._replace = replace
        self._replaced: set[str] = set()  # uids of the lost pods that were dealt with
        self._name = name
        self._emit = emit
        self._tell = tell
        self._tail = tail
        self._since = since
        self._inbox: queue.Queue[_News] = queue.Queue(MAX_WAITING)
        self._seen: set[str] = set()  # uids of the pods whose logs are or were read
        self._reading: set[str] = set()
        self._said = ""

    def follow(self, nodes: Sequence[int]) -> plan.JobStatus:
        """Return the status of the finished job when it, and the logs of `nodes`, have ended.

        Raises NotFoundError when the job is deleted meanwhile, and the ClusterError that ends the watch.
        """
        _start(self._watch)
        status: plan.JobStatus | None = None
        deadline: float | None = None
        look_again: float | None = None
        latest: plan.Snapshot | None = None
        while True:
            match self._receive(min((one for one in (deadline, look_again) if one is not None), default=None)):
                case bytes() as line:
                    self._emit(line)
                    deadline = deadline and time.monotonic() + LAST_WORDS
                case _LogEnded() as end:
                    self._reading.discard(end.uid)
                    if end.fault:
                        self._tell(end.fault)
                case _Remark() as remark:
                    self._tell(remark.text)
                case (snapshot,):
                    latest = snapshot
                    status = self._take(snapshot, nodes)
                    deadline = time.monotonic() + LAST_WORDS if status.finished else None
                case BaseException() as fault:
                    raise fault
            look_again = self._replace_lost(latest) if latest is not None and self._replace else None
            if status is not None and deadline is not None and (not self._reading or time.monotonic() >= deadline):
                return status

    def _receive(self, deadline: float | None) -> _News | None:
        """Return what comes next, None where the time is up."""
        try:
            return self._inbox.get(timeout=None if deadline is None else max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            return None

    def _take(self, snapshot: plan.Snapshot, nodes: Sequence[int]) -> plan.JobStatus:
        from k8sddp.plan import pods

        if snapshot.indexed_job(self._name) is None:
            raise errors.NotFoundError(f"{self._name} was deleted while it was followed", status=404)
        newest = pods.newest_by_index(snapshot.pods)
        for node in nodes:
            if node in newest and is_readable(newest[node]):
                self._read(newest[node])
        status = jobs.status(snapshot, self._name)
        if status.waiting and status.waiting != self._said:
            self._tell(f"waiting: {status.waiting}")
        self._said = status.waiting
        return status

    def _replace_lost(self, snapshot: plan.Snapshot) -> float | None:
        """Have every lost pod replaced, once; return when to look again though nothing was heard."""
        from k8sddp.plan import replacing

        job = snapshot.indexed_job(self._name)
        if job is None:
            return None
        for pod in replacing.due(job, snapshot.pods, now=jobs.now()):
            if pod["metadata"]["uid"] not in self._replaced:
                self._replaced.add(pod["metadata"]["uid"])
                _start(functools.partial(self._make_replacement, pod))
        return time.monotonic() + LOOK_AGAIN if replacing.awaits_end(snapshot.pods) else None

    def _make_replacement(self, pod: Manifest) -> None:
        from k8sddp import cluster, plan

        lost = plan.loss(pod)
        try:
            name = cluster.replace_pod(self._connection, self._name, pod["metadata"]["uid"], now=jobs.now())
        except errors.ClusterError as error:
            self._inbox.put(_Remark(f"{lost}; it cannot be replaced at once, so the Job will do it: {error}"))
        except BaseException as error:  # raised again by the main thread
            self._inbox.put(error)
        else:
            if name:
                self._inbox.put(_Remark(f"{lost}; replaced by {name}"))

    def _watch(self) -> None:
        from k8sddp import cluster

        try:
            for snapshot in cluster.follow(self._connection, self._name):
                self._inbox.put((snapshot,))
        except BaseException as error:  # raised again by the main thread
            self._inbox.put(error)

    def _read(self, pod: Manifest) -> None:
        name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
        if uid not in self._seen:
            self._seen.add(uid)
            self._reading.add(uid)
            _start(lambda: self._copy(name, uid))

    def _copy(self, pod: str, uid: str) -> None:
        from k8sddp import cluster

        try:
            for line in cluster.logs(self._connection, pod, follow=True, tail=self._tail, since=self._since):
                self._inbox.put(line)
        except errors.ClusterError as error:
            self._inbox.put(_LogEnded(uid, f"the log of pod {pod} ends here: {error}"))
        except BaseException as error:  # raised again by the main thread
            self._inbox.put(error)
        else:
            self._inbox.put(_LogEnded(uid))


def _start(work: Callable[[], None]) -> None:
    threading.Thread(target=work, daemon=True).start()
