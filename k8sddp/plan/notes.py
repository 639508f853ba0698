"""A few words beside a pod: why it does not run, and what its exit code means.

The codes of our worker (worker/contract/exit_codes.py) are an agreement between pods and Job: a pod that did nothing
wrong leaves with one too, because another node failed, or because node 0 carries everybody's result. So each is
explained where it is shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from k8sddp.manifest import Manifest
from k8sddp.plan import failures
from k8sddp.plan import pods as pod_facts
from k8sddp.worker.contract import exit_codes
from k8sddp.worker.contract import verdict as verdicts

_MEANINGS: Final[Mapping[int, str]] = {
    exit_codes.FAILED: "a rank was killed, or its code is above 63",
    exit_codes.INFRASTRUCTURE: "could not go on in this pod; its log says why",
    exit_codes.HANG: "the ranks made no progress",
    exit_codes.PREFLIGHT: "refused to start: the preflight found a fault",
    exit_codes.BAD_CONFIGURATION: "refused to start: the configuration is wrong",
    exit_codes.FOLLOWER_LEAVES: "left because the gang ended elsewhere",
    exit_codes.EVICTED: "a volume of the pod holds more than it may",
    exit_codes.STOPPED: "asked to stop",
    137: "killed by SIGKILL",
    139: "killed by SIGSEGV",
    134: "killed by SIGABRT",
}


def note(pod: Manifest) -> str:
    """Return why a pod does not simply run, empty where it does: Kubernetes' own word, or its exit code explained."""
    word = pod_facts.note(pod)
    ended = pod_facts.terminated(pod) or {}
    code = ended.get("exitCode")
    if not isinstance(code, int) or word != f"exit code {code}":
        return word
    meaning = _of_verdict(code, pod_facts.index_of(pod), failures.verdict_of(pod)) or _MEANINGS.get(code, "")
    return f"{word}: {meaning}" if meaning else word


def _of_verdict(code: int, index: int, verdict: verdicts.Verdict) -> str:
    """Return what the worker itself says about its code, empty where it says nothing."""
    cause = verdict.first_failure
    if cause is None:
        return ""
    if verdict.outcome == verdicts.STOPPED and code == exit_codes.FOLLOWER_LEAVES:
        return "another pod took its place"
    if verdict.outcome != verdicts.FAILED:
        return ""
    if code == exit_codes.FOLLOWER_LEAVES:
        return f"{_what(cause)}; node 0 reports it" if _is_on(index, cause) else f"left because {_what(cause)}"
    if not _is_on(index, cause) and (code <= exit_codes.FAILED or code in exit_codes.FINAL):
        return f"reports for the job that {_what(cause)}"
    return ""


def _is_on(index: int, cause: verdicts.FirstFailure) -> bool:
    """Return whether the failure was on that node; of a hang without a rank nobody knows."""
    return cause.node_rank == index and (cause.kind != "hang" or cause.rank is not None)


def _what(cause: verdicts.FirstFailure) -> str:
    failed = "hung" if cause.kind == "hang" else "failed"
    if cause.rank is not None:
        return f"rank {cause.rank} on node {cause.node_rank} {failed}"
    return "some rank hung" if cause.kind == "hang" else f"node {cause.node_rank} failed"
