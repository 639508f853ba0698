"""What one pod's object says: index, phase, readiness, how its container ended; in our words.

Kubernetes' own reasons are kept as they are (people search the web for them). Pods of our Job have one container that
matters, `worker`; where it is not found (an object from elsewhere) nothing is said rather than something wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from k8sddp import constants, manifest
from k8sddp.manifest import Manifest

# Phase of a pod -> our word (pkg/apis/core/types.go, PodPhase)
_PHASES = {
    "Succeeded": "Complete",
    "Failed": "Failed",
    "Unknown": "Unreachable",  # the kubelet of its node does not answer
}

# How a container ends that was never started (pkg/kubelet/kuberuntime); its startedAt is missing or 1970
_NOT_STARTED = ("StartError", "ContainerCannotRun", "ContainerStatusUnknown")

_ROUNDED: Final = timedelta(seconds=1)  # timestamps have whole seconds


def index_of(pod: Manifest) -> int:
    """Return the completion index, -1 where the pod has none."""
    text = manifest.label(pod, constants.LABEL_BATCH_INDEX) or manifest.annotation(pod, constants.LABEL_BATCH_INDEX)
    return int(text) if text.isdigit() else -1


def newest_by_index(pods: Iterable[Manifest]) -> dict[int, Manifest]:
    """Return the pod that counts for each index: one that is not ending before one that is, then the youngest."""

    def rank(pod: Manifest) -> tuple[bool, str]:
        return (not is_deleting(pod), str(pod["metadata"].get("creationTimestamp", "")))

    newest: dict[int, Manifest] = {}
    for pod in pods:
        index = index_of(pod)
        if index >= 0 and (index not in newest or rank(pod) >= rank(newest[index])):
            newest[index] = pod
    return newest


def phase(pod: Manifest) -> str:
    """Return the phase; a new pod without status is Pending."""
    return str((pod.get("status") or {}).get("phase") or "Pending")


def state(pod: Manifest) -> str:
    """Return one word: Pending, Starting, Running, Restarting, Unreachable, Complete, Failed, Deleting."""
    if phase(pod) in _PHASES:
        return _PHASES[phase(pod)]
    if is_deleting(pod):
        return "Deleting"
    if is_unreachable(pod):
        return "Unreachable"
    if phase(pod) == "Running":
        return "Running" if is_ready(pod) else "Restarting" if was_ready(pod) else "Starting"
    return "Starting" if is_scheduled(pod) else "Pending"


def note(pod: Manifest) -> str:
    """Return a few words why it is not simply running, empty where it is."""
    ended = terminated(pod)
    if ended is not None and (ended.get("exitCode") != 0 or ended.get("reason") not in (None, "Completed")):
        reasons = (ended.get("reason"), (pod.get("status") or {}).get("reason"))  # an evicted pod has its own
        return str(next((one for one in reasons if one not in (None, "Error")), f"exit code {ended.get('exitCode')}"))
    reason = (pod.get("status") or {}).get("reason")
    if reason:
        return str(reason)
    return str(waiting(pod).get("reason") or "")


def is_ready(pod: Manifest) -> bool:
    """Return whether its node takes part in a running attempt (that is its readiness probe)."""
    return phase(pod) == "Running" and manifest.condition(pod, "Ready") is not None and not is_deleting(pod)


def is_unreachable(pod: Manifest) -> bool:
    """Return whether Kubernetes does not hear of its Kubernetes Node any more.

    The node lifecycle controller then sets the pod's Ready to False and nothing else (MarkPodsNotReady in
    pkg/controller/util/node); a kubelet, which says both, says so only where there are readiness gates.
    """
    if phase(pod) == "Unknown" or (pod.get("status") or {}).get("reason") == "NodeLost":
        return True
    if phase(pod) != "Running" or pod["spec"].get("readinessGates"):
        return False
    ready = _condition(pod, "Ready").get("status")
    return ready == "Unknown" or (ready == "False" and _condition(pod, "ContainersReady").get("status") == "True")


def was_ready(pod: Manifest) -> bool:
    """Return whether a pod that runs, and is not ready, has taken part in an attempt: it lost its readiness since.

    Before its container starts a pod is not ready either, but that has been so since before the start.
    """
    lost, started = not_ready_since(pod), started_at(pod)
    return lost is not None and started is not None and lost > started + _ROUNDED


def not_ready_since(pod: Manifest) -> datetime | None:
    """Return since when a pod that runs is not ready, None where it is, or nobody says."""
    ready = _condition(pod, "Ready")
    return (
        moment(ready.get("lastTransitionTime")) if phase(pod) == "Running" and ready.get("status") != "True" else None
    )


def started_at(pod: Manifest) -> datetime | None:
    """Return when the container that runs has started, None where none runs."""
    return moment(((_container(pod).get("state") or {}).get("running") or {}).get("startedAt"))


def created_at(pod: Manifest) -> datetime | None:
    """Return when the pod was made."""
    return moment(pod["metadata"].get("creationTimestamp"))


def needs_explanation(pod: Manifest) -> bool:
    """Return whether the pod's events may tell why it does not take part."""
    return phase(pod) == "Pending" or (phase(pod) == "Running" and not is_ready(pod))


def has_ended(pod: Manifest) -> bool:
    """Return whether its containers have ended and will not start again."""
    return phase(pod) in ("Succeeded", "Failed")


def is_scheduled(pod: Manifest) -> bool:
    """Return whether a Kubernetes Node has been found for it."""
    return bool(pod["spec"].get("nodeName"))


def is_deleting(pod: Manifest) -> bool:
    """Return whether somebody has deleted it."""
    return bool(pod["metadata"].get("deletionTimestamp"))


def terminated(pod: Manifest) -> Mapping[str, Any] | None:
    """Return how the worker container ended (exitCode, reason, message, finishedAt), None while it has not."""
    container = _container(pod)
    for key in ("state", "lastState"):
        ended = (container.get(key) or {}).get("terminated")
        if isinstance(ended, Mapping):
            return ended
    return None


def run_time(pod: Manifest) -> timedelta | None:
    """Return how long the worker container ran, None where it never did, the maximum where nobody saw its end."""
    state = _container(pod).get("state") or {}
    if state.get("running"):
        return timedelta.max
    ended = terminated(pod) or {}
    start, end = moment(ended.get("startedAt")), moment(ended.get("finishedAt"))
    if start is None or end is None or start.year <= 1970 or ended.get("reason") in _NOT_STARTED:
        return None
    return max(timedelta(0), end - start)


def waiting(pod: Manifest) -> Mapping[str, Any]:
    """Return why a container waits (reason, message), init containers first, empty where none does."""
    found = pod.get("status") or {}
    for container in [*(found.get("initContainerStatuses") or ()), *(found.get("containerStatuses") or ())]:
        waits = (container.get("state") or {}).get("waiting")
        if isinstance(waits, Mapping):
            return {"image": container.get("image", ""), **waits}
    return {}


def _condition(pod: Manifest, kind: str) -> Mapping[str, Any]:
    """Return a condition whatever its status, empty where there is none."""
    found = (pod.get("status") or {}).get("conditions") or ()
    return next((dict(one) for one in found if one.get("type") == kind), {})


def _container(pod: Manifest) -> Mapping[str, Any]:
    statuses = (pod.get("status") or {}).get("containerStatuses") or ()
    return next((dict(one) for one in statuses if one.get("name") == constants.CONTAINER_NAME), {})


def moment(timestamp: object) -> datetime | None:
    """Return the time of an RFC 3339 timestamp, None where there is none."""
    if not isinstance(timestamp, str) or not timestamp:
        return None
    try:
        found = datetime.fromisoformat(timestamp.replace("Z", "+00:00"))
    except ValueError:
        return None
    return found if found.tzinfo else None
