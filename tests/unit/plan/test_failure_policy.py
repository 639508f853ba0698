"""The rendered Job's podFailurePolicy, read as the Job controller reads it."""

import pytest

from k8sddp.plan import failure_policy
from tests.unit.render import jobs

DISRUPTED = ("DisruptionTarget", "True")


@pytest.mark.parametrize(
    ("exit_code", "conditions", "expected"),
    [
        pytest.param(1, (), "FailJob", id="the gang's last word"),
        pytest.param(64, (), "FailJob", id="the last of the ranks' codes"),
        pytest.param(75, (), "Count", id="infrastructure"),
        pytest.param(78, (), "FailJob", id="bad configuration"),
        pytest.param(79, (), "Ignore", id="a follower leaves"),
        pytest.param(143, (), "Ignore", id="asked to stop"),
        pytest.param(137, (), "Count", id="killed"),
        pytest.param(137, (DISRUPTED,), "Ignore", id="killed in a disruption"),
        pytest.param(137, (("DisruptionTarget", "False"),), "Count", id="a disruption that did not come"),
        pytest.param(None, (DISRUPTED,), "Ignore", id="disrupted before it ran"),
        pytest.param(None, (), "Count", id="never ran"),
        pytest.param(128, (), "FailJob", id="cannot be started"),
    ],
)
def test_the_first_rule_that_matches_decides(exit_code, conditions, expected):
    """Exit codes of the worker's table, and disruptions before them."""
    job = jobs.make_objects(nnodes=2)[-1]
    assert expected == failure_policy.action(job["spec"], exit_code=exit_code, conditions=conditions)


def test_with_gpus_a_container_that_cannot_be_started_counts():
    """The hook of the GPU runtime may have failed for a moment, after days of training."""
    job = jobs.make_objects(resources={"gpu": 1})[-1]
    assert "Count" == failure_policy.action(job["spec"], exit_code=128, conditions=())
