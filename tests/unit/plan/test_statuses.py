"""What is said about a job: its state, its nodes, times, and how it ended."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import Any

import pytest

from k8sddp import constants, plan
from k8sddp.plan import progress, statuses
from tests.unit.plan.observed import make_ended_pod, make_event, make_job, make_pod, make_verdict

NOW = datetime(2026, 11, 24, 0, 5, tzinfo=timezone.utc)
DISRUPTED = {
    "conditions": [{"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}],
    **{key: make_ended_pod(0, exit_code=1)["status"][key] for key in ("phase", "containerStatuses")},
}
DELETED = {"conditions": [{"type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager"}]}
RUNNING = (make_pod(0), make_pod(1, kube_node="node-b"))


def status(job: Any = None, pods: Any = RUNNING, events: Any = ()) -> plan.JobStatus:
    """Return the status five minutes after the job was made."""
    return plan.status(job or make_job(), pods, events, now=NOW)


@pytest.mark.parametrize(
    ("expected", "job", "pods"),
    [
        ("Pending", make_job(), ()),
        ("Pending", make_job(), (make_pod(0, phase="Pending", ready=False, kube_node=""),)),
        ("Starting", make_job(), (make_pod(0, phase="Pending"), make_pod(1, phase="Pending", kube_node=""))),
        ("Starting", make_job(), (make_pod(0), make_pod(1, ready=False))),
        ("Starting", make_job(), (make_pod(0),)),
        ("Running", make_job(), RUNNING),
        ("Running", make_job(), (make_pod(0), make_ended_pod(1, exit_code=0, reason="Completed"))),
        ("Failing", make_job(), (make_pod(0), make_ended_pod(1, exit_code=1))),
        ("Failing", make_job(), (make_pod(0), make_ended_pod(1, exit_code=79, message=make_verdict()))),
        ("Restarting", make_job(), (make_ended_pod(0, exit_code=143), make_ended_pod(1, exit_code=79))),
        ("Restarting", make_job(), (make_ended_pod(0, exit_code=143), make_pod(1, phase="Pending"))),
        ("Restarting", make_job(), (make_ended_pod(0, exit_code=1, status=DISRUPTED), make_ended_pod(1, exit_code=79))),
        ("Restarting", make_job(), (make_pod(0), make_ended_pod(1, exit_code=137, reason="OOMKilled"))),
        ("Failing", make_job(spec={"backoffLimitPerIndex": 0}), (make_pod(0), make_ended_pod(1, exit_code=137))),
        ("Failing", make_job(conditions={"FailureTarget": "PodFailurePolicy"}), RUNNING),
        ("Completing", make_job(conditions={"SuccessCriteriaMet": "SuccessPolicy"}), RUNNING),
        ("Complete", make_job(conditions={"SuccessCriteriaMet": "", "Complete": ""}), RUNNING),
        ("Failed", make_job(conditions={"FailureTarget": "", "Failed": ""}), RUNNING),
        ("Suspended", make_job(spec={"suspend": True}), ()),
        ("Deleting", make_job(deletionTimestamp="2026-11-24T00:00:00Z"), RUNNING),
    ],
)  # fmt: skip
def test_state_is_one_word(expected: str, job: Any, pods: Any) -> None:
    """Final conditions first, then what ends, then what the pods do."""
    assert expected == status(job, pods).state


def test_remarks_are_of_a_complete_job() -> None:
    """As node 0 wrote them; a job that failed has a reason, which is more."""
    said = json.dumps({"schema": 1, "outcome": "complete", "remarks": ["the ranks trained\nseparately", 7]})
    pods = (make_ended_pod(0, exit_code=0, message=said), make_ended_pod(1, exit_code=79, message=said))
    assert ("the ranks trained separately",) == status(make_job(conditions={"Complete": ""}), pods).remarks
    assert () == status(make_job(conditions={"Failed": ""}), pods).remarks


def test_interrupted_creation_is_incomplete() -> None:
    """Suspended by us and marked: not the same as suspended by somebody."""
    job = make_job(spec={"suspend": True})
    job["metadata"]["annotations"][constants.ANNOTATION_INCOMPLETE] = "true"
    assert "Incomplete" == status(job, ()).state


@pytest.mark.parametrize(
    ("expected", "state"),
    [("Complete", "Complete"), ("Failed", "Failed"), ("Running", None)],
)
def test_only_complete_and_failed_are_finished(expected: str, state: str | None) -> None:
    """Everything else may still change."""
    found = status(make_job(conditions={state: ""} if state else {}))
    assert expected == found.state
    assert (state is not None) == found.finished
    assert (found.exit_code is not None) == found.finished


def test_nodes_show_pod_kube_node_state_and_note() -> None:
    """One row per completion index, a missing pod included."""
    job = make_job(spec={"completions": 3})
    pods = (make_pod(0), make_ended_pod(1, exit_code=137, reason="OOMKilled", kube_node="node-b"))
    expected = (
        plan.NodeStatus(0, "digits-0-abcde", "node-a", "Running", ""),
        plan.NodeStatus(1, "digits-1-abcde", "node-b", "Failed", "OOMKilled"),
        plan.NodeStatus(2, "", "", "Missing", ""),
    )
    found = status(job, pods)
    assert expected == found.nodes
    assert (1, 3) == (found.ready, found.nnodes)


@pytest.mark.parametrize(
    ("expected", "pod"),
    [
        ("exit code 7", make_ended_pod(exit_code=7)),
        ("", make_ended_pod(exit_code=0, reason="Completed")),
        ("ImagePullBackOff", make_pod(phase="Pending", container={"waiting": {"reason": "ImagePullBackOff"}})),
        ("Evicted", make_pod(phase="Failed", status={"reason": "Evicted"})),
    ],
    ids=["exit code", "done", "waiting", "evicted"],
)
def test_note_says_why_it_does_not_run(expected: str, pod: Any) -> None:
    """Kubernetes' own word, which people search for; of a plain error the exit code."""
    assert expected == status(pods=(pod,)).nodes[0].note


def test_replacement_counts_instead_of_the_pod_it_replaces() -> None:
    """An index may have several pods; the one that is not ending, then the youngest."""
    old = make_pod(0, uid="old", name="digits-0-older", deletionTimestamp="2026-11-24T00:04:00Z")
    new = make_pod(0, uid="new", name="digits-0-newer", creationTimestamp="2026-11-24T00:04:30Z")
    for pods in ((old, new), (new, old)):
        assert "digits-0-newer" == status(pods=pods).nodes[0].pod


def test_pods_of_no_index_are_left_out() -> None:
    """A pod that carries the label by mistake is no node."""
    stray = make_pod(0, labels={})
    assert ["Missing", "Missing"] == [node.state for node in status(pods=(stray,)).nodes]


def test_times_end_with_the_job() -> None:
    """Age goes on, the duration stops."""
    job = make_job(conditions={"Complete": ""})
    assert (300.0, 290.0) == (status().age, status().duration)
    job["status"]["completionTime"] = "2026-11-24T00:01:10Z"
    assert (300.0, 60.0) == (status(job).age, status(job).duration)
    failed = make_job(conditions={"Failed": ""})
    failed["status"]["conditions"][0]["lastTransitionTime"] = "2026-11-24T00:00:40Z"
    assert 30.0 == status(failed).duration


@pytest.mark.parametrize(
    ("condition", "ending", "end"),
    [("SuccessCriteriaMet", "Completing", "Complete"), ("FailureTarget", "Failing", "Failed")],
)
def test_pods_on_a_dead_kube_node_do_not_keep_a_job_from_its_end(condition: str, ending: str, end: str) -> None:
    """The Job controller waits for each pod to end, and those never do; one that is only being ended does."""
    job = make_job(conditions={condition: ""})
    dead = make_pod(1, deletionTimestamp="2026-11-24T00:02:00Z", status=DELETED)
    alive = make_pod(1, deletionTimestamp="2026-11-24T00:02:00Z")
    pods = (make_ended_pod(0, exit_code=0), make_ended_pod(1, exit_code=0))
    assert (end, True) == (status(job, (*pods, dead)).state, status(job, (*pods, dead)).finished)
    assert (ending, ending) == (status(job, (*pods, alive)).state, status(job, (*pods, dead, alive)).state)
    assert ("Running", "Deleting") == (
        status(pods=(*RUNNING, dead)).state,
        status(make_job(conditions={condition: ""}, deletionTimestamp="x"), (*pods, dead)).state,
    )


def test_job_that_has_not_started_has_no_duration() -> None:
    """No status at all is what a new Job has."""
    job = make_job(spec={"suspend": True})
    del job["status"]
    assert status(job, ()).duration is None


@pytest.mark.parametrize(
    ("expected", "seconds"),
    [("0s", -5), ("0s", 0.9), ("59s", 59), ("1m", 60), ("2m5s", 125), ("15m", 959), ("3h20m", 12000), ("9d", 777600)],
)
def test_age_is_short(expected: str, seconds: float) -> None:
    """As kubectl shows it: the second unit only below ten of the first."""
    assert expected == statuses.age(seconds)


def test_complete_job_ends_with_zero_and_says_no_failure() -> None:
    """A pod that failed on the way does not matter any more."""
    found = status(make_job(conditions={"Complete": ""}), (make_ended_pod(1, message=make_verdict(message="x")),))
    assert (0, "", False) == (found.exit_code, found.first_failure, bool(found.waiting))


def test_running_job_waits_for_nothing() -> None:
    """The sentence is there only when something is not as it should be."""
    assert not status().waiting
    assert status(pods=()).waiting


def test_a_restart_within_the_limit_is_no_failure() -> None:
    """The Job makes another pod of the index; there is nothing to blame yet."""
    found = status(pods=(make_pod(0), make_ended_pod(1, exit_code=137, reason="OOMKilled")))
    assert "" == found.first_failure
    assert found.waiting.sentence.startswith("node 1 (pod digits-1-abcde): ended (OOMKilled); the Job makes a new pod")


def test_earlier_attempts_are_told_when_the_job_has_ended() -> None:
    """One sentence each, from the verdict of the lowest index; what is not a history is passed over."""
    history = [
        {"attempt": 0, "counted": True, "message": "rank 1 (pod digits-1-x) was killed by SIGKILL"},
        {"attempt": 1, "counted": False, "message": "node 0 (pod digits-0-y) was asked to stop (SIGTERM)"},
        "nonsense",
    ]
    message = json.dumps({"schema": 1, "outcome": "complete", "first_failure": None, "history": history})
    pods = [make_ended_pod(0, exit_code=0, message=message), make_ended_pod(1, exit_code=0)]
    told = status(make_job(conditions={"Complete": "SuccessPolicy"}), pods)
    assert (
        "attempt 0 ended: rank 1 (pod digits-1-x) was killed by SIGKILL",
        "attempt 1 ended: node 0 (pod digits-0-y) was asked to stop (SIGTERM) (a disruption, not counted)",
    ) == told.history


AWAY = {
    "conditions": [
        {"type": "Ready", "status": "False", "lastTransitionTime": "2026-11-24T00:04:00Z"},
        {"type": "ContainersReady", "status": "True", "lastTransitionTime": "2026-11-24T00:00:30Z"},
    ]
}
LOST_ITS_GANG = {
    "conditions": [{"type": "Ready", "status": "False", "lastTransitionTime": "2026-11-24T00:04:00Z"}],
}
RUNS = {"running": {"startedAt": "2026-11-24T00:00:20Z"}}
TIMED_OUT = make_event("Unhealthy", "Readiness probe failed: context deadline exceeded", at="00:04:00")


@pytest.mark.parametrize(
    ("expected", "job", "ready", "pod", "events"),
    [
        ("Unreachable", "Running", 1, make_pod(0, container=RUNS, status=AWAY), ()),
        ("Restarting", "Restarting", 1, make_pod(0, container=RUNS, status=LOST_ITS_GANG), ()),
        ("Frozen", "Running", 1, make_pod(0, container=RUNS, status=LOST_ITS_GANG), [TIMED_OUT]),
        ("Starting", "Starting", 1, make_pod(0, container=RUNS, ready=False), ()),
        ("Complete", "Running", 2, make_ended_pod(0, exit_code=0, reason="Completed"), ()),
    ],
    ids=["its kube node is away", "lost its gang", "frozen", "starting", "has done its part"],
)
def test_a_pod_that_is_not_ready_is_told_by_why(expected: str, job: str, ready: int, pod: Any, events: Any) -> None:
    """Of the pod, and what that makes of the job; ranks on an unseen Kubernetes Node may train on."""
    found = status(pods=(pod, make_pod(1)), events=events)
    assert (expected, job, ready) == (found.nodes[0].state, found.state, found.ready)


def test_all_nodes_of_a_complete_job_are_ready() -> None:
    """Though no pod is, or is left."""
    done = make_job(conditions={"Complete": ""})
    assert [(2, 2), (2, 2)] == [(one.ready, one.nnodes) for one in (status(done, ()), status(done))]
    assert 0 == status(make_job(conditions={"Failed": ""}), ()).ready


TOLD = progress.Progress(
    "training",
    attempt=3,
    spent=1,
    max_attempts=4,
    ranks=(progress.Rank(0, 12, 0.5),),
    history=("attempt 2 ended: x",),
)


def test_a_running_job_tells_what_runs_and_what_was() -> None:
    """Attempt, step, budget, how often it was restarted and how earlier attempts ended: node 0 knows."""
    found = plan.status(make_job(), RUNNING, (), now=NOW, progress=TOLD)
    assert "attempt 3, step 12, 2 steps/s" == found.running
    assert (3, "1 of 4 attempts used", ("attempt 2 ended: x",)) == (found.restarts, found.attempts, found.history)


def test_a_finished_job_tells_its_account_from_the_verdict() -> None:
    """What node 0 said while it ran does not matter any more."""
    message = json.dumps({"schema": 1, "outcome": "failed", "attempt": 5, "spent": 4, "max_attempts": 4})
    job = make_job(conditions={"Failed": "PodFailurePolicy"})
    found = plan.status(job, [make_ended_pod(0, message=message)], (), now=NOW, progress=TOLD)
    assert (5, "4 of 4 attempts used", "") == (found.restarts, found.attempts, found.running)


@pytest.mark.parametrize(
    ("expected", "pods"),
    [
        (0, (make_pod(0, phase="Pending", ready=False),)),
        (None, (make_pod(0, container=RUNS), make_pod(1, container=RUNS))),
        (3, (make_pod(0, container=RUNS), make_pod(1, container=RUNS, annotations={
            "batch.kubernetes.io/job-index-failure-count": "1",
            "batch.kubernetes.io/job-index-ignored-failure-count": "2"}))),
    ],
    ids=["nothing has run", "nobody says", "replaced pods are counted"],
)  # fmt: skip
def test_restarts_without_a_word_of_node_0(expected: int | None, pods: Any) -> None:
    """Each replaced pod made the gang start anew; whether ranks did beside that, the pods do not show."""
    assert expected == status(pods=pods).restarts


@pytest.mark.parametrize(
    ("expected", "attempt", "spent", "counts"),
    [
        (2, 10, 2, [(2, 0)]),
        (3, 10, 1, [(1, 2)]),
        (10, 10, 1, [(0, 0), (3, 2)]),
        (0, 0, 0, []),
    ],
    ids=["two counted evictions", "one counted, two not", "node 0 remembers", "the first attempt"],
)
def test_numbers_that_were_passed_over_are_no_restarts(
    expected: int, attempt: int, spent: int, counts: list[tuple[int, int]]
) -> None:
    """A job of one node that was evicted twice is in attempt 10: the number only grows, and nobody remembers it."""
    pods = [make_pod(index, container=RUNS, annotations={
        "batch.kubernetes.io/job-index-failure-count": str(failed),
        "batch.kubernetes.io/job-index-ignored-failure-count": str(ignored)})
        for index, (failed, ignored) in enumerate(counts)]  # fmt: skip
    told = progress.Progress("training", attempt=attempt, spent=spent, max_attempts=4)
    assert expected == plan.status(make_job(), pods, (), now=NOW, progress=told).restarts


def test_a_running_job_tells_what_its_replaced_pods_knew() -> None:
    """Where node 0 cannot be asked, a pod that gave up has left the history."""
    history = [{"attempt": 0, "counted": True, "message": "rank 1 was killed by SIGKILL"}]
    message = json.dumps({"schema": 1, "outcome": "stopped", "history": history})
    old = make_ended_pod(0, exit_code=75, message=message, uid="old")
    young = make_pod(0, creationTimestamp="2026-11-24T00:04:00Z")
    assert ("attempt 0 ended: rank 1 was killed by SIGKILL",) == status(pods=(old, young, make_pod(1))).history
