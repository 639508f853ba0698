"""Replacements as the Job controller would make them, and only where it would make one."""

from __future__ import annotations

import copy
from collections.abc import Collection
from typing import Any

import pytest

from k8sddp import constants
from k8sddp.plan import replacing
from tests.unit.plan import observed
from tests.unit.render import jobs

FAILED = constants.ANNOTATION_BATCH_INDEX_FAILURE_COUNT
IGNORED = constants.ANNOTATION_BATCH_INDEX_IGNORED_FAILURE_COUNT
DISRUPTED = {"conditions": [{"type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager"}]}


def make_lost(exit_code: int = 137, **more: Any) -> dict[str, Any]:
    """Return pod 1 after its container ended."""
    return observed.make_ended_pod(1, exit_code=exit_code, **more)


def due(job: dict[str, Any], *pods: dict[str, Any], overdue: Collection[str] = ()) -> list[str]:
    """Return the names of the pods that are to be replaced."""
    return [pod["metadata"]["name"] for pod in replacing.due(job, pods, overdue=overdue)]


@pytest.mark.parametrize(
    ("exit_code", "expected"),
    [
        pytest.param(137, True, id="killed"),
        pytest.param(75, True, id="infrastructure"),
        pytest.param(143, True, id="asked to stop"),
        pytest.param(79, True, id="superseded"),
        pytest.param(3, False, id="a rank's own code"),
        pytest.param(77, False, id="preflight"),
        pytest.param(0, False, id="complete"),
    ],
)
def test_the_pod_failure_policy_decides(exit_code: int, expected: bool) -> None:
    """What fails the Job is not replaced, what counts or is ignored is."""
    assert expected == bool(due(observed.make_job(), observed.make_pod(0), make_lost(exit_code)))


def test_a_follower_of_a_finished_gang_is_not_replaced() -> None:
    """It left with 79 because the job has its end; its verdict says so."""
    assert [] == due(observed.make_job(), make_lost(79, message=observed.make_verdict()))


@pytest.mark.parametrize(
    "job",
    [
        pytest.param(observed.make_job(conditions={"FailureTarget": "x"}), id="failing"),
        pytest.param(observed.make_job(conditions={"Complete": "x"}), id="complete"),
        pytest.param(observed.make_job(spec={"suspend": True}), id="suspended"),
        pytest.param(observed.make_job(deletionTimestamp="2026-11-24T00:04:00Z"), id="deleted"),
    ],
)
def test_a_job_that_does_not_run_gets_no_pods(job: dict[str, Any]) -> None:
    """Its controller would remove them at once."""
    assert [] == due(job, make_lost())


def test_an_index_that_has_its_pod_gets_none() -> None:
    """The Job controller, or another client, was quicker."""
    newer = observed.make_pod(1, creationTimestamp="2026-11-24T00:02:00Z", name="digits-1-newer")
    assert [] == due(observed.make_job(), make_lost(), newer)


def test_an_index_over_its_limit_fails_the_job_instead() -> None:
    """backoffLimitPerIndex counts by the same annotation."""
    job = observed.make_job(spec={"backoffLimitPerIndex": 2})
    assert [True, True, False] == [bool(due(job, make_lost(annotations={FAILED: str(number)}))) for number in range(3)]
    assert due(job, make_lost(143, annotations={FAILED: "2"}))


@pytest.mark.parametrize(
    ("expected", "pod"),
    [
        pytest.param(True, make_lost(finished="00:00:30"), id="ran for 10 s"),
        pytest.param(False, make_lost(finished="00:00:29"), id="ran for 9 s"),
        pytest.param(False, make_lost(143, finished="00:00:21"), id="asked to stop after 1 s"),
        pytest.param(False, observed.make_pod(1, phase="Failed", status={"reason": "OutOfcpu"}), id="refused"),
        pytest.param(False, make_lost(128, reason="StartError"), id="not started"),
        pytest.param(False, make_lost(143, started="1970-01-01T00:00:00Z"), id="ended before its start"),
        pytest.param(False, observed.make_pod(1, phase="Failed", status=DISRUPTED), id="evicted before its start"),
        pytest.param(
            True,
            observed.make_pod(1, phase="Failed", container={"running": {"startedAt": "x"}}, status=DISRUPTED),
            id="collected with its Kubernetes Node",
        ),
    ],
)
def test_a_pod_that_hardly_ran_is_left_to_the_jobs_back_off(expected: bool, pod: dict[str, Any]) -> None:
    """At once, again and again, it would use up backoffLimitPerIndex; the first loss of an index is an accident."""
    first, second = copy.deepcopy(pod), copy.deepcopy(pod)
    second["metadata"]["annotations"] = {FAILED: "0", IGNORED: "1"}
    job = observed.stored(jobs.make_indexed_job(nnodes=2, resources={"gpu": 1}))
    assert (True, expected) == (bool(due(job, first)), bool(due(job, second)))


def test_a_container_that_cannot_be_started_is_not_replaced_in_a_job_without_gpus() -> None:
    """The Job has failed by its policy, though its condition may not be there yet."""
    assert [] == due(observed.make_job(), make_lost(128, reason="StartError"))


def test_a_pod_on_a_dead_kube_node_is_replaced_after_its_grace() -> None:
    """Its kubelet never says that it ended; a pod that is merely being deleted is left alone."""
    job = observed.make_job()
    at = {"deletionTimestamp": "2026-11-24T00:04:57Z", "deletionGracePeriodSeconds": 7}
    stuck, deleted, disrupted = (
        observed.make_pod(1, status=DISRUPTED, annotations={FAILED: "1"}, **at),
        observed.make_pod(1, **at),
        observed.make_pod(1, status=DISRUPTED),
    )
    late = ["pod-1"]
    assert ["digits-1-abcde"] == due(job, stuck, overdue=late)
    assert [[], [], []] == [due(job, stuck), due(job, deleted, overdue=late), due(job, disrupted, overdue=late)]


def test_patience_is_measured_from_the_first_sight_of_the_deletion() -> None:
    """The grace that the API server granted, and a little more; no timestamp, so that no clock has to be right."""
    at = {"deletionTimestamp": "2026-11-24T00:04:57Z"}
    granted = observed.make_pod(1, status=DISRUPTED, deletionGracePeriodSeconds=7, **at)
    unknown = observed.make_pod(0, status=DISRUPTED, **at)
    assert {"pod-1": 9.0, "pod-0": 32.0} == replacing.patience([granted, unknown])
    ended = make_lost(status={**DISRUPTED, "phase": "Failed"}, **at)
    assert {} == replacing.patience([observed.make_pod(1, **at), ended, observed.make_pod(0, status=DISRUPTED)])


@pytest.mark.parametrize(
    ("pod", "expected"),
    [
        pytest.param(make_lost(137), (1, 0), id="killed"),
        pytest.param(make_lost(143), (0, 1), id="asked to stop"),
        pytest.param(make_lost(137, status=DISRUPTED), (0, 1), id="evicted"),
        pytest.param(make_lost(137, annotations={FAILED: "2", IGNORED: "3"}), (3, 3), id="counted before"),
    ],
)
def test_the_counts_go_on(pod: dict[str, Any], expected: tuple[int, int]) -> None:
    """Failures and ignored ends of the index, as getNewIndexFailureCounts has them."""
    assert expected == replacing.counts(observed.make_job(), pod)


def test_the_replacement_is_a_pod_of_the_job() -> None:
    """Labels, owner, finalizer, host name, index and counts; made twice it has the same name."""
    job = observed.make_job()
    job["spec"]["template"]["metadata"]["labels"][constants.LABEL_BATCH_CONTROLLER_UID] = observed.JOB_UID
    pod = replacing.replacement(job, make_lost())
    metadata = pod["metadata"]
    assert metadata["name"].startswith("digits-1-")
    assert metadata["name"] == replacing.replacement(job, make_lost())["metadata"]["name"]
    assert metadata["name"] != replacing.replacement(job, make_lost(uid="another"))["metadata"]["name"]
    assert ("1", observed.JOB_UID) == (
        metadata["labels"][constants.LABEL_BATCH_INDEX],
        metadata["labels"][constants.LABEL_BATCH_CONTROLLER_UID],
    )
    assert ["batch.kubernetes.io/job-tracking"] == metadata["finalizers"]
    assert [("Job", observed.JOB_UID, True)] == [
        (owner["kind"], owner["uid"], owner["controller"]) for owner in metadata["ownerReferences"]
    ]
    assert "blockOwnerDeletion" not in metadata["ownerReferences"][0]
    assert {constants.LABEL_BATCH_INDEX: "1", FAILED: "1"} == {
        key: value for key, value in metadata["annotations"].items() if key.startswith("batch.")
    }
    assert "digits-1" == pod["spec"]["hostname"]
    assert "JOB_COMPLETION_INDEX" in [entry["name"] for entry in pod["spec"]["containers"][0]["env"]]
