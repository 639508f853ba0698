"""Why a job is not running, in one true sentence.

The most specific fact wins: somebody suspended it; no pod could be made; no Kubernetes Node fits; the image cannot be
pulled; a volume cannot be mounted; a node is lost; a pod that ended is waited for. Foreign reasons stand in tables,
each with where it comes from. Nothing is guessed: where no table knows it, the sentence repeats what Kubernetes says.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from k8sddp import constants, manifest
from k8sddp.manifest import Manifest
from k8sddp.plan import pods as pod_facts
from k8sddp.plan import replacing
from k8sddp.worker.contract import wording

MAX_MESSAGE: Final = 220
KUEUE_QUEUE: Final = "kueue.x-k8s.io/queue-name"  # label of a Job that Kueue admits

# Waiting reasons of a container (pkg/kubelet/images/types.go, pkg/kubelet/container/sync_result.go)
_WAITING: Final[Mapping[str, str]] = {
    "ErrImagePull": "image {image} cannot be pulled: {message}",
    "ImagePullBackOff": "image {image} cannot be pulled: {message}",
    "InvalidImageName": "image {image} is not a valid image name",
    "ErrImageNeverPull": "image {image} is not on the Kubernetes Node and imagePullPolicy is Never",
    "ImageInspectError": "image {image} cannot be read on the Kubernetes Node: {message}",
    "RegistryUnavailable": "the registry of image {image} does not answer: {message}",
    "SignatureValidationFailed": "image {image} is refused by the signature policy: {message}",
    "CreateContainerConfigError": "its container cannot be configured: {message}",
    "CreateContainerError": "its container cannot be created: {message}",
    "RunContainerError": "its container cannot be started: {message}",
    "CrashLoopBackOff": "its container keeps ending: {message}",
}

# Warning events of a pod that a container's state does not show (pkg/kubelet/events/event.go, attach/detach controller)
_POD_EVENTS: Final[Mapping[str, str]] = {
    "FailedMount": "a volume cannot be mounted: {message}",
    "FailedMapVolume": "a volume cannot be mounted: {message}",
    "FailedAttachVolume": "a volume cannot be attached: {message}",
    "FailedCreatePodSandBox": "its sandbox cannot be made: {message}",
    "NetworkNotReady": "the network of its Kubernetes Node is not ready",
    "FailedScheduling": "no Kubernetes Node fits: {message}",
}

# What containerd and the kubelet say before the reason of a failed pull; the image is named by our own words
_PULL_PREFIX: Final = re.compile(
    r'^(?:Back-off pulling image "[^"]*"(?:: \w+: )?)?'
    r'(?:(?:rpc error: code = \w+ desc = )?failed to pull and unpack image "[^"]*": )?'
    r'(?:failed to resolve (?:image|reference "[^"]*"): )?'
)

# The scheduler's word for a claim that a pod names and nobody has made (plugins/volumebinding/volume_binding.go)
_NO_CLAIM: Final = re.compile(r'persistentvolumeclaim "([^"]+)" not found')

# Events of the Job when a pod is refused (pkg/controller/job): text in the message -> sentence
_REFUSED: Final[tuple[tuple[str, str], ...]] = (
    ("exceeded quota", "the namespace's quota is used up: {message}"),
    ("violates PodSecurity", "the namespace's Pod Security level refuses the pods: {message}"),
    ("error looking up service account", "its service account does not exist: {message}"),
    ("no PriorityClass with name", "its priority class does not exist: {message}"),
    ("forbidden", "its pods are not admitted: {message}"),
)


def reason(job: Manifest, pods: Sequence[Manifest], events: Sequence[Manifest]) -> str:
    """Return one sentence why the job does not run, the empty string where it does, or where its end has come.

    The end begins before the Job's condition says so: when the container of index 0 has ended, the other nodes are no
    longer waiting for anything, unless the Job makes another pod for it.
    """
    if replacing.is_decided(job):
        return ""
    if job["metadata"].get("deletionTimestamp"):
        return "it is being deleted"
    if job["spec"].get("suspend"):
        return _suspended(job)
    newest = pod_facts.newest_by_index(pods)
    if 0 in newest and pod_facts.terminated(newest[0]) is not None and not replacing.is_replaced(job, newest[0]):
        return ""
    nnodes = int(job["spec"].get("completions") or 1)
    refused = _refused(job, events) if len(newest) < nnodes else ""
    if refused:
        return refused
    replaced = functools.partial(_replaced, job)
    for look in (_scheduling, _container, _event, _lost, replaced):
        for index in sorted(newest):
            sentence = look(newest[index], events)
            if sentence:
                return sentence
    for index in sorted(newest):
        sentence = _not_ready(newest[index], nnodes)
        if sentence:
            return sentence
    missing = [index for index in range(nnodes) if index not in newest]
    return _missing(missing, pods)


def _suspended(job: Manifest) -> str:
    if manifest.annotation(job, constants.ANNOTATION_INCOMPLETE):
        return f"its creation was interrupted; {_finish(job['metadata']['name'])}"
    queue = manifest.label(job, KUEUE_QUEUE)
    if queue:
        return f"it waits in the Kueue queue {queue}"
    manager = job["spec"].get("managedBy")
    by = f"{manager} keeps it suspended" if manager else "it is suspended (spec.suspend is true)"
    return f'{by}; `kubectl patch job {job["metadata"]["name"]} -p \'{{"spec":{{"suspend":false}}}}\'` lets it run'


def _finish(name: str) -> str:
    return f"run `k8sddp apply FILE` again to finish, or `k8sddp delete {name}` to remove it"


def _refused(job: Manifest, events: Sequence[Manifest]) -> str:
    event = _newest(events, "Job", job["metadata"]["name"], ("FailedCreate",))
    if event is None:
        return ""
    message = re.sub(r'^Error creating: (?:pods "[^"]*" is forbidden: )?', "", str(event.get("message", "")))
    for part, text in _REFUSED:
        if part in str(event.get("message", "")):
            return text.format(message=_short(message))
    return f"its pods cannot be created: {_short(message)}"


def _scheduling(pod: Manifest, _events: Sequence[Manifest]) -> str:
    for one in (pod.get("status") or {}).get("conditions") or ():
        if one.get("type") == "PodScheduled" and one.get("status") == "False":
            if one.get("reason") == "SchedulingGated":
                gates = ", ".join(str(gate.get("name")) for gate in pod["spec"].get("schedulingGates") or ())
                return f"{_who(pod)} is held back by the scheduling gate {gates or 'of another controller'}"
            # the second half of the scheduler's message repeats the first for preemption
            message = str(one.get("message") or "").partition(" preemption:")[0]
            claim = _NO_CLAIM.search(message)
            if claim is not None:
                return f"{_who(pod)}: its PersistentVolumeClaim {claim[1]} does not exist in this namespace"
            return f"{_who(pod)}: no Kubernetes Node fits: {_short(message).rstrip('.')}"
    return ""


def _container(pod: Manifest, _events: Sequence[Manifest]) -> str:
    waits = pod_facts.waiting(pod)
    text = _WAITING.get(str(waits.get("reason") or ""))
    if text is None:
        return ""
    message = _PULL_PREFIX.sub("", str(waits.get("message") or ""))
    message = message or "no further reason is given (is the name right, and may the cluster pull it)"
    return f"{_who(pod)}: {text.format(image=waits.get('image') or '?', message=_short(message))}"


def _event(pod: Manifest, events: Sequence[Manifest]) -> str:
    if pod_facts.phase(pod) != "Pending":
        return ""
    event = _newest(events, "Pod", pod["metadata"]["name"], (*_POD_EVENTS, "Pulling", "Pulled"))
    if event is None:
        return ""
    found = str(event.get("reason"))
    if found == "Pulling":
        image = re.search(r'"([^"]+)"', str(event.get("message", "")))
        return f"{_who(pod)} is pulling image {image[1] if image else ''}".rstrip()
    text = _POD_EVENTS.get(found)
    return f"{_who(pod)}: {text.format(message=_short(str(event.get('message', ''))))}" if text else ""


def _lost(pod: Manifest, _events: Sequence[Manifest]) -> str:
    node = pod["spec"].get("nodeName") or "?"
    if pod_facts.phase(pod) == "Unknown" or (pod.get("status") or {}).get("reason") == "NodeLost":
        return f"{_who(pod)} is lost: its Kubernetes Node {node} does not answer"
    if pod_facts.is_deleting(pod):
        gone = manifest.condition(pod, "DisruptionTarget")
        why = f" ({gone.get('reason')})" if gone else ""
        return f"{_who(pod)} on Kubernetes Node {node} is being ended{why}; its replacement comes when it is gone"
    return ""


def _replaced(job: Manifest, pod: Manifest, _events: Sequence[Manifest]) -> str:
    if not replacing.is_replaced(job, pod):
        return ""
    disruption = manifest.condition(pod, "DisruptionTarget") or {}
    why = disruption.get("reason") or pod_facts.note(pod) or "no reason given"
    word = "was stopped" if replacing.is_ignored(job, pod) else "ended"
    return f"{_who(pod)} {word} ({why}); the Job makes a new one after its back-off (10 s or more)"


def _not_ready(pod: Manifest, nnodes: int) -> str:
    kind = pod_facts.phase(pod)
    if kind == "Pending":
        word = "waits for its container to start" if pod_facts.is_scheduled(pod) else "waits for the scheduler"
        return f"{_who(pod)} {word}"
    if kind == "Running" and not pod_facts.is_ready(pod):
        others = "waits for the other nodes, or " if nnodes > 1 else ""
        return f"{_who(pod)} runs; it {others}is just starting its ranks"
    return ""


def _missing(missing: Sequence[int], pods: Sequence[Manifest]) -> str:
    if not missing:
        return ""
    if pods:
        return f"node {missing[0]} has no pod yet; the Job makes a new one after its back-off (10 s or more)"
    return "its pods have not been made yet"


def _newest(events: Sequence[Manifest], kind: str, name: str, reasons: Sequence[str]) -> Mapping[str, Any] | None:
    found = [
        one
        for one in events
        if one.get("reason") in reasons
        and (one.get("involvedObject") or {}).get("kind") == kind
        and (one.get("involvedObject") or {}).get("name") == name
    ]
    return max(found, key=_event_time, default=None)


def _event_time(event: Manifest) -> str:
    series = event.get("series") or {}
    return str(series.get("lastObservedTime") or event.get("lastTimestamp") or event.get("eventTime") or "")


def _who(pod: Manifest) -> str:
    return f"pod {pod['metadata']['name']}"


def _short(text: str) -> str:
    return wording.shorten(text, MAX_MESSAGE)
