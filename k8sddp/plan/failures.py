"""Which failure came first, in one sentence, and the job's exit code.

Sources, best first: the verdict that the gang's coordinator left in a pod's termination message; a pod that Kubernetes
ended (out of memory, evicted): nobody inside can report that, the gang only sees it lost; the exit codes of the
containers; the Job's own condition (deadline, a lost pod too many).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from k8sddp import manifest
from k8sddp.manifest import Manifest
from k8sddp.plan import failure_policy
from k8sddp.plan import pods as pod_facts
from k8sddp.worker.contract import exit_codes, wording
from k8sddp.worker.contract import verdict as verdicts

# Why Kubernetes itself ends a container or pod (kubelet and pod garbage collector), and what the user can do
_KILLED: Final[Mapping[str, str]] = {
    "OOMKilled": "ran out of memory (OOMKilled, limit {limit}): raise spec.resources.memory",
    "Evicted": "was evicted by its Kubernetes Node ({message})",
    "DeadlineExceeded": "ran longer than its deadline",
    "NodeLost": "was lost with its Kubernetes Node",
    "NodeShutdown": "was ended because its Kubernetes Node shut down",
    "Terminated": "was ended because its Kubernetes Node shut down",  # since 1.21 (graceful node shutdown)
    "Preempting": "was preempted by a pod of higher priority",
    "PreemptionByScheduler": "was preempted by a pod of higher priority",
    # of the condition DisruptionTarget, as are the next three
    "EvictionByEvictionAPI": "was evicted (a drain, or an autoscaler)",
    "DeletionByTaintManager": "was lost with its Kubernetes Node ({message})",
    "DeletionByPodGC": "was lost with its Kubernetes Node ({message})",
    "TerminationByKubelet": "was ended by its Kubernetes Node ({message})",
    "UnexpectedAdmissionError": "was refused by its Kubernetes Node ({message})",
    "OutOfcpu": "was refused by its Kubernetes Node: not enough CPU",
    "OutOfmemory": "was refused by its Kubernetes Node: not enough memory",
    "OutOfpods": "was refused by its Kubernetes Node: too many pods",
    "ContainerCannotRun": "could not start its container ({message})",
    "StartError": "could not start its container ({message})",
}

# What runc says of a program that the image does not have (libcontainer: exec.LookPath), and what the user can do
_REMEDIES: Final[Mapping[str, str]] = {
    "executable file not found in $PATH": ": set spec.python to the image's interpreter, or env.PATH",
    "no such file or directory": ": set spec.python to a program that the image has",
}

# Who told whom, before the reason for which a container could not be started (containerd; runc: libcontainer)
_TOLD_BY: Final = re.compile(
    r"^(?:failed to (?:create|start) containerd (?:task|container): |failed to create shim task: "
    r"|OCI runtime create failed: |runc create failed: |unable to start container process: "
    r"|error during container init: )+"
)

# Reasons of the Job's Failed or FailureTarget condition (pkg/apis/batch/types.go), and what they mean here
_JOB_REASONS: Final[Mapping[str, str]] = {
    "DeadlineExceeded": "the job ran longer than spec.activeDeadlineSeconds ({deadline} s)",
    "BackoffLimitExceeded": "its pods failed more often than the Job allows",
    "FailedIndexes": "a node failed more often than the Job allows",
    "MaxFailedIndexesExceeded": "a node failed more often than the Job allows",
    "PodFailurePolicy": "a pod ended with an exit code that is final",
}

MAX_MESSAGE: Final = 200
MAX_OWN: Final = 400  # of a sentence that is all the worker's own, as it cuts it itself (root_cause.MAX_TEXT)
# Kinds of failures with such sentences: the remedy, or the place in the code, stands in the middle
_OWN: Final = ("configuration", "preflight", "hang")


@dataclass(frozen=True)
class Diagnosis:
    """The first failure as people read it; `sentence` is empty where nothing failed.

    `cause` is the gang's own finding, None where the sentence is made of what Kubernetes says. `attempt` is the one
    that ended so, None where nobody says, or it is the only one.
    """

    sentence: str
    exit_code: int
    cause: verdicts.FirstFailure | None = None
    attempt: int | None = None

    @property
    def traceback(self) -> str:
        """Return the last lines of the failing rank's traceback or output."""
        return (self.cause.traceback if self.cause else None) or ""


NONE: Final = Diagnosis("", 1)


def first(job: Manifest, pods: Sequence[Manifest]) -> Diagnosis:
    """Return the first failure of a job that failed or is failing."""
    condition = manifest.condition(job, "Failed") or manifest.condition(job, "FailureTarget") or {}
    late = condition.get("reason") == "DeadlineExceeded"
    verdict = _verdict(job, pods, late=late)
    code = _exit_code(job, pods, verdict)
    if late and not verdict.first_failure:
        return Diagnosis(_job_sentence(job, condition), NONE.exit_code)
    cause = verdict.first_failure
    attempt = verdict.attempt if verdict.max_attempts > 1 else None
    killed = _killed(job, _named(pods, cause))
    if cause:
        if killed and cause.kind in ("lost", "infrastructure"):
            return Diagnosis(killed, code, attempt=attempt)
        hungry = _out_of_memory(job, pods, cause)
        if hungry:
            return Diagnosis(hungry, code, attempt=attempt)
        if cause.message:
            said = wording.shorten(cause.message, MAX_OWN if cause.kind in _OWN else MAX_MESSAGE)
            return Diagnosis(with_exit_code(said, cause), code, cause, attempt)
    return Diagnosis(killed or _by_exit_code(job, pods) or _job_sentence(job, condition), code)


def with_exit_code(message: str, cause: verdicts.FirstFailure) -> str:
    """Return the worker's sentence for a first failure; an exception's lacks the rank's exit code, so it is added."""
    has_code = cause.kind == "exception" and (cause.exit_code or 0) > 0
    return f"{message} (exit code {cause.exit_code})" if has_code else message


def history(pods: Iterable[Manifest]) -> tuple[str, ...]:
    """Return one line for each attempt that ended before the last one, as the gang's verdict tells them."""
    for pod in sorted(pods, key=pod_facts.index_of):
        entries = verdict_of(pod).history
        if entries:
            return tuple(map(_earlier, entries))
    return ()


def account(pods: Iterable[Manifest]) -> str:
    """Return how many attempts were used as the gang's verdict tells it, empty where none does, or one is all."""
    for pod in sorted(pods, key=pod_facts.index_of):
        verdict = verdict_of(pod)
        if verdict.max_attempts > 1:
            return f"{verdict.spent} of {verdict.max_attempts} attempts used"
    return ""


def remarks(pods: Iterable[Manifest]) -> tuple[str, ...]:
    """Return what the pods of a complete job remark on it, each sentence once."""
    found = [_text(one) for pod in sorted(pods, key=pod_facts.index_of) for one in verdict_of(pod).remarks]
    return tuple(dict.fromkeys(found))


def _earlier(entry: verdicts.PastAttempt) -> str:
    free = " (a disruption, not counted)" if entry.counted is False else ""
    return f"attempt {entry.attempt} ended: {_text(entry.message)}{free}"


def with_certainty(sentence: str, pods: Iterable[Manifest]) -> str:
    """Return a worker's sentence with what it could only guess put right by what Kubernetes knows about the pod."""
    for pod in pods:
        ended = pod_facts.terminated(pod) or {}
        if ended.get("reason") == "OOMKilled" and f"(pod {pod['metadata']['name']}" in sentence:
            text = _KILLED["OOMKilled"].format(limit=_limit(pod["spec"]))
            sentence = sentence.replace("was killed by SIGKILL (perhaps out of memory)", text)
            sentence = sentence.replace("its pod was lost without a word, or its network", f"it {text}")
    return sentence


def loss(pod: Manifest) -> str:
    """Return why a pod is lost, in a few words that begin with the pod."""
    ended = pod_facts.terminated(pod) or {}
    for source in (ended, pod.get("status") or {}, manifest.condition(pod, "DisruptionTarget") or {}):
        text = _KILLED.get(str(source.get("reason") or ""))
        if text:
            return f"{_who(pod)} {_explained(text, source, _limit(pod['spec']))}"
    code = ended.get("exitCode")
    if code == exit_codes.STOPPED:
        return f"{_who(pod)} was asked to stop"
    return f"{_who(pod)} was lost" + (f" (exit code {code})" if code is not None else "")


def verdict_of(pod: Manifest) -> verdicts.Verdict:
    """Return the worker's verdict in the pod's termination message, an empty one where there is none to be read."""
    ended = pod_facts.terminated(pod) or {}
    return verdicts.parse(str(ended.get("message") or "")) or verdicts.NONE


def has_last_word(pod: Manifest) -> bool:
    """Return whether the pod's worker has told the job's end: the gang is over, and nobody waits for anything."""
    return verdict_of(pod).outcome in verdicts.DECIDED


def _verdict(job: Manifest, pods: Iterable[Manifest], *, late: bool) -> verdicts.Verdict:
    """Return the verdict that decided, of the pod whose exit code is final, else of the lowest index that has one.

    A pod that left alone (`stopped`) knows why it left, which may be why the Job gave up; but after the Job's deadline
    (`late`) only the job's own end, told with a final code, came before it.
    """
    found = [(pod, verdict_of(pod)) for pod in pods]
    with_cause = [(pod, one) for pod, one in found if one.first_failure]
    if late:
        with_cause = [(pod, one) for pod, one in with_cause if one.outcome == verdicts.FAILED and _is_final(job, pod)]
    with_cause.sort(
        key=lambda pair: (
            pair[1].outcome != verdicts.FAILED,
            not _is_final(job, pair[0]),
            pod_facts.index_of(pair[0]),
        )
    )
    return with_cause[0][1] if with_cause else verdicts.NONE


def _named(pods: Sequence[Manifest], cause: verdicts.FirstFailure | None) -> Sequence[Manifest]:
    """Return the pod that the verdict names, all where it names none: another may have ended in an earlier attempt."""
    name = cause.pod if cause else ""
    return [pod for pod in pods if pod["metadata"]["name"] == name] if name else pods


def _killed(job: Manifest, pods: Iterable[Manifest]) -> str:
    """Return the sentence for the earliest pod that Kubernetes ended, or nothing."""
    for pod in sorted(pods, key=_finished_at):
        ended = pod_facts.terminated(pod) or {}
        whole = pod.get("status") or {}
        disruption = manifest.condition(pod, "DisruptionTarget") or {}
        for source in (ended, whole, disruption):
            text = _KILLED.get(str(source.get("reason") or ""))
            if text:
                return f"{_who(pod)} {_explained(text, source, _limit(job['spec']['template']['spec']))}"
    return ""


def _out_of_memory(job: Manifest, pods: Iterable[Manifest], cause: verdicts.FirstFailure) -> str:
    """Return the sentence for a rank that the kernel killed, where Kubernetes confirms that its memory was used up."""
    for pod in pods:
        ended = pod_facts.terminated(pod) or {}
        if pod["metadata"]["name"] == cause.pod and ended.get("reason") == "OOMKilled":
            if cause.signal != "SIGKILL" or cause.rank is None:
                return ""
            limit = _limit(job["spec"]["template"]["spec"])
            return f"rank {cause.rank} in {_who(pod)} {_KILLED['OOMKilled'].format(limit=limit)}"
    return ""


def _by_exit_code(job: Manifest, pods: Iterable[Manifest]) -> str:
    """Return the sentence for the earliest container that ended with a code of its own, or nothing."""
    for pod in sorted(pods, key=lambda one: (not _is_final(job, one), _finished_at(one))):
        code = _code(pod)
        if code is None or code == exit_codes.COMPLETE or code in exit_codes.IGNORED:
            continue
        ended = pod_facts.terminated(pod) or {}
        said = _text(ended.get("message")) if verdict_of(pod) is verdicts.NONE else ""
        signal = f" (killed by signal {code - 128})" if 128 < code < 160 else ""
        return f"{_who(pod)} exited with code {code}{signal}" + (f": {said}" if said else "")
    return ""


def _job_sentence(job: Manifest, condition: Mapping[str, Any]) -> str:
    reason = str(condition.get("reason") or "")
    deadline = job["spec"].get("activeDeadlineSeconds", "?")
    text = _JOB_REASONS.get(reason, reason or "no reason is given").format(deadline=deadline)
    return text if reason == "DeadlineExceeded" else f"the Job failed: {text}; no pod is left that says more"


def _exit_code(job: Manifest, pods: Iterable[Manifest], verdict: verdicts.Verdict) -> int:
    if 0 < verdict.exit_code < 256 and verdict.exit_code not in exit_codes.IGNORED:
        return verdict.exit_code
    ordered = sorted(pods, key=lambda one: (not _is_final(job, one), _finished_at(one)))
    return next((code for code in map(_code, ordered) if code and code not in exit_codes.IGNORED), 1)


def _is_final(job: Manifest, pod: Manifest) -> bool:
    """Return whether the pod's exit code alone fails the Job."""
    return failure_policy.action(job["spec"], exit_code=_code(pod), conditions=()) == failure_policy.FAIL_JOB


def _code(pod: Manifest) -> int | None:
    code = (pod_facts.terminated(pod) or {}).get("exitCode")
    return code if isinstance(code, int) else None


def _finished_at(pod: Manifest) -> str:
    return str((pod_facts.terminated(pod) or {}).get("finishedAt") or "9999")


def _who(pod: Manifest) -> str:
    node = pod["spec"].get("nodeName")
    return f"pod {pod['metadata']['name']}" + (f" (Kubernetes Node {node})" if node else "")


def _limit(pod_spec: Mapping[str, Any]) -> str:
    """Return a pod's memory limit."""
    for container in pod_spec.get("containers") or ():
        limit = ((container.get("resources") or {}).get("limits") or {}).get("memory")
        if limit:
            return str(limit)
    return "of the Kubernetes Node"


def _explained(text: str, source: Mapping[str, Any], limit: str) -> str:
    """Return a table's text with what Kubernetes says, and the remedy where one is known."""
    message = _TOLD_BY.sub("", str(source.get("message") or ""))
    remedy = next((remedy for sign, remedy in _REMEDIES.items() if sign in message), "")
    return text.format(limit=limit, message=_text(message) or "no reason given") + remedy


def told(text: str) -> str:
    """Return a worker's sentence as it is told here: on one line, and not too long."""
    return wording.shorten(text, MAX_MESSAGE)


def _text(value: object) -> str:
    return told(str(value or ""))
