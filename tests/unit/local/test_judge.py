"""The Job's end follows the manifest's own rules, as on a cluster."""

from __future__ import annotations

import pytest

from k8sddp.local import judge

RENDERED = {
    "completions": 3,
    "backoffLimitPerIndex": 0,
    "maxFailedIndexes": 0,
    "successPolicy": {"rules": [{"succeededIndexes": "0"}]},
    "podFailurePolicy": {
        "rules": [
            {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]},
            {"action": "Ignore", "onExitCodes": {"operator": "In", "values": [79, 143]}},
            {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [*range(1, 65), 76, 77, 78]}},
        ]
    },
}
RETRYING = RENDERED | {"backoffLimitPerIndex": 3}
PLAIN = {"completions": 2}


@pytest.mark.parametrize(
    ("job_spec", "codes", "expected"),
    [
        pytest.param(RENDERED, {}, None, id="nothing has ended"),
        pytest.param(RENDERED, {1: 0}, None, id="success of a follower decides nothing"),
        pytest.param(RENDERED, {0: 0}, judge.Decision(True, "SuccessPolicy"), id="index 0 completes the job"),
        pytest.param(RENDERED, {2: 79}, None, id="a follower that leaves is ignored"),
        pytest.param(
            RENDERED, {2: 79, 0: 7}, judge.Decision(False, "PodFailurePolicy", 0), id="index 0 carries the code"
        ),
        pytest.param(RENDERED, {1: 64}, judge.Decision(False, "PodFailurePolicy", 1), id="64 fails the job"),
        pytest.param(RENDERED, {1: 137}, judge.Decision(False, "MaxFailedIndexesExceeded", 1), id="killed, no retries"),
        pytest.param(RETRYING, {1: 137}, None, id="killed, a cluster would retry"),
        pytest.param(
            RETRYING, {1: 137, 2: 79, 0: 79}, judge.Decision(False, "NotReplaced", 1), id="nobody left, nobody replaced"
        ),
        pytest.param(RENDERED, {0: 79, 1: 79, 2: 143}, judge.Decision(False, "NotReplaced", 0), id="all ignored"),
        pytest.param(PLAIN, {0: 0}, None, id="without successPolicy one completion is not enough"),
        pytest.param(PLAIN, {0: 0, 1: 0}, judge.Decision(True, "CompletionsReached"), id="all completions"),
        pytest.param(PLAIN | {"backoffLimit": 0}, {1: 1}, judge.Decision(False, "BackoffLimitExceeded", 1), id="limit"),
        pytest.param(
            PLAIN | {"backoffLimitPerIndex": 0},
            {1: 1, 0: 0},
            judge.Decision(False, "FailedIndexes", 1),
            id="some failed",
        ),
    ],
)
def test_the_manifest_decides(
    job_spec: dict[str, object], codes: dict[int, int], expected: judge.Decision | None
) -> None:
    """Exit codes and the rendered policies give the condition that Kubernetes would set."""
    assert expected == judge.decide(job_spec, codes)


@pytest.mark.parametrize(
    ("rule", "codes", "expected"),
    [
        pytest.param({"succeededIndexes": "0,2-3"}, {0: 0, 2: 0, 3: 0}, True, id="a list with a range"),
        pytest.param({"succeededIndexes": "0,2-3"}, {0: 0, 2: 0}, False, id="one is missing"),
        pytest.param({"succeededIndexes": "1-3", "succeededCount": 2}, {1: 0, 3: 0}, True, id="two of three"),
        pytest.param({"succeededCount": 2}, {0: 0, 3: 0}, True, id="any two"),
    ],
)
def test_success_policy_reads_kubernetes_lists(rule: dict[str, object], codes: dict[int, int], expected: bool) -> None:
    """`succeededIndexes` and `succeededCount` mean what they mean on a cluster."""
    decision = judge.decide({"completions": 5, "successPolicy": {"rules": [rule]}}, codes)

    assert expected == (decision is not None and decision.complete)


def test_not_in_matches_every_other_code() -> None:
    """The operator NotIn fails the Job on a code that is not listed."""
    rules = {"rules": [{"action": "FailJob", "onExitCodes": {"operator": "NotIn", "values": [7]}}]}
    job_spec = {"completions": 2, "podFailurePolicy": rules}

    assert judge.Decision(False, "PodFailurePolicy", 0) == judge.decide(job_spec, {0: 8})
    assert judge.decide(job_spec, {0: 7}) is None
