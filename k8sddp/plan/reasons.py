"""Foreign reasons for a pod that does not run -> our words: container states, events, what the scheduler says.

Tables, each with where its words come from. Where no table knows it, what Kubernetes says is repeated. A sentence has a
patience: for so many seconds it may be so in a job that is well, and nobody need be told.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from k8sddp.manifest import Manifest
from k8sddp.plan import pods as pod_facts
from k8sddp.worker.contract import wording

MAX_MESSAGE: Final = 220

# Patience, in seconds
AT_ONCE: Final = 1.0  # something is wrong, or Kubernetes says so while caches fill up
USUAL: Final = 5.0  # the way of every pod
VOLUMES: Final = 60.0  # ConfigMaps that reach the kubelet, claims that are provisioned, a driver that registers

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
_MOUNTS: Final = ("FailedMount", "FailedMapVolume", "FailedAttachVolume")
_EVENTS: Final[Mapping[str, str]] = {
    "FailedMount": "a volume cannot be mounted: {message}",
    "FailedMapVolume": "a volume cannot be mounted: {message}",
    "FailedAttachVolume": "a volume cannot be attached: {message}",
    "FailedCreatePodSandBox": "its sandbox cannot be made: {message}",
    "NetworkNotReady": "the network of its Kubernetes Node is not ready",
}

# Events by which a Node autoscaler answers a pod that fits nowhere (cluster-autoscaler:
# processors/status/eventing_scale_up_processor.go; karpenter: pkg/controllers/provisioning/scheduling/events.go)
_AUTOSCALERS: Final[Mapping[str, str]] = {
    "TriggeredScaleUp": "the autoscaler adds one: {message}",
    "NotTriggerScaleUp": "the autoscaler adds none: {message}",
    "Nominated": "the autoscaler adds one: {message}",
}
_SCALE_PREFIX: Final = re.compile(r"^(?:pod triggered scale-up|pod didn't trigger scale-up|Pod should schedule on): *")

# A mount that fails for want of an object that the user names does not get better by waiting; ours are just being made
# pkg/volume/configmap/configmap.go, pkg/volume/secret/secret.go
_NO_KEY: Final = re.compile(r'volume "([^"]+)" ?: references non-existent (config|secret) key: (\S+)')
_MISSING: Final = re.compile(r'(?:configmap|secret) "([^"]+)" not found|references non-existent (?:config|secret) key')
_OURS: Final = ("-worker", "-code")

# What containerd and the kubelet say before the reason of a failed pull; the image is named by our own words
_PULL_PREFIX: Final = re.compile(
    r'^(?:Back-off pulling image "[^"]*"(?:: \w+: )?)?'
    r'(?:(?:rpc error: code = \w+ desc = )?failed to pull and unpack image "[^"]*": )?'
    r'(?:failed to resolve (?:image|reference "[^"]*"): )?'
)

# The scheduler's words (pkg/scheduler/framework/types.go, plugins/volumebinding)
_NO_CLAIM: Final = re.compile(r'persistentvolumeclaim "([^"]+)" not found')
_UNBOUND: Final = "unbound immediate PersistentVolumeClaims"
_PREEMPTION: Final = re.compile(r"\.?(?: no new claims to deallocate,)? preemption:.*", re.DOTALL)

# Events of the Job when a pod is refused (pkg/controller/job): text in the message -> sentence
_REFUSED: Final[tuple[tuple[str, str], ...]] = (
    ("exceeded quota", "the namespace's quota is used up: {message}"),
    ("violates PodSecurity", "the namespace's Pod Security level refuses the pods: {message}"),
    ("error looking up service account", "its service account does not exist: {message}"),
    ("no PriorityClass with name", "its priority class does not exist: {message}"),
    ("forbidden", "its pods are not admitted: {message}"),
)

# A readiness probe that nobody answers (pkg/probe: http, exec): the worker is stopped, starved, or its network is cut
_SILENT: Final = ("context deadline exceeded", "Client.Timeout exceeded", "timed out")
_PROBES: Final = timedelta(
    seconds=30
)  # the limit of one probe (render/context.py), by which event and readiness may lie apart


class Reason(NamedTuple):
    """Why a pod does not run: what follows its name and a colon, since when, and for how long nobody need be told."""

    text: str
    since: datetime | None
    patience: float = AT_ONCE


def of_scheduling(pod: Manifest, events: Sequence[Manifest], now: datetime) -> Reason | None:
    """Return why no Kubernetes Node has the pod, None where nobody says."""
    since = pod_facts.created_at(pod)
    for one in (pod.get("status") or {}).get("conditions") or ():
        if one.get("type") != "PodScheduled" or one.get("status") != "False":
            continue
        if one.get("reason") == "SchedulingGated":
            gates = ", ".join(str(gate.get("name")) for gate in pod["spec"].get("schedulingGates") or ())
            return Reason(f"held back by the scheduling gate {gates or 'of another controller'}", since, USUAL)
        message = str(one.get("message") or "")
        claim = _NO_CLAIM.search(message)
        if claim is not None:
            return Reason(f"its PersistentVolumeClaim {claim[1]} does not exist in this namespace", since)
        if _UNBOUND in message:
            return _unbound(pod, since, now)
        return Reason(f"no Kubernetes Node fits: {_nodes(message)}{_autoscaler(pod, events)}", since)
    return None


def of_container(pod: Manifest) -> Reason | None:
    """Return why the container does not start, None where its state does not say."""
    waits = pod_facts.waiting(pod)
    text = _WAITING.get(str(waits.get("reason") or ""))
    if text is None:
        return None
    message = _PULL_PREFIX.sub("", str(waits.get("message") or ""))
    message = message or "no further reason is given (is the name right, and may the cluster pull it)"
    text = text.format(image=waits.get("image") or "?", message=wording.shorten(message, MAX_MESSAGE))
    return Reason(text, pod_facts.created_at(pod))


def of_events(pod: Manifest, events: Sequence[Manifest], now: datetime) -> Reason | None:
    """Return what the newest event says of a pod that is on its Kubernetes Node and whose container does not run."""
    event = newest(events, "Pod", pod["metadata"]["name"], (*_EVENTS, "Pulling", "Pulled"))
    if event is None or pod_facts.phase(pod) != "Pending":
        return None
    found, message = str(event.get("reason")), str(event.get("message", ""))
    if found == "Pulling":
        image = re.search(r'"([^"]+)"', message)
        since = pod_facts.moment(_time(event)) or pod_facts.created_at(pod)
        return Reason(f"pulling image {image[1] if image else ''}".rstrip(), since, USUAL)
    if found in _MOUNTS and not _lacks_for_good(message) and _age(pod, now) < VOLUMES:
        return Reason("waiting for its volumes to be mounted", pod_facts.created_at(pod), VOLUMES)
    keyless = _without_key(pod, message)
    if keyless:
        return Reason(keyless, pod_facts.created_at(pod))
    text = _EVENTS.get(found)
    return (
        Reason(text.format(message=wording.shorten(message, MAX_MESSAGE)), pod_facts.created_at(pod)) if text else None
    )


def _without_key(pod: Manifest, message: str) -> str:
    """Return which ConfigMap or Secret lacks which key: the kubelet names the volume only."""
    match = _NO_KEY.search(message)
    volumes = [one for one in pod["spec"].get("volumes") or () if match and one.get("name") == match[1]]
    if match is None or not volumes:
        return ""
    kind, field, key = (
        ("ConfigMap", "configMap", "name") if match[2] == "config" else ("Secret", "secret", "secretName")
    )
    name = (volumes[0].get(field) or {}).get(key)
    return f"{kind} {name} of volume {match[1]} has no key {match[3]}" if name else ""


def of_silence(pod: Manifest, events: Sequence[Manifest]) -> Reason | None:
    """Return that the worker of a pod that runs answers no probe any more, None where it does."""
    event = newest(events, "Pod", pod["metadata"]["name"], ("Unhealthy",))
    since = pod_facts.not_ready_since(pod)
    heard = pod_facts.moment(_time(event)) if event else None
    if event is None or since is None or heard is None or heard < since - _PROBES:
        return None
    if not any(sign in str(event.get("message", "")) for sign in _SILENT):
        return None
    return Reason("its worker answers no probe: stopped, starved of CPU, or cut off from its kubelet", since)


def of_refusal(job: Manifest, events: Sequence[Manifest]) -> Reason | None:
    """Return why the Job cannot make its pods, None where nobody says."""
    event = newest(events, "Job", job["metadata"]["name"], ("FailedCreate",))
    if event is None:
        return None
    since = pod_facts.moment((job.get("status") or {}).get("startTime"))
    whole = str(event.get("message", ""))
    message = re.sub(r'^Error creating: (?:pods "[^"]*" is forbidden: )?', "", whole)
    message = wording.shorten(message, MAX_MESSAGE)
    for part, text in _REFUSED:
        if part in whole:
            return Reason(text.format(message=message), since)
    return Reason(f"its pods cannot be created: {message}", since)


def newest(events: Sequence[Manifest], kind: str, name: str, reasons: Sequence[str]) -> Mapping[str, Any] | None:
    """Return the youngest event with one of the reasons about an object, None where there is none."""
    found = [
        one
        for one in events
        if one.get("reason") in reasons
        and (one.get("involvedObject") or {}).get("kind") == kind
        and (one.get("involvedObject") or {}).get("name") == name
    ]
    return max(found, key=_time, default=None)


def _time(event: Manifest) -> str:
    series = event.get("series") or {}
    return str(series.get("lastObservedTime") or event.get("lastTimestamp") or event.get("eventTime") or "")


def _age(pod: Manifest, now: datetime) -> float:
    created = pod_facts.created_at(pod)
    return VOLUMES if created is None else (now - created).total_seconds()


def _unbound(pod: Manifest, since: datetime | None, now: datetime) -> Reason:
    volumes = pod["spec"].get("volumes") or ()
    claims = [str(one["persistentVolumeClaim"].get("claimName")) for one in volumes if one.get("persistentVolumeClaim")]
    names = f"PersistentVolumeClaim{'s' if len(claims) > 1 else ''} {', '.join(claims)}".rstrip()
    if _age(pod, now) < VOLUMES:
        return Reason(f"its {names} {'are' if len(claims) > 1 else 'is'} being provisioned", since, VOLUMES)
    shown = claims[0] if claims else ""
    return Reason(f"its {names}: no volume is bound yet; `kubectl describe pvc {shown}".rstrip() + "` says why", since)


def _nodes(message: str) -> str:
    """Return the scheduler's count of Nodes in short; its second half repeats the first for preemption."""
    text = _PREEMPTION.sub("", message).replace(" nodes are available: ", " nodes: ").replace(" node(s) ", " ")
    return wording.shorten(text.strip().rstrip("."), MAX_MESSAGE)


def _autoscaler(pod: Manifest, events: Sequence[Manifest]) -> str:
    event = newest(events, "Pod", pod["metadata"]["name"], tuple(_AUTOSCALERS))
    if event is None:
        return ""
    message = _SCALE_PREFIX.sub("", str(event.get("message", ""))).strip("[]{}")
    return "; " + _AUTOSCALERS[str(event["reason"])].format(message=wording.shorten(message, MAX_MESSAGE))


def _lacks_for_good(message: str) -> bool:
    """Return whether a mount fails because something does not exist that is not ours to make."""
    found = _MISSING.search(message)
    return found is not None and not str(found[1]).endswith(_OURS)
