"""Follow a running job: the logs of the nodes that are asked for, and why it waits.

One thread watches the job, one per pod reads that pod's log from its beginning, and all speak to the main thread
through one queue. A pod that replaces a lost one is picked up by itself. Nothing is missed at the end: it is reported
when the logs have ended too, or LAST_WORDS seconds later, should a lost Kubernetes Node never close its log.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from k8sddp import constants, errors
from k8sddp.cli import jobs

if TYPE_CHECKING:
    from k8sddp import cluster, plan
    from k8sddp.manifest import Manifest

LAST_WORDS: Final = 10.0
MAX_NODES: Final = 64  # each is a connection to the API server


def is_readable(pod: Manifest) -> bool:
    """Return whether the pod's container has started, so that it has a log."""
    for container in (pod.get("status") or {}).get("containerStatuses") or ():
        if container["name"] == constants.CONTAINER_NAME:
            return bool({"running", "terminated"} & set(container.get("state") or ()))
    return False


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
    ) -> None:
        self._connection = connection
        self._name = name
        self._emit = emit
        self._tell = tell
        self._tail = tail
        self._since = since
        self._inbox: queue.SimpleQueue[plan.Snapshot | BaseException | None] = queue.SimpleQueue()
        self._readers: dict[str, threading.Thread] = {}  # by pod uid
        self._speaking = threading.Lock()  # lines of several pods do not mix
        self._said = ""

    def follow(self, nodes: Sequence[int]) -> plan.JobStatus:
        """Return the status of the finished job when it, and the logs of `nodes`, have ended.

        Raises NotFoundError when the job is deleted meanwhile, and the ClusterError that ends the watch.
        """
        threading.Thread(target=self._watch, daemon=True).start()
        status: plan.JobStatus | None = None
        deadline: float | None = None
        while True:
            news = self._receive(deadline)
            if isinstance(news, BaseException):
                raise news
            if news is not None:
                status = self._take(news, nodes)
                deadline = time.monotonic() + LAST_WORDS if status.finished else None
            if status is not None and deadline is not None:
                reading = any(reader.is_alive() for reader in self._readers.values())
                if not reading or time.monotonic() >= deadline:
                    return status

    def _receive(self, deadline: float | None) -> plan.Snapshot | BaseException | None:
        """Return the next snapshot or fault; None where a log has ended or the time is up."""
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

    def _watch(self) -> None:
        from k8sddp import cluster

        try:
            for snapshot in cluster.follow(self._connection, self._name):
                self._inbox.put(snapshot)
        except BaseException as error:  # raised again by the main thread
            self._inbox.put(error)

    def _read(self, pod: Manifest) -> None:
        uid = pod["metadata"]["uid"]
        if uid not in self._readers:
            thread = threading.Thread(target=self._copy, args=(pod["metadata"]["name"],), daemon=True)
            self._readers[uid] = thread
            thread.start()

    def _copy(self, pod: str) -> None:
        from k8sddp import cluster

        try:
            for line in cluster.logs(self._connection, pod, follow=True, tail=self._tail, since=self._since):
                with self._speaking:
                    self._emit(line)
        except errors.ClusterError as error:
            self._tell(f"the log of pod {pod} ends here: {error}")
        except BaseException as error:  # a closed pipe, above all; raised again by the main thread
            self._inbox.put(error)
        finally:
            # Wakes the main thread, which then finds this thread dead or about to be.
            self._inbox.put(None)
