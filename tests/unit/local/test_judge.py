"""The Job's end, and what it replaces, follow the manifest's own rules, as on a cluster."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k8sddp.local import judge

RENDERED = {
    "completions": 3,
    "backoffLimitPerIndex": 0,
    "maxFailedIndexes": 0,
    "successPolicy": {"rules": [{"succeededIndexes": "0"}]},
    "podFailurePolicy": {
        "rules": [
            {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
            {"action": "Ignore", "onExitCodes": {"operator": "In", "values": [79, 143]}},
            {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [*range(1, 65), 76, 77, 78, 128]}},
        ]
    },
}
RETRYING = RENDERED | {"backoffLimitPerIndex": 2}
PLAIN = {"completions": 2}
LOST = -1  # in the tables below: 137, and Kubernetes would have said DisruptionTarget


def ends(*pods: tuple[int, int]) -> list[judge.End]:
    """Return the ends of pods given as (index, exit code), with the names that a local run gives."""
    made: list[judge.End] = []
    for index, code in pods:
        ordinal = 1 + sum(end.index == index for end in made)
        name = f"digits-{index}" + (f"-{ordinal}" if ordinal > 1 else "")
        made.append(judge.End(name, index, 137 if code == LOST else code, disrupted=code == LOST))
    return made


@pytest.mark.parametrize(
    ("job_spec", "pods", "expected"),
    [
        pytest.param(RENDERED, [], None, id="nothing has ended"),
        pytest.param(RENDERED, [(1, 0)], None, id="success of a follower decides nothing"),
        pytest.param(RENDERED, [(0, 0)], (True, "SuccessPolicy", "digits-0"), id="index 0 completes the job"),
        pytest.param(RENDERED, [(2, 79)], None, id="a follower that leaves is ignored"),
        pytest.param(RENDERED, [(1, LOST)], None, id="a lost node is ignored"),
        pytest.param(
            RENDERED, [(2, 79), (0, 7)], (False, "PodFailurePolicy", "digits-0"), id="index 0 carries the code"
        ),
        pytest.param(RENDERED, [(1, 64)], (False, "PodFailurePolicy", "digits-1"), id="64 fails the job"),
        pytest.param(RETRYING, [(1, 128)], (False, "PodFailurePolicy", "digits-1"), id="a program that cannot start"),
        pytest.param(
            RENDERED, [(1, 137)], (False, "MaxFailedIndexesExceeded", "digits-1"), id="killed, nothing is replaced"
        ),
        pytest.param(RETRYING, [(1, 137), (1, 75)], None, id="killed twice, two are allowed"),
        pytest.param(
            RETRYING,
            [(1, 137), (1, 75), (2, 137), (1, 137)],
            (False, "MaxFailedIndexesExceeded", "digits-1-3"),
            id="three times are too often",
        ),
        pytest.param(RETRYING, [(1, 143)] * 9 + [(1, LOST)] * 9, None, id="what is ignored has no limit"),
        pytest.param(RETRYING, [(0, 137), (0, 0)], (True, "SuccessPolicy", "digits-0-2"), id="a replacement completes"),
        pytest.param(PLAIN, [(0, 0)], None, id="without successPolicy one completion is not enough"),
        pytest.param(PLAIN, [(0, 0), (1, 0)], (True, "CompletionsReached", "digits-1"), id="all completions"),
        pytest.param(
            PLAIN | {"backoffLimit": 1},
            [(0, 1), (1, 1)],
            (False, "BackoffLimitExceeded", "digits-1"),
            id="the limit of the whole job",
        ),
        pytest.param(
            PLAIN | {"backoffLimitPerIndex": 0},
            [(1, 1), (0, 0)],
            (False, "FailedIndexes", "digits-1"),
            id="some failed",
        ),
    ],
)
def test_the_manifest_decides(
    job_spec: dict[str, object], pods: list[tuple[int, int]], expected: tuple[bool, str, str] | None
) -> None:
    """Exit codes and the rendered policies give the condition that Kubernetes would set, and the pod that decided."""
    decision = judge.decide(job_spec, ends(*pods))

    got = None
    if decision is not None:
        assert decision.end is not None
        got = (decision.complete, decision.reason, decision.end.pod)
    assert expected == got


@pytest.mark.parametrize(
    ("pods", "expected"),
    [
        pytest.param([(1, 0)], None, id="an index that is complete"),
        pytest.param([(1, 137)], judge.Replacement(1, 2, 1, 0, 1.0), id="killed: counted"),
        pytest.param([(1, 75)], judge.Replacement(1, 2, 1, 0, 1.0), id="infrastructure: counted"),
        pytest.param([(1, 143)], judge.Replacement(1, 2, 0, 1, 1.0), id="asked to stop: ignored"),
        pytest.param([(1, LOST)], judge.Replacement(1, 2, 0, 1, 1.0), id="lost with its node: ignored"),
        pytest.param([(1, 79)], judge.Replacement(1, 2, 0, 1, 10.0), id="left by itself: node 0 ends first"),
        pytest.param([(0, 137), (1, 137), (1, 143)], judge.Replacement(1, 3, 1, 1, 2.0), id="by index, doubled"),
        pytest.param([(1, 143)] * 9, judge.Replacement(1, 10, 0, 9, 60.0), id="bounded"),
        pytest.param([(1, 143)] * 5000, judge.Replacement(1, 5001, 0, 5000, 60.0), id="for ever"),
    ],
)
def test_a_pod_is_replaced_as_the_job_controller_does(
    pods: list[tuple[int, int]], expected: judge.Replacement | None
) -> None:
    """Counts by index as in the pod's annotations, and a tenth of the cluster's back-off."""
    assert expected == judge.replacement(RETRYING, ends(*pods))


def test_an_index_over_its_limit_is_not_replaced() -> None:
    """Where maxFailedIndexes lets the Job go on without it."""
    job_spec = PLAIN | {"backoffLimitPerIndex": 1}

    assert judge.decide(job_spec, ends((1, 1), (1, 1))) is None
    assert judge.replacement(job_spec, ends((1, 1))) is not None
    assert judge.replacement(job_spec, ends((1, 1), (1, 1))) is None


@pytest.mark.parametrize(
    ("rule", "indexes", "expected"),
    [
        pytest.param({"succeededIndexes": "0,2-3"}, [0, 2, 3], True, id="a list with a range"),
        pytest.param({"succeededIndexes": "0,2-3"}, [0, 2], False, id="one is missing"),
        pytest.param({"succeededIndexes": "1-3", "succeededCount": 2}, [1, 3], True, id="two of three"),
        pytest.param({"succeededCount": 2}, [0, 3], True, id="any two"),
    ],
)
def test_success_policy_reads_kubernetes_lists(rule: dict[str, object], indexes: list[int], expected: bool) -> None:
    """`succeededIndexes` and `succeededCount` mean what they mean on a cluster."""
    job_spec = {"completions": 5, "successPolicy": {"rules": [rule]}}

    decision = judge.decide(job_spec, ends(*((index, 0) for index in indexes)))

    assert expected == (decision is not None and decision.complete)


def test_not_in_matches_every_other_code() -> None:
    """The operator NotIn fails the Job on a code that is not listed."""
    rules = {"rules": [{"action": "FailJob", "onExitCodes": {"operator": "NotIn", "values": [7]}}]}
    job_spec = {"completions": 2, "podFailurePolicy": rules}

    decision = judge.decide(job_spec, ends((0, 8)))

    assert decision is not None
    assert "PodFailurePolicy" == decision.reason
    assert judge.decide(job_spec, ends((0, 7))) is None


codes = st.sampled_from([0, 1, 64, 75, 79, 137, 143, LOST])
job_specs = st.builds(
    lambda rules, limit, failed, policy: {"completions": 3, **rules, **limit, **failed, **policy},
    st.sampled_from([{}, {"podFailurePolicy": RENDERED["podFailurePolicy"]}]),
    st.sampled_from([{}, {"backoffLimit": 2}, {"backoffLimitPerIndex": 0}, {"backoffLimitPerIndex": 2}]),
    st.sampled_from([{}, {"maxFailedIndexes": 0}, {"maxFailedIndexes": 1}]),
    st.sampled_from([{}, {"successPolicy": RENDERED["successPolicy"]}]),
)


@given(job_specs, st.lists(st.tuples(st.integers(0, 2), codes), max_size=30))
def test_a_job_that_is_not_decided_has_a_pod_that_runs_or_will(
    job_spec: dict[str, object], wishes: list[tuple[int, int]]
) -> None:
    """No run can wait for nothing, and nothing starts that the limits forbid."""
    happened: list[tuple[int, int]] = []
    running = {0, 1, 2}
    for index, code in wishes:
        if index not in running:
            continue
        happened.append((index, code))
        so_far = ends(*happened)
        if judge.decide(job_spec, so_far) is not None:
            return
        following = judge.replacement(job_spec, so_far)
        if following is None:
            running.remove(index)
        else:
            assert following.ordinal == following.failures + following.ignored + 1
            assert following.failures <= job_spec.get("backoffLimitPerIndex", following.failures)
    assert running
