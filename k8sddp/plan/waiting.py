"""Why a job is not running, in one true sentence, with the time since when and the node that is awaited.

The most specific fact wins: somebody suspended it; no pod could be made; no Kubernetes Node fits; the image cannot be
pulled; a volume cannot be mounted; a node is lost; a pod that ended is replaced; one that runs is not in the gang.
Nothing is guessed: where no table (reasons.py) knows it, the sentence repeats what Kubernetes says. Nodes that wait
for the same are told together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from k8sddp import constants, manifest
from k8sddp.manifest import Manifest
from k8sddp.plan import failures, notes, reasons, replacing
from k8sddp.plan import pods as pod_facts
from k8sddp.plan.progress import TRAINING, Progress
from k8sddp.plan.reasons import AT_ONCE, USUAL, Reason

NOT_READY: Final = "node.kubernetes.io/unreachable"  # taint of a Kubernetes Node that is not heard of
OVERDUE: Final = timedelta(seconds=10)  # beyond its grace, after which a pod that is being deleted has no kubelet


@dataclass(frozen=True)
class Waiting:
    """What a job waits for; false where it waits for nothing."""

    sentence: str = ""
    since: datetime | None = None
    patience: float = AT_ONCE  # seconds for which it may be so in a job that is well

    def __bool__(self) -> bool:
        """Return whether there is anything to wait for."""
        return bool(self.sentence)


NOTHING: Final = Waiting()
_Look = Callable[[Manifest], "Reason | None"]


def reason(
    job: Manifest,
    pods: Sequence[Manifest],
    events: Sequence[Manifest],
    *,
    now: datetime,
    progress: Progress | None = None,
) -> Waiting:
    """Return why the job does not run, NOTHING where it does, or where its end has come.

    The end begins before the Job's condition says so: when a container has ended with the gang's last word, or that of
    index 0 has and the Job makes no other pod for it, the other nodes are no longer waiting for anything.
    """
    if replacing.is_decided(job):
        return NOTHING
    if job["metadata"].get("deletionTimestamp"):
        return Waiting("it is being deleted", pod_facts.moment(job["metadata"]["deletionTimestamp"]), USUAL)
    if job["spec"].get("suspend"):
        return Waiting(_suspended(job), pod_facts.moment(job["metadata"].get("creationTimestamp")))
    newest = pod_facts.newest_by_index(pods)
    if _is_over(job, newest):
        return NOTHING
    nnodes = int(job["spec"].get("completions") or 1)
    refused = reasons.of_refusal(job, events) if len(newest) < nnodes else None
    if refused is not None:
        return Waiting(*refused)
    looks: tuple[_Look, ...] = (
        lambda pod: reasons.of_scheduling(pod, events, now),
        reasons.of_container,
        lambda pod: reasons.of_events(pod, events, now),
        lambda pod: _lost(pod, now),
        lambda pod: _replaced(job, pod),
        lambda pod: reasons.of_silence(pod, events),
        _pending,
        lambda pod: _not_ready(pod, nnodes, progress),
    )
    for look in looks:
        found = {index: one for index, pod in sorted(newest.items()) if (one := look(pod)) is not None}
        if found:
            return _together(found, newest)
    return _missing([index for index in range(nnodes) if index not in newest], job, pods)


def _is_over(job: Manifest, newest: Mapping[int, Manifest]) -> bool:
    if any(failures.has_last_word(pod) for pod in newest.values()):
        return True
    first = newest.get(0)
    return first is not None and pod_facts.terminated(first) is not None and not replacing.is_replaced(job, first)


def _together(found: Mapping[int, Reason], newest: Mapping[int, Manifest]) -> Waiting:
    """Return what the lowest node waits for, with how many others wait for the same."""
    index = min(found)
    alike = sum(one.text == found[index].text for one in found.values()) - 1
    who = f"node {index} (pod {newest[index]['metadata']['name']})" + (f" and {alike} more" if alike else "")
    return Waiting(f"{who}: {found[index].text}", found[index].since, found[index].patience)


def _suspended(job: Manifest) -> str:
    name = job["metadata"]["name"]
    if manifest.annotation(job, constants.ANNOTATION_INCOMPLETE):
        remedy = f"run `k8sddp apply FILE` again to finish, or `k8sddp delete {name}` to remove it"
        return f"its creation was interrupted; {remedy}"
    queue = manifest.label(job, constants.LABEL_KUEUE_QUEUE)
    if queue:
        return f"it waits in the Kueue queue {queue}, and Kueue starts it"
    manager = job["spec"].get("managedBy")
    by = f"{manager} keeps it suspended" if manager else "it is suspended (spec.suspend is true)"
    return f'{by}; `kubectl patch job {name} -p \'{{"spec":{{"suspend":false}}}}\'` lets it run'


def _lost(pod: Manifest, now: datetime) -> Reason | None:
    node = pod["spec"].get("nodeName") or "?"
    deleted = pod_facts.moment(pod["metadata"].get("deletionTimestamp"))  # the end of its grace
    if pod_facts.has_ended(pod):
        return None
    if replacing.may_be_stuck(pod) and deleted is not None and now > deleted + OVERDUE:
        return Reason(
            f"given up with its Kubernetes Node {node}, which does not answer; {dead_node_remedy(pod)}", deleted
        )
    if pod_facts.is_deleting(pod):
        gone = manifest.condition(pod, "DisruptionTarget") or {}
        why = f" ({gone.get('reason')})" if gone else ""
        since = pod_facts.moment(gone.get("lastTransitionTime")) or deleted
        return Reason(
            f"being ended{why} on Kubernetes Node {node}; its replacement comes when it is gone", since, USUAL
        )
    if pod_facts.is_unreachable(pod):
        until = _toleration(pod)
        then = f"; if it stays so for {until} s, the pod is given up" if until is not None else ""
        return Reason(f"its Kubernetes Node {node} does not answer{then}", pod_facts.not_ready_since(pod))
    return None


def dead_node_remedy(pod: Manifest) -> str:
    """Return both ways out for a pod on a dead Kubernetes Node, which the Job never replaces.

    The pod holds the Job's finalizer, and its phase never becomes Failed: deleting it by force alone does nothing.
    """
    return (
        "the Job never replaces a pod that may still run there: `k8sddp run FILE` does so at once, or, when that Node "
        f"is surely off, {by_hand(pod)} lets the Job do it"
    )


def by_hand(pod: Manifest) -> str:
    """Return what a user types to have the Job replace a pod that will never end."""
    name, namespace = pod["metadata"]["name"], pod["metadata"].get("namespace")
    where = f" -n {namespace}" if namespace else ""
    free = f"""kubectl patch pod {name}{where} -p '{{"metadata":{{"finalizers":null}}}}'"""
    return f"`{free} && kubectl delete pod {name}{where} --force`"


def _toleration(pod: Manifest) -> int | None:
    """Return for how many seconds the pod tolerates that its Kubernetes Node is not heard of."""
    for one in pod["spec"].get("tolerations") or ():
        if one.get("key") == NOT_READY and one.get("tolerationSeconds") is not None:
            return int(one["tolerationSeconds"])
    return None


def _replaced(job: Manifest, pod: Manifest) -> Reason | None:
    if not replacing.is_replaced(job, pod):
        return None
    disruption = manifest.condition(pod, "DisruptionTarget") or {}
    why = disruption.get("reason") or notes.note(pod) or "no reason given"
    word = "was stopped" if replacing.is_ignored(job, pod) else "ended"
    since = pod_facts.moment((pod_facts.terminated(pod) or {}).get("finishedAt"))
    return Reason(f"{word} ({why}); the Job makes a new pod after its back-off (10 s or more)", since, USUAL)


def _pending(pod: Manifest) -> Reason | None:
    if pod_facts.phase(pod) != "Pending":
        return None
    word = "waiting for its container to start" if pod_facts.is_scheduled(pod) else "waiting for the scheduler"
    return Reason(word, pod_facts.created_at(pod), USUAL)


def _not_ready(pod: Manifest, nnodes: int, progress: Progress | None) -> Reason | None:
    """Return why a pod that runs takes no part in an attempt: best what node 0 says, else what its object shows."""
    if pod_facts.phase(pod) != "Running":
        return None
    said = progress.nodes.get(pod_facts.index_of(pod)) if progress else None
    if pod_facts.is_ready(pod):  # its kubelet asks every half minute at most
        silent = "node 0 does not hear of it any more: its worker is stopped, or cut off from node 0"
        return Reason(silent, None, USUAL) if said == "missing" else None
    lost = pod_facts.was_ready(pod)
    since = pod_facts.not_ready_since(pod) if lost else pod_facts.started_at(pod)
    if said in (TRAINING, "complete") or (said == "waiting" and progress and "missing" in progress.nodes.values()):
        return None  # the kubelet has not looked since; or it waits for another node, which is named
    if said == "missing" and pod_facts.index_of(pod) == 0:  # it tells us so itself: its own worker is not in yet
        return Reason("running but not ready: its worker is just starting", since, USUAL)
    if said == "missing":
        what = "it is cut off from node 0, or starts anew" if lost else "still starting, or cut off from node 0"
        return Reason(f"running, but not connected to node 0: {what}", since, USUAL)
    if said == "ending":
        return Reason("ending the ranks of the last attempt", since, USUAL)
    if lost:
        return Reason("its part in the last attempt is over: the gang starts anew, or the job ends", since, USUAL)
    others = "waiting for the other nodes, or " if nnodes > 1 else ""
    return Reason(f"running but not ready: {others}starting its ranks", since, USUAL)


def _missing(missing: Sequence[int], job: Manifest, pods: Sequence[Manifest]) -> Waiting:
    if not missing:
        return NOTHING
    if pods:
        text = f"node {missing[0]}: no pod yet; the Job makes a new one after its back-off (10 s or more)"
        return Waiting(text, None, USUAL)
    since = pod_facts.moment((job.get("status") or {}).get("startTime"))
    return Waiting("its pods have not been made yet", since, USUAL)
