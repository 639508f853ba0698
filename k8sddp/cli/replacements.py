"""Who is replaced, when, and how often that is tried: the memory of an attached `run` for lost pods.

`plan.replacing` decides from one look at the job; what needs more than one look is here: since when a pod is seen being
deleted (on the monotonic clock, since this machine's wall clock may be wrong), and which requests failed. A failed
request is made again after growing pauses, because the Job replaces an ended pod after its back-off, but never one on a
dead Kubernetes Node. No threads and no clock: the caller makes the requests and brings the time.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple

from k8sddp import errors

if TYPE_CHECKING:
    from k8sddp import plan
    from k8sddp.manifest import Manifest

MAX_TRIES: Final = 10  # two and a half minutes: a restart of the API server, not a missing permission
MAX_PAUSE: Final = 30.0  # seconds; from 1, doubled


class Request(NamedTuple):
    """One replacement to ask for now; `overdue` are the uids that have been deleted for too long."""

    pod: Manifest
    overdue: frozenset[str]


class Answer(NamedTuple):
    """What came of a request: the name of the new pod, empty where none was due, or the fault."""

    pod: Manifest
    name: str
    fault: errors.ClusterError | None = None


class Replacements:
    """The lost pods of one job: `look` says whom to replace, `take` hears how it went."""

    def __init__(self, job: str) -> None:
        self._job = job
        self._deleted_since: dict[str, float] = {}
        self._tries: dict[str, int] = {}
        self._not_before: dict[str, float] = {}  # infinite while a request is on its way, and when all is done
        self._told: set[str] = set()

    def look(self, snapshot: plan.Snapshot, *, now: float) -> tuple[tuple[Request, ...], float | None]:
        """Return whom to replace now, and when to look again though nothing has changed."""
        from k8sddp.plan import replacing

        job = snapshot.indexed_job(self._job)
        if job is None:
            return (), None
        patience = replacing.patience(snapshot.pods)
        self._deleted_since = {uid: self._deleted_since.get(uid, now) for uid in patience}
        ends = {uid: since + patience[uid] for uid, since in self._deleted_since.items()}
        overdue = frozenset(uid for uid, end in ends.items() if end <= now)
        lost = {_uid(pod): pod for pod in replacing.due(job, snapshot.pods, overdue=overdue)}
        ready = [uid for uid in lost if self._not_before.get(uid, now) <= now]
        self._not_before.update(dict.fromkeys(ready, math.inf))
        later = [end for end in ends.values() if end > now]
        later += [self._not_before[uid] for uid in lost if self._not_before[uid] < math.inf]
        return tuple(Request(lost[uid], overdue) for uid in ready), min(later, default=None)

    def take(self, answer: Answer, *, now: float) -> str:
        """Take in what came of a request; return a sentence for the user, empty where there is nothing to tell."""
        from k8sddp import plan

        uid, lost = _uid(answer.pod), plan.loss(answer.pod)
        if answer.name:
            return f"{lost}; replaced by {answer.name}"
        tries = self._tries[uid] = self._tries.get(uid, 0) + 1
        if tries < MAX_TRIES:
            self._not_before[uid] = now + min(MAX_PAUSE, 2.0 ** (tries - 1))
        if answer.fault is None or (uid in self._told and tries < MAX_TRIES):
            return ""
        self._told.add(uid)
        return f"{lost}; {_prospect(answer.pod, tries, answer.fault)}"


def _prospect(pod: Manifest, tries: int, fault: errors.ClusterError) -> str:
    """Return what becomes of a pod whose replacement could not be made: the Job never replaces one that may run."""
    from k8sddp.plan import pods, waiting

    left_to_job = pods.phase(pod) == "Failed"
    if tries < MAX_TRIES:
        who = "the Job itself replaces it after its back-off"
        if not left_to_job:
            who = "the Job controller does not replace a pod that still exists"
        return f"could not create a replacement (will retry): {fault}; {who}"
    if left_to_job:
        return f"not replaced in {tries} tries ({fault}), so the Job does it after its back-off"
    remedy = f"{waiting.by_hand(pod)} lets the Job do it, once its Kubernetes Node is surely gone"
    return f"not replaced in {tries} tries ({fault}); {remedy}"


def _uid(pod: Manifest) -> str:
    return str(pod["metadata"]["uid"])
