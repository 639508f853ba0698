"""How the Job ends, from the exit codes of its pods and the manifest's own rules, as Kubernetes' Job controller does.

The rules are the rendered ones (podFailurePolicy, backoffLimitPerIndex, maxFailedIndexes, successPolicy), so a local
run and a cluster cannot disagree about what a failure is. One difference is deliberate: a pod that Kubernetes would
replace is not replaced here, because nothing but the job's own programs is ever lost on one machine. Pure.
Source of the rules: pkg/controller/job in kubernetes/kubernetes, and
https://kubernetes.io/docs/concepts/workloads/controllers/job.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

# Reasons of the Job's conditions, as Kubernetes spells them
SUCCESS_POLICY: Final = "SuccessPolicy"
COMPLETIONS_REACHED: Final = "CompletionsReached"
POD_FAILURE_POLICY: Final = "PodFailurePolicy"
MAX_FAILED_INDEXES: Final = "MaxFailedIndexesExceeded"
FAILED_INDEXES: Final = "FailedIndexes"
BACKOFF_LIMIT: Final = "BackoffLimitExceeded"
DEADLINE: Final = "DeadlineExceeded"
NOT_REPLACED: Final = "NotReplaced"  # ours: every pod has ended, and a cluster would start some of them again

_DEFAULT_BACKOFF_LIMIT: Final = 6  # of a Job without backoffLimitPerIndex


@dataclass(frozen=True)
class Decision:
    """The end of the Job; `index` is the pod that decided it, None where no single one did."""

    complete: bool
    reason: str
    index: int | None = None


def decide(job_spec: Mapping[str, Any], codes: Mapping[int, int]) -> Decision | None:
    """Return how the Job ends, None while that is open.

    `codes` are the exit codes of the pods that have ended, by index, in the order in which they ended.
    """
    completions = int(job_spec.get("completions") or 1)
    decision = _failed(job_spec, codes, completions=completions) or _complete(job_spec, codes, completions=completions)
    if decision is None and len(codes) == completions:
        return Decision(complete=False, reason=NOT_REPLACED, index=_worst(job_spec, codes))
    return decision


def _failed(job_spec: Mapping[str, Any], codes: Mapping[int, int], *, completions: int) -> Decision | None:
    per_index = job_spec.get("backoffLimitPerIndex")
    failed_indexes: list[int] = []
    counted = 0
    for index, code in codes.items():
        action = _action(job_spec, code) if code else ""
        if action == "FailJob":
            return Decision(complete=False, reason=POD_FAILURE_POLICY, index=index)
        if action == "FailIndex" or (action == "Count" and per_index == 0):
            failed_indexes.append(index)
        counted += action == "Count"
    if per_index is None and counted > job_spec.get("backoffLimit", _DEFAULT_BACKOFF_LIMIT):
        return Decision(complete=False, reason=BACKOFF_LIMIT, index=_worst(job_spec, codes))
    if failed_indexes and len(failed_indexes) > job_spec.get("maxFailedIndexes", completions):
        return Decision(complete=False, reason=MAX_FAILED_INDEXES, index=failed_indexes[0])
    if failed_indexes and len(failed_indexes) + sum(code == 0 for code in codes.values()) == completions:
        return Decision(complete=False, reason=FAILED_INDEXES, index=failed_indexes[0])
    return None


def _complete(job_spec: Mapping[str, Any], codes: Mapping[int, int], *, completions: int) -> Decision | None:
    succeeded = {index for index, code in codes.items() if code == 0}
    for rule in (job_spec.get("successPolicy") or {}).get("rules") or ():
        wanted = set(_indexes(rule["succeededIndexes"])) if rule.get("succeededIndexes") else set(range(completions))
        if len(wanted & succeeded) >= rule.get("succeededCount", len(wanted)):
            return Decision(complete=True, reason=SUCCESS_POLICY)
    return Decision(complete=True, reason=COMPLETIONS_REACHED) if len(succeeded) == completions else None


def _action(job_spec: Mapping[str, Any], code: int) -> str:
    """Return what the first rule that matches a failed pod's exit code says; Count where none does."""
    for rule in (job_spec.get("podFailurePolicy") or {}).get("rules") or ():
        exit_codes = rule.get("onExitCodes")
        if exit_codes and (code in exit_codes["values"]) == (exit_codes["operator"] == "In"):
            return str(rule["action"])
    return "Count"


def _worst(job_spec: Mapping[str, Any], codes: Mapping[int, int]) -> int | None:
    """Return the first pod whose failure counts, else the first that failed at all."""
    failures = [index for index, code in codes.items() if code]
    return next(
        (index for index in failures if _action(job_spec, codes[index]) != "Ignore"), next(iter(failures), None)
    )


def _indexes(text: str) -> Iterator[int]:
    """Read Kubernetes' list of indexes, such as `0,2-4`."""
    for part in text.split(","):
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)
