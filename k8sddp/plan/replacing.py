"""Which lost pods are worth a replacement at once, and what it looks like: as the Job controller would make it.

The Job controller waits 10 s, doubled with each loss of an index, and never replaces a pod on a dead Kubernetes Node.
Its pause is right for a pod that cannot start (refused by the kubelet, a GPU not ready): replaced at once, again and
again, it would use up the Job's limit per index in seconds; so only the first loss of an index, and a pod that ran, get
no pause. A pod that somebody else creates with the Job's labels, ownerReference and tracking finalizer the Job counts
as its own (real 1.37: 0.6 s after the old one is terminal, no duplicate). What must be right are the two counts in the
annotations: the Job's limit per index and the worker's budget of attempts go by them. Pure; source: pkg/controller/job
of kubernetes/kubernetes (indexed_job_utils.go, pod_failure_policy.go).
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

from k8sddp import constants, manifest
from k8sddp.manifest import Manifest
from k8sddp.plan import failure_policy, failures
from k8sddp.plan import pods as pod_facts

FINALIZER: Final = "batch.kubernetes.io/job-tracking"
INDEX_ENV: Final = "JOB_COMPLETION_INDEX"
STUCK: Final = 2.0  # seconds beyond its grace, after which a pod that is being deleted has no kubelet
MIN_RUN: Final = timedelta(seconds=10)  # the Job's own first pause: a pod that ran longer uses up its limit no faster
_ALPHABET: Final = "bcdfghjklmnpqrstvwxz2456789"  # of generated names (apimachinery, util/rand)
_COUNTED: Final = constants.ANNOTATION_BATCH_INDEX_FAILURE_COUNT
_IGNORED: Final = constants.ANNOTATION_BATCH_INDEX_IGNORED_FAILURE_COUNT
_MAX_PREFIX: Final = 58  # apiserver, storage/names

# Job conditions that decide the end -> what is said (pkg/apis/batch/types.go); the last two come while pods still end
ENDS: Final[Mapping[str, str]] = {
    "Complete": "complete",
    "Failed": "failed",
    "SuccessCriteriaMet": "complete",
    "FailureTarget": "failed",
}


def due(job: Manifest, pods: Sequence[Manifest], *, overdue: Collection[str] = frozenset()) -> tuple[Manifest, ...]:
    """Return the lost pods that a replacement should follow now, by index.

    `overdue` are the uids of the pods that are being deleted for longer than their `patience`.
    """
    if job["metadata"].get("deletionTimestamp") or job["spec"].get("suspend"):
        return ()
    if is_decided(job):
        return ()
    newest = pod_facts.newest_by_index(pods)
    return tuple(pod for _, pod in sorted(newest.items()) if _is_lost(job, pod, overdue) and may_be_replaced(job, pod))


def is_decided(job: Manifest) -> bool:
    """Return whether the job's end is decided, though pods may still be being ended."""
    return any(manifest.condition(job, kind) for kind in ENDS)


def patience(pods: Sequence[Manifest]) -> dict[str, float]:
    """Return the pods that may become lost with time alone, and no event: uid -> seconds after which each is overdue.

    They count from when the deletion was first seen, on a clock that nobody sets: deletionTimestamp is the API
    server's time, and a client whose own is 30 s ahead would take every evicted pod for dead at once.
    """
    newest = pod_facts.newest_by_index(pods).values()
    return {pod["metadata"]["uid"]: _grace(pod) + STUCK for pod in newest if may_be_stuck(pod)}


def _grace(pod: Manifest) -> float:
    given = pod["metadata"].get("deletionGracePeriodSeconds")
    return float(pod["spec"].get("terminationGracePeriodSeconds", 30) if given is None else given)


def is_replaced(job: Manifest, pod: Manifest) -> bool:
    """Return whether the pod has failed, and the Job makes a new one for it: its index starts again."""
    return pod_facts.phase(pod) == "Failed" and may_be_replaced(job, pod)


def is_ignored(job: Manifest, pod: Manifest) -> bool:
    """Return whether the Job counts no failure for the end of this pod (its podFailurePolicy, `Ignore`)."""
    return _action(job, pod) == failure_policy.IGNORE


def may_be_replaced(job: Manifest, pod: Manifest) -> bool:
    """Return whether policy and limit let the Job go on after the end of this pod.

    A follower leaves with the same code when the gang failed and when it was stopped: its verdict tells which.
    """
    action = _action(job, pod)
    if action in (failure_policy.FAIL_JOB, failure_policy.FAIL_INDEX) or failures.has_last_word(pod):
        return False  # the gang has its end; a newcomer would only be sent away
    limit = job["spec"].get("backoffLimitPerIndex")
    return action == failure_policy.IGNORE or limit is None or counts(job, pod)[0] <= int(limit)


def may_be_stuck(pod: Manifest) -> bool:
    """Return whether the pod is being deleted for a reason that may be a dead Kubernetes Node, and has not ended."""
    disrupted = pod_facts.is_deleting(pod) and manifest.condition(pod, "DisruptionTarget") is not None
    return disrupted and not pod_facts.has_ended(pod)


def replacement(job: Manifest, pod: Manifest) -> dict[str, Any]:
    """Return the pod that takes the place of `pod`; its name follows from that pod, so it can be made only once."""
    name, index = job["metadata"]["name"], pod_facts.index_of(pod)
    template = copy.deepcopy(dict(job["spec"]["template"]))
    failed, ignored = counts(job, pod)
    annotations = {
        **(template.get("metadata", {}).get("annotations") or {}),
        constants.LABEL_BATCH_INDEX: str(index),
        _COUNTED: str(failed),
    }
    if ignored:
        annotations[_IGNORED] = str(ignored)
    spec = {**template["spec"], "hostname": f"{name}-{index}"}
    for kind in ("initContainers", "containers"):
        if spec.get(kind):
            spec[kind] = [_with_index(container) for container in spec[kind]]
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": job["metadata"]["uid"], "controller": True}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": _name(name, index, pod["metadata"]["uid"]),
            "labels": {**(template.get("metadata", {}).get("labels") or {}), constants.LABEL_BATCH_INDEX: str(index)},
            "annotations": annotations,
            "finalizers": [FINALIZER],
            "ownerReferences": [owner],  # without blockOwnerDeletion, which the role `edit` may not set everywhere
        },
        "spec": spec,
    }


def counts_before(pod: Manifest) -> tuple[int, int]:
    """Return how many ends of its index the Job had counted, and how many ignored, before this pod was made."""
    return _number(pod, _COUNTED), _number(pod, _IGNORED)


def counts(job: Manifest, pod: Manifest) -> tuple[int, int]:
    """Return how many ends of its index the Job counts, and how many it ignores, the end of `pod` included."""
    failed, ignored = counts_before(pod)
    return (failed, ignored + 1) if is_ignored(job, pod) else (failed + 1, ignored)


def _is_lost(job: Manifest, pod: Manifest, overdue: Collection[str]) -> bool:
    if pod_facts.phase(pod) == "Failed":
        return _is_urgent(pod)
    return may_be_stuck(pod) and pod["metadata"]["uid"] in overdue


def _is_urgent(pod: Manifest) -> bool:
    """Return whether the Job's back-off helps nobody: the pod has run, or is the first that its index lost."""
    ran = pod_facts.run_time(pod)
    return (ran is not None and ran >= MIN_RUN) or not any(_number(pod, one) for one in (_COUNTED, _IGNORED))


def _action(job: Manifest, pod: Manifest) -> str:
    conditions = {(one.get("type"), one.get("status")) for one in (pod.get("status") or {}).get("conditions") or ()}
    code = (pod_facts.terminated(pod) or {}).get("exitCode")
    return failure_policy.action(job["spec"], exit_code=code, conditions=conditions)


def _with_index(container: Mapping[str, Any]) -> dict[str, Any]:
    env = list(container.get("env") or ())
    if not any(one.get("name") == INDEX_ENV for one in env):
        path = f"metadata.labels['{constants.LABEL_BATCH_INDEX}']"
        env.append({"name": INDEX_ENV, "valueFrom": {"fieldRef": {"fieldPath": path}}})
    return {**container, "env": env}


def _name(job: str, index: int, uid: str) -> str:
    number = int.from_bytes(hashlib.sha256(str(uid).encode()).digest()[:8], "big")
    suffix = "".join(_ALPHABET[number // len(_ALPHABET) ** place % len(_ALPHABET)] for place in range(5))
    middle = f"-{index}-"
    return job[: _MAX_PREFIX - len(middle)] + middle + suffix


def _number(pod: Manifest, annotation: str) -> int:
    text = manifest.annotation(pod, annotation)
    return int(text) if text.isdigit() else 0
