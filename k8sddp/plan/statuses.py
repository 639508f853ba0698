"""Job + pods + events -> what a person wants to know: state, nodes ready, first failure, exit code.

One function for `get`, `run`, `wait` and the operator. What Kubernetes says is believed over what a pod wrote; what a
pod wrote (its termination message) is read with tolerance, because it may be cut off, missing, or another program's.
A state is one word; `waiting.reason` has the sentence why.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from k8sddp import constants, manifest
from k8sddp.manifest import Manifest
from k8sddp.plan import failures, notes, reasons, replacing, waiting
from k8sddp.plan import pods as pod_facts
from k8sddp.plan.progress import Progress
from k8sddp.plan.waiting import Waiting
from k8sddp.worker.contract import verdict as verdicts

# Job conditions in order of precedence: what is final comes first (pkg/apis/batch/types.go)
_FINAL: Final[Mapping[str, str]] = {"Complete": "Complete", "Failed": "Failed"}
_ENDING: Final[Mapping[str, str]] = {
    "FailureTarget": "Failing",  # it has failed; its pods are being ended
    "SuccessCriteriaMet": "Completing",  # index 0 has succeeded; what still runs is being ended
}
UNSEEN: Final = ("Unreachable", "Frozen")  # states of a node whose ranks may train on, or come back
_BECOMES: Final[Mapping[str, str]] = {"Failing": "Failed", "Completing": "Complete"}


@dataclass(frozen=True)
class NodeStatus:
    """One node: the newest pod of one completion index."""

    node_rank: int
    pod: str  # empty where there is none
    kube_node: str  # empty until it is scheduled
    state: str  # Pending, Starting, Running, Restarting, Frozen, Unreachable, Complete, Failed, Deleting, Missing
    note: str = ""  # OOMKilled, ImagePullBackOff, exit code 79: left because rank 1 on node 1 failed


@dataclass(frozen=True)
class JobStatus:
    """What there is to know about one job; times are in seconds."""

    name: str
    uid: str  # of the Job: another one may have its name by now
    state: str  # Incomplete, Suspended, Pending, Starting, Running, Restarting, Completing, Failing, ...
    ready: int  # nodes that take part in an attempt, or have done their part
    nnodes: int
    age: float
    duration: float | None  # from start to finish or to now; None before the start
    nodes: tuple[NodeStatus, ...]
    waiting: Waiting = waiting.NOTHING  # why it does not run, since when
    running: str = ""  # one sentence what runs, where node 0 tells it
    progress: Progress | None = None  # the same in figures, of a job that has not ended
    restarts: int | None = None  # how often the gang has started anew, None where nobody says
    attempts: str = ""  # `2 of 4 attempts used`, empty where nobody says
    first_failure: str = ""  # one sentence; empty where nothing failed
    failed_attempt: int | None = None  # the one that ended so, where the gang had several
    traceback: str = ""  # last lines of the failing rank's
    history: tuple[str, ...] = ()  # how earlier attempts ended, one sentence each
    exit_code: int | None = None  # of the finished job
    remarks: tuple[str, ...] = ()  # what may not be meant, of a complete job

    @property
    def finished(self) -> bool:
        """Return whether the state is final."""
        return self.state in _FINAL.values()

    def waited(self, now: datetime) -> float | None:
        """Return for how many seconds it has been waiting, None where it is not, or nobody says."""
        return None if self.waiting.since is None else max(0.0, (now - self.waiting.since).total_seconds())


def status(
    job: Manifest,
    pods: Sequence[Manifest],
    events: Sequence[Manifest],
    *,
    now: datetime,
    progress: Progress | None = None,
) -> JobStatus:
    """Return the status of a job from one read of it, its pods and their events; `progress` is what node 0 tells."""
    nnodes = int(job["spec"].get("completions") or 1)
    newest = pod_facts.newest_by_index(pods)
    nodes = tuple(_node(index, newest.get(index), events) for index in range(nnodes))
    state = _state(job, nodes, newest, pods)
    if is_over(job, pods):
        state = _BECOMES.get(state, state)
    ended = state in _FINAL.values()
    progress = None if ended else progress
    failure = failures.first(job, pods) if state in ("Failed", "Failing") else failures.NONE
    history = progress.history if progress else failures.history(newest.values()) or failures.history(pods)
    done = sum(node.state == "Complete" or pod_facts.is_ready(newest[node.node_rank]) for node in nodes if node.pod)
    return JobStatus(
        name=job["metadata"]["name"],
        uid=str(job["metadata"].get("uid", "")),
        state=state,
        ready=nnodes if state == "Complete" else done,
        nnodes=nnodes,
        age=_seconds(job["metadata"].get("creationTimestamp"), now) or 0.0,
        duration=_duration(job, now),
        nodes=nodes,
        waiting=waiting.NOTHING if ended else waiting.reason(job, pods, events, now=now, progress=progress),
        running=progress.sentence if progress and state == "Running" else "",
        progress=progress,
        restarts=_restarts(job, newest.values(), progress),
        attempts=progress.account if progress else failures.account(newest.values()),
        first_failure=failure.sentence,
        failed_attempt=failure.attempt,
        traceback=failure.traceback,
        history=tuple(failures.with_certainty(line, pods) for line in history),
        exit_code=(0 if state == "Complete" else failure.exit_code) if ended else None,
        remarks=failures.remarks(newest.values()) if state == "Complete" else (),
    )


def is_over(job: Manifest, pods: Sequence[Manifest]) -> bool:
    """Return whether the job, which nobody deletes, has its end.

    The Job controller says so when every pod has ended. Those on a dead Kubernetes Node never do, so once the end is
    decided a pod that is being deleted as disrupted is not waited for.
    """
    if job["metadata"].get("deletionTimestamp"):
        return False
    if any(manifest.condition(job, kind) for kind in _FINAL):
        return True
    left = [pod for pod in pods if not pod_facts.has_ended(pod)]
    return replacing.is_decided(job) and bool(left) and all(map(replacing.may_be_stuck, left))


def age(seconds: float) -> str:
    """Return a time as kubectl shows it: 45s, 5m, 3h, 12d (the biggest unit; two below ten of it)."""
    whole = max(0, int(seconds))
    for unit, size, smaller, part in (("d", 86400, "h", 3600), ("h", 3600, "m", 60), ("m", 60, "s", 1)):
        count, rest = divmod(whole, size)
        if count >= 10:
            return f"{count}{unit}"
        if count:
            return f"{count}{unit}" + (f"{rest // part}{smaller}" if rest // part else "")
    return f"{whole}s"


def _restarts(job: Manifest, newest: Collection[Manifest], progress: Progress | None) -> int | None:
    """Return how often the gang has started anew: best as a worker tells it, else as often as pods were replaced."""
    told = [] if progress is None or progress.attempt is None else [(progress.attempt, progress.spent)]
    for verdict in (failures.verdict_of(pod) for pod in newest if failures.has_last_word(pod)):
        told.append((verdict.attempt, verdict.spent - (verdict.outcome == verdicts.FAILED)))
    replaced = [replacing.counts_before(pod) for pod in newest]
    if told:
        attempt, spent = max(told)
        # Once all pods have been replaced, numbers may have been passed over: nobody remembered the last one. Attempts
        # that ended have then counted, or have cost a pod whose end the Job ignored.
        return min(attempt, spent + sum(ignored for _, ignored in replaced)) if all(map(any, replaced)) else attempt
    waits = not newest or job["spec"].get("suspend") or not any(map(pod_facts.started_at, newest))
    return sum(map(sum, replaced)) if any(map(any, replaced)) or waits else None


def _state(job: Manifest, nodes: Sequence[NodeStatus], newest: Mapping[int, Manifest], pods: Sequence[Manifest]) -> str:
    if job["metadata"].get("deletionTimestamp"):
        return "Deleting"
    for table in (_FINAL, _ENDING):
        for kind, word in table.items():
            if manifest.condition(job, kind):
                return word
    if job["spec"].get("suspend"):
        if manifest.annotation(job, constants.ANNOTATION_INCOMPLETE):
            return "Incomplete"
        return "Queued" if manifest.label(job, constants.LABEL_KUEUE_QUEUE) else "Suspended"
    counting = {index: pod for index, pod in newest.items() if not replacing.is_replaced(job, pod)}
    if any(pod_facts.state(pod) == "Failed" for pod in counting.values()):
        return "Failing"
    running = {node.state for node in nodes} <= {"Running", "Complete", *UNSEEN}
    if running:
        return "Running" if any(node.state not in UNSEEN for node in nodes) else "Unreachable"
    if _has_trained(newest.values(), pods):
        return "Restarting"
    return "Starting" if any(pod_facts.is_scheduled(pod) for pod in counting.values()) else "Pending"


def _has_trained(newest: Collection[Manifest], pods: Collection[Manifest]) -> bool:
    """Return whether the gang may have trained before: a node lost its part in it, or a pod that ran has ended."""
    if any(pod_facts.was_ready(pod) or sum(replacing.counts_before(pod)) for pod in newest):
        return True
    return any(pod_facts.run_time(pod) is not None for pod in pods if pod_facts.has_ended(pod))


def _node(index: int, pod: Manifest | None, events: Sequence[Manifest]) -> NodeStatus:
    if pod is None:
        return NodeStatus(index, "", "", "Missing")
    state, note = pod_facts.state(pod), notes.note(pod)
    if state in ("Starting", "Restarting") and reasons.of_silence(pod, events):
        state, note = "Frozen", "answers no probe"
    return NodeStatus(index, pod["metadata"]["name"], str(pod["spec"].get("nodeName") or ""), state, note)


def _duration(job: Manifest, now: datetime) -> float | None:
    state: Mapping[str, Any] = job.get("status") or {}
    end = state.get("completionTime")
    for kind in (*_FINAL, *_ENDING):
        end = end or (manifest.condition(job, kind) or {}).get("lastTransitionTime")
    started = _seconds(state.get("startTime"), now)
    return None if started is None else started - (_seconds(end, now) or 0.0)


def _seconds(timestamp: object, now: datetime) -> float | None:
    moment = pod_facts.moment(timestamp)
    return None if moment is None else max(0.0, (now - moment).total_seconds())
