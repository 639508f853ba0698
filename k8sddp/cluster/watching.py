"""Follow one job: a Snapshot whenever something about it changes, until it is finished or gone.

Two watches (the Job, its pods) run in threads and feed one queue; the snapshots are made here, one per burst of
changes. A pod that is deleted keeps its last state in the snapshot when its container had ended: at a failure the Job
controller deletes the pods that still ran, and their termination messages pass by only once. Events are read again,
not watched, and only while the job does not run.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Iterator
from typing import Final

from k8sddp import constants, errors, manifest
from k8sddp.cluster import observing, streams
from k8sddp.cluster.api import Cluster
from k8sddp.cluster.streams import Change, Stop
from k8sddp.manifest import Manifest
from k8sddp.plan import pods as pod_facts
from k8sddp.plan import snapshot, statuses
from k8sddp.plan.snapshot import Snapshot

EVENTS_EVERY: Final = 3.0  # seconds between two readings of the events of a job that waits
_SETTLE: Final = 0.05  # changes that come within that time are one snapshot
_BURST: Final = 1024  # changes at most in one snapshot: where they never cease, those who follow hear of them too


class _News:
    """What the two watches have told so far."""

    def __init__(self) -> None:
        self.job: Manifest | None = None
        self.pods: dict[str, Manifest] = {}
        self.ended: dict[str, Manifest] = {}  # deleted pods whose container had ended, by uid

    def take(self, kind: str, change: Change) -> None:
        """Take in one change of the Job or of its pods."""
        if kind == "Job":
            self.job = change.items[0] if change.items and change.type != "DELETED" else None
            return
        if change.type == "LISTED":
            for uid in self.pods.keys() - {_uid(pod) for pod in change.items}:
                self._forget(self.pods[uid])
            self.pods = {_uid(pod): pod for pod in change.items}
        elif change.type == "DELETED":
            self._forget(change.items[0])
        else:
            self.pods[_uid(change.items[0])] = change.items[0]

    def _forget(self, pod: Manifest) -> None:
        self.pods.pop(_uid(pod), None)
        if pod_facts.terminated(pod) is not None:
            self.ended[_uid(pod)] = pod

    def own_pods(self) -> tuple[Manifest, ...]:
        """Return the pods of exactly this Job; those of an earlier one of its name have another controller uid."""
        uid = _uid(self.job) if self.job is not None else ""
        every = [*self.ended.values(), *self.pods.values()]
        return tuple(pod for pod in every if manifest.label(pod, constants.LABEL_BATCH_CONTROLLER_UID) == uid)


def follow(cluster: Cluster, name: str, *, timeout: float | None = None) -> Iterator[Snapshot]:
    """Yield the job's snapshots, the first at once; the last one is finished, or empty where the Job is gone.

    Raises WaitTimeoutError after `timeout` seconds and the ClusterError that ends a watch. Close the generator to stop.
    """
    stops, inbox = (Stop(), Stop()), queue.SimpleQueue[tuple[str, Change | Exception]]()
    jobs = {"field_selector": f"metadata.name={name}"}
    pods = {"label_selector": f"{constants.LABEL_BATCH_JOB_NAME}={name}"}
    threads = [
        _start(cluster, inbox, "batch/v1", "Job", selection=jobs, stop=stops[0]),
        _start(cluster, inbox, "v1", "Pod", selection=pods, stop=stops[1]),
    ]
    try:
        yield from _snapshots(cluster, name, inbox, timeout)
    finally:
        for one in stops:
            one.set()
        for thread in threads:
            thread.join(timeout=1.0)


def _start(
    cluster: Cluster,
    inbox: queue.SimpleQueue[tuple[str, Change | Exception]],
    api_version: str,
    kind: str,
    *,
    selection: dict[str, str],
    stop: Stop,
) -> threading.Thread:
    def read() -> None:
        try:
            for change in streams.watch(cluster, api_version, kind, stop=stop, **selection):  # type: ignore[arg-type]
                inbox.put((kind, change))
        except Exception as fault:  # handed to the thread that follows, which raises it
            inbox.put((kind, fault))

    thread = threading.Thread(target=read, name=f"watch-{kind}", daemon=True)
    thread.start()
    return thread


def _snapshots(
    cluster: Cluster, name: str, inbox: queue.SimpleQueue[tuple[str, Change | Exception]], timeout: float | None
) -> Iterator[Snapshot]:
    clock = cluster.transport.clock
    deadline = None if timeout is None else clock() + timeout
    news, heard, explanations = _News(), set[str](), _Explanations(cluster)
    last: Snapshot | None = None
    while True:
        heard |= _receive(inbox, news, limit=_next_wait(deadline, clock()))
        if heard == {"Job", "Pod"}:
            current = _snapshot(news, explanations)
            if current != last:
                last = current
                yield current
            if news.job is None or statuses.is_over(news.job, news.own_pods()):
                return
        if deadline is not None and clock() >= deadline:
            raise errors.WaitTimeoutError(f"job {name} is not finished after {timeout:g} s; it goes on without us")


def _receive(inbox: queue.SimpleQueue[tuple[str, Change | Exception]], news: _News, *, limit: float) -> set[str]:
    """Take in the next changes of one burst, _BURST at most; return which watches spoke, none after `limit` seconds."""
    heard: set[str] = set()
    wait = limit
    for _ in range(_BURST):
        try:
            kind, change = inbox.get(timeout=wait)
        except queue.Empty:
            return heard
        if isinstance(change, Exception):
            raise change
        news.take(kind, change)
        heard.add(kind)
        wait = _SETTLE
    return heard


def _next_wait(deadline: float | None, now: float) -> float:
    return EVENTS_EVERY if deadline is None else max(0.0, min(EVENTS_EVERY, deadline - now))


def _snapshot(news: _News, explanations: _Explanations) -> Snapshot:
    if news.job is None:
        return Snapshot()
    pods = news.own_pods()
    waits = not statuses.is_over(news.job, pods) and len(pods) < int(news.job["spec"].get("completions") or 1)
    waits = waits or any(map(pod_facts.needs_explanation, pods))
    return snapshot.of([news.job], pods=pods, events=explanations.of(news.job, pods) if waits else ())


class _Explanations:
    """The events of the job that waits, read every EVENTS_EVERY seconds at most, however often its pods change."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._read_at: float | None = None
        self._events: tuple[Manifest, ...] = ()

    def of(self, job: Manifest, pods: tuple[Manifest, ...]) -> tuple[Manifest, ...]:
        """Return the events as they were read last; where they cannot be read just now nothing hangs on them."""
        now = self._cluster.transport.clock()
        if self._read_at is None or now - self._read_at >= EVENTS_EVERY:
            self._read_at = now
            with contextlib.suppress(errors.ClusterError):
                self._events = observing.events(self._cluster, job, pods, patient=False)
        return self._events


def _uid(one: Manifest) -> str:
    return str(one["metadata"].get("uid", ""))
