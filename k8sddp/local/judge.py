"""What the Job does about each end of a pod: complete, fail, or start that index again; as the Job controller does it.

The rules are the rendered ones (podFailurePolicy, backoffLimitPerIndex, maxFailedIndexes, successPolicy), so a local
run and a cluster cannot disagree about what a failure is. Two differences are deliberate: the back-off before a
replacement is a tenth of the cluster's, because nobody protects an API server here, and only a fault that was asked
for is a disruption. Pure.
Source of the rules: pkg/controller/job in kubernetes/kubernetes, and
https://kubernetes.io/docs/concepts/workloads/controllers/job.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from k8sddp.plan import failure_policy
from k8sddp.worker.contract import exit_codes

# Reasons of the Job's conditions, as Kubernetes spells them
SUCCESS_POLICY: Final = "SuccessPolicy"
COMPLETIONS_REACHED: Final = "CompletionsReached"
POD_FAILURE_POLICY: Final = "PodFailurePolicy"
MAX_FAILED_INDEXES: Final = "MaxFailedIndexesExceeded"
FAILED_INDEXES: Final = "FailedIndexes"
BACKOFF_LIMIT: Final = "BackoffLimitExceeded"
DEADLINE: Final = "DeadlineExceeded"

DISRUPTION: Final = "DisruptionTarget"  # condition of a pod that Kubernetes itself ended
FIRST_DELAY: Final = (
    1.0  # seconds before an index starts again; doubled with each end of that index that was no success
)
MAX_DELAY: Final = 60.0
# A follower leaves with 79 when the gang has ended, and node 0 follows within this time: the cluster's own first delay.
LEAVING_DELAY: Final = 10.0

_DEFAULT_BACKOFF_LIMIT: Final = 6  # of a Job without backoffLimitPerIndex


@dataclass(frozen=True)
class End:
    """How one pod of the Job ended; `disrupted` where Kubernetes would have ended it, as with a lost Node."""

    pod: str
    index: int
    code: int
    disrupted: bool = False


@dataclass(frozen=True)
class Decision:
    """The end of the Job; `end` is the pod's that decided it, None where no single one did."""

    complete: bool
    reason: str
    end: End | None = None


@dataclass(frozen=True)
class Replacement:
    """The next pod of an index: its ordinal (2 for the first replacement), what the Job counts, seconds to wait."""

    index: int
    ordinal: int
    failures: int
    ignored: int
    delay: float


def decide(job_spec: Mapping[str, Any], ends: Sequence[End]) -> Decision | None:
    """Return how the Job ends, None while that is open; `ends` in their order."""
    completions = int(job_spec.get("completions") or 1)
    return _failed(job_spec, ends, completions=completions) or _complete(job_spec, ends, completions=completions)


def replacement(job_spec: Mapping[str, Any], ends: Sequence[End]) -> Replacement | None:
    """Return what follows the last pod that ended, None where its index is done; for a Job that is not decided."""
    last = ends[-1]
    if last.code == 0 or last in _index_failures(job_spec, ends):
        return None
    before = [end for end in ends if end.index == last.index]
    ignored = sum(_action(job_spec, end) == failure_policy.IGNORE for end in before)
    delay = min(MAX_DELAY, FIRST_DELAY * 2 ** min(len(before) - 1, 16))
    if last.code == exit_codes.FOLLOWER_LEAVES:
        delay = max(delay, LEAVING_DELAY)
    return Replacement(last.index, len(before) + 1, len(before) - ignored, ignored, delay)


def _failed(job_spec: Mapping[str, Any], ends: Sequence[End], *, completions: int) -> Decision | None:
    final = next((end for end in ends if _action(job_spec, end) == failure_policy.FAIL_JOB), None)
    if final is not None:
        return Decision(complete=False, reason=POD_FAILURE_POLICY, end=final)
    counted = [end for end in ends if _action(job_spec, end) == failure_policy.COUNT]
    global_limit_applies = job_spec.get("backoffLimitPerIndex") is None
    if global_limit_applies and len(counted) > job_spec.get("backoffLimit", _DEFAULT_BACKOFF_LIMIT):
        return Decision(complete=False, reason=BACKOFF_LIMIT, end=counted[-1])
    failures = _index_failures(job_spec, ends)
    if len(failures) > job_spec.get("maxFailedIndexes", completions):
        return Decision(complete=False, reason=MAX_FAILED_INDEXES, end=failures[-1])
    if failures and len(failures) + len({end.index for end in ends if end.code == 0}) == completions:
        return Decision(complete=False, reason=FAILED_INDEXES, end=failures[0])
    return None


def _index_failures(job_spec: Mapping[str, Any], ends: Sequence[End]) -> list[End]:
    """Return the ends that failed an index for good, one per index."""
    limit = job_spec.get("backoffLimitPerIndex")
    counted: dict[int, int] = {}
    found: list[End] = []
    for end in ends:
        action = _action(job_spec, end)
        counted[end.index] = counted.get(end.index, 0) + (action == failure_policy.COUNT)
        if action == failure_policy.FAIL_INDEX or (
            action == failure_policy.COUNT and limit is not None and counted[end.index] > limit
        ):
            found.append(end)
    return found


def _complete(job_spec: Mapping[str, Any], ends: Sequence[End], *, completions: int) -> Decision | None:
    succeeded = {end.index for end in ends if end.code == 0}
    last = next((end for end in reversed(ends) if end.code == 0), None)
    for rule in (job_spec.get("successPolicy") or {}).get("rules") or ():
        wanted = set(_indexes(rule["succeededIndexes"])) if rule.get("succeededIndexes") else set(range(completions))
        if len(wanted & succeeded) >= rule.get("succeededCount", len(wanted)):
            return Decision(complete=True, reason=SUCCESS_POLICY, end=last)
    complete = len(succeeded) == completions
    return Decision(complete=True, reason=COMPLETIONS_REACHED, end=last) if complete else None


def _action(job_spec: Mapping[str, Any], end: End) -> str:
    """Return what the Job does about a failed pod; empty for a success."""
    conditions = {(DISRUPTION, "True")} if end.disrupted else set()
    return failure_policy.action(job_spec, exit_code=end.code, conditions=conditions) if end.code else ""


def _indexes(text: str) -> Iterator[int]:
    """Read Kubernetes' list of indexes, such as `0,2-4`."""
    for part in text.split(","):
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)
