"""The first failure in one sentence, and the exit code of the job."""

from __future__ import annotations

from typing import Any

import pytest

from k8sddp.plan import failures
from k8sddp.worker.contract import verdict as verdicts
from tests.unit.plan.observed import make_ended_pod, make_job, make_pod, make_verdict

FAILED = make_job(conditions={"Failed": "PodFailurePolicy"})
RAISED = "rank 1 (pod digits-1, node node-b) raised ValueError: bad"
SENTENCE = f"{RAISED} (exit code 1)"


def first(*pods: Any, job: Any = FAILED) -> failures.Diagnosis:
    """Return the first failure of the failed job."""
    return failures.first(job, pods)


def test_verdict_of_the_gang_is_believed() -> None:
    """The coordinator saw all nodes; its sentence, traceback and code are passed on."""
    said = make_verdict(exit_code=3, message=RAISED, traceback="line 1\nline 2")
    found = first(make_ended_pod(0, exit_code=3, message=said), make_ended_pod(1, exit_code=79, message=said))
    assert (SENTENCE, 3, "line 1\nline 2") == (found.sentence, found.exit_code, found.traceback)


@pytest.mark.parametrize(
    ("cause", "code"),
    [
        ({"exit_code": 1}, " (exit code 1)"),
        ({"exit_code": -6}, ""),
        ({"exit_code": None}, ""),
        ({"exit_code": 3, "kind": "exit"}, ""),
    ],
    ids=["an exception", "killed after it", "unknown", "an exit says it itself"],
)
def test_an_exception_is_told_with_its_exit_code(cause: dict[str, Any], code: str) -> None:
    """Rank, exception and exit code in one sentence."""
    first_failure = verdicts.FirstFailure("exception", RAISED)._replace(**cause)
    assert f"{RAISED}{code}" == failures.with_exit_code(RAISED, first_failure)


def test_verdict_of_the_pod_with_the_final_code_wins() -> None:
    """A follower may have seen only the end of its connection."""
    follower = make_ended_pod(0, exit_code=79, message=make_verdict(exit_code=79, message="node 1 left"))
    decided = make_ended_pod(1, exit_code=1, message=make_verdict(exit_code=1, message=RAISED))
    found = first(follower, decided)
    assert (SENTENCE, 1) == (found.sentence, found.exit_code)


def test_out_of_memory_is_named_where_the_gang_only_saw_a_lost_node() -> None:
    """Nobody in the container can report it; the pod's status does."""
    lost = make_verdict(exit_code=64, message="node 1 was lost", **{"class": "lost"})
    killed = make_ended_pod(1, exit_code=137, reason="OOMKilled", kube_node="node-b")
    killed_job = make_job(conditions={"Failed": "PodFailurePolicy"})
    limits = {"resources": {"limits": {"memory": "2Gi"}}}
    killed_job["spec"]["template"]["spec"]["containers"][0].update(limits)
    found = first(make_ended_pod(0, exit_code=64, message=lost), killed, job=killed_job)
    expected = (
        "pod digits-1-abcde (Kubernetes Node node-b) ran out of memory (OOMKilled, limit 2Gi): "
        "raise spec.resources.memory"
    )
    assert (expected, 64) == (found.sentence, found.exit_code)


def test_a_pod_lost_in_an_earlier_attempt_is_not_the_cause() -> None:
    """The verdict names the pod that decided; the preempted one came before it and cost nothing."""
    disrupted = [{"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}]
    earlier = make_ended_pod(1, exit_code=143, name="digits-1-older", finished="00:00:20")
    earlier["status"]["conditions"] = disrupted
    killed = make_ended_pod(0, exit_code=137, reason="OOMKilled")
    lost = make_verdict(exit_code=64, message="node 0 was lost", pod="digits-0-abcde", **{"class": "lost"})
    decided = make_ended_pod(1, exit_code=64, message=lost)
    assert first(earlier, killed, decided).sentence.startswith("pod digits-0-abcde (Kubernetes Node node-a) ran out")
    assert "node 0 was lost" == first(earlier, decided).sentence  # the pod that is named has been deleted


@pytest.mark.parametrize(
    ("expected", "cause"),
    [
        ("rank 1 in pod digits-1-abcde (Kubernetes Node node-a) ran out of memory (OOMKilled", {"signal": "SIGKILL"}),
        (SENTENCE, {"class": "exception"}),
    ],
    ids=["killed", "raised"],
)
def test_rank_killed_for_its_memory_is_told_from_one_that_raised(expected: str, cause: Any) -> None:
    """The worker can only guess; Kubernetes marks the container in which any process was killed for memory."""
    verdict = make_verdict(message=RAISED, pod="digits-1-abcde", **cause)
    hungry = make_ended_pod(1, exit_code=79, reason="OOMKilled", message=verdict)
    assert first(make_ended_pod(0, exit_code=64, message=verdict), hungry).sentence.startswith(expected)


def test_exception_stays_the_cause_where_another_pod_was_ended_after_it() -> None:
    """An eviction during the ending is no cause."""
    raised = make_ended_pod(0, exit_code=1, message=make_verdict(message=RAISED))
    evicted = make_pod(1, phase="Failed", status={"reason": "Evicted", "message": "disk"})
    assert SENTENCE == first(raised, evicted).sentence


@pytest.mark.parametrize(
    ("expected", "pod"),
    [
        ("was evicted by its Kubernetes Node (The node was low on resource: memory.)",
         make_pod(phase="Failed", status={"reason": "Evicted", "message": "The node was low on resource: memory."})),
        ("was preempted by a pod of higher priority",
         make_pod(phase="Failed", status={"conditions": [
             {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}]})),
        ("was ended because its Kubernetes Node shut down", make_pod(phase="Failed", status={"reason": "Terminated"})),
        ("was lost with its Kubernetes Node", make_pod(phase="Failed", status={"reason": "NodeLost"})),
        ("was lost with its Kubernetes Node (taint manager)", make_pod(phase="Failed", status={"conditions": [
             {"type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager",
              "message": "taint manager"}]})),
        ("could not start its container (exec: python3: not found)",
         make_ended_pod(exit_code=128, reason="StartError", message="exec: python3: not found")),
        ("exited with code 137 (killed by signal 9)", make_ended_pod(exit_code=137)),
        ("exited with code 5: Killed by the admin", make_ended_pod(exit_code=5, message="Killed by the admin")),
    ],
    ids=["evicted", "preempted", "node shutdown", "node lost", "node tainted", "cannot start", "signal", "plain text"],
)  # fmt: skip
def test_pod_that_kubernetes_ended_is_explained(expected: str, pod: Any) -> None:
    """One table row, one sentence."""
    assert f"pod digits-0-abcde (Kubernetes Node node-a) {expected}" == first(pod).sentence


@pytest.mark.parametrize(
    "message",
    [
        "",
        "{",
        '{"first_failure": {"mess',
        "[]",
        "null",
        '"text"',
        '{"first_failure": 7, "exit_code": "x"}',
        "\x00\ufffd",
        "[" * 4000,
    ],
)
def test_termination_message_that_is_no_verdict_is_survived(message: str) -> None:
    """Cut off at 4096 bytes, empty, or another program's: the container's own code is said."""
    found = first(make_ended_pod(0, exit_code=3, message=message))
    assert found.sentence.startswith("pod digits-0-abcde (Kubernetes Node node-a) exited with code 3")
    assert 3 == found.exit_code


def test_verdict_without_a_sentence_falls_back_to_the_container() -> None:
    """A newer or older worker may write other keys."""
    found = first(make_ended_pod(0, exit_code=2, message='{"schema": 9, "first_failure": {"new": "key"}}'))
    assert "pod digits-0-abcde (Kubernetes Node node-a) exited with code 2" == found.sentence


@pytest.mark.parametrize(
    ("expected", "reason"),
    [
        (
            "the job ran longer than spec.activeDeadlineSeconds (60 s)",
            "DeadlineExceeded",
        ),
        ("the Job failed: a node failed more often than the Job allows; no pod is left", "MaxFailedIndexesExceeded"),
        ("the Job failed: SomethingNew; no pod is left", "SomethingNew"),
    ],
)
def test_job_without_pods_says_its_own_reason(expected: str, reason: str) -> None:
    """Deleted pods take their messages along."""
    job = make_job(conditions={"Failed": reason}, spec={"activeDeadlineSeconds": 60})
    found = first(job=job)
    assert found.sentence.startswith(expected)
    assert 1 == found.exit_code


def test_deadline_is_the_cause_whatever_code_the_stopped_ranks_had() -> None:
    """SIGTERM makes every container exit; none of them failed."""
    job = make_job(conditions={"Failed": "DeadlineExceeded"}, spec={"activeDeadlineSeconds": 60})
    assert "activeDeadlineSeconds (60 s)" in first(make_ended_pod(0, exit_code=143), job=job).sentence


@pytest.mark.parametrize("outcome", ["stopped", "failed"])
def test_after_a_deadline_an_old_pods_word_is_nothing(outcome: str) -> None:
    """It gave up waiting for the others, long before the job trained and its time was up."""
    job = make_job(conditions={"Failed": "DeadlineExceeded"}, spec={"activeDeadlineSeconds": 60})
    said = make_verdict(exit_code=75, outcome=outcome, message="node 1 never joined", **{"class": "infrastructure"})
    old = make_ended_pod(0, exit_code=75, name="digits-0-older", message=said)
    stopped = make_verdict(exit_code=143, outcome="stopped", message="rank 0 was slow")
    found = first(old, make_ended_pod(0, exit_code=143, message=stopped), job=job)
    assert ("the job ran longer than spec.activeDeadlineSeconds (60 s)", 1) == (found.sentence, found.exit_code)


def test_a_failure_that_came_before_the_deadline_is_told() -> None:
    """The gang had its end; the deadline only found its pods still there."""
    job = make_job(conditions={"FailureTarget": "DeadlineExceeded"}, spec={"activeDeadlineSeconds": 60})
    assert SENTENCE == first(make_ended_pod(0, exit_code=1, message=make_verdict(message=RAISED)), job=job).sentence


def test_the_jobs_end_goes_before_the_word_of_a_pod_that_left_alone() -> None:
    """Whatever its index: `stopped` is no verdict on the job while there is one."""
    alone = make_verdict(exit_code=75, outcome="stopped", message="node 1 never joined")
    found = first(
        make_ended_pod(0, exit_code=75, message=alone),
        make_ended_pod(1, exit_code=79, message=make_verdict(message=RAISED)),
    )
    assert SENTENCE == found.sentence


def test_the_failure_says_of_which_attempt() -> None:
    """Where there were several."""
    said = make_verdict(message=RAISED, attempt=2, max_attempts=3)
    assert 2 == first(make_ended_pod(0, message=said)).attempt
    assert first(make_ended_pod(0, message=make_verdict(message=RAISED, attempt=0, max_attempts=1))).attempt is None


START_ERROR = (
    "failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: "
    "unable to start container process: error during container init: {}"
)


@pytest.mark.parametrize(
    ("message", "end"),
    [
        (
            'exec: "python9": executable file not found in $PATH',
            '(exec: "python9": executable file not found in $PATH): set spec.python to the image\'s interpreter, '
            "or env.PATH",
        ),
        (
            'exec: "/opt/python": stat /opt/python: no such file or directory',
            '(exec: "/opt/python": stat /opt/python: no such file or directory): set spec.python to a program that the '
            "image has",
        ),
        ("device or resource busy", "could not start its container (device or resource busy)"),
    ],
)
def test_a_container_that_cannot_start_says_why_to_the_end(message: str, end: str) -> None:
    """runc's reason, without two hundred characters about who told whom."""
    found = first(make_ended_pod(exit_code=128, reason="StartError", message=START_ERROR.format(message)))
    assert found.sentence.endswith(end)


def test_the_exit_code_is_that_of_the_pod_that_failed_the_job() -> None:
    """Node 1 could not be started, which ends a job without GPUs; node 0 had given up before, for want of it."""
    waited = make_ended_pod(0, exit_code=75, finished="00:00:30")
    unstarted = make_ended_pod(1, exit_code=128, reason="StartError", message=START_ERROR.format("python9: not found"))
    found = first(waited, unstarted)
    assert (128, True) == (found.exit_code, found.sentence.endswith("python9: not found)"))


def test_history_is_certain_where_kubernetes_knows() -> None:
    """The worker can only guess that a rank was killed for its memory, or why a pod is gone."""
    killed = "rank 1 (pod digits-1-abcde, node b) was killed by SIGKILL (perhaps out of memory)"
    lost = "node 1 (pod digits-1-abcde, node b): its pod was lost without a word, or its network"
    hungry = make_ended_pod(1, exit_code=137, reason="OOMKilled")
    hungry["spec"]["containers"] = [{"name": "worker", "resources": {"limits": {"memory": "2Gi"}}}]
    text = "ran out of memory (OOMKilled, limit 2Gi): raise spec.resources.memory"
    assert f"rank 1 (pod digits-1-abcde, node b) {text}" == failures.with_certainty(killed, [hungry])
    assert f"node 1 (pod digits-1-abcde, node b): it {text}" == failures.with_certainty(lost, [hungry])
    assert killed == failures.with_certainty(killed, [make_ended_pod(1), make_ended_pod(0, reason="OOMKilled")])


def test_stopped_and_following_containers_are_no_failure() -> None:
    """79 and 143 are ways to leave; the first real code counts."""
    pods = (
        make_ended_pod(0, exit_code=143, finished="00:00:01"),
        make_ended_pod(1, exit_code=79, finished="00:00:02"),
        make_ended_pod(2, exit_code=9, finished="00:00:03"),
    )
    found = first(*pods)
    assert (9, True) == (found.exit_code, "digits-2-abcde" in found.sentence)


def test_earliest_of_equal_failures_is_named() -> None:
    """Without a verdict the time decides."""
    late, early = make_ended_pod(0, finished="00:00:09"), make_ended_pod(1, finished="00:00:03")
    assert "digits-1-abcde" in first(late, early).sentence


@pytest.mark.parametrize("kind", ["configuration", "preflight", "hang"])
def test_the_workers_own_sentences_are_told_whole(kind: str) -> None:
    """What is wrong and the likely reason: nothing of it may go, as the middle of a long exception may."""
    sentence = "node 1 (pod digits-1-abcde, node a): " + "the ranks formed a group of 2 " * 8 + "for a reason"
    said = make_verdict(exit_code=78, message=sentence, **{"class": kind})
    assert sentence == first(make_ended_pod(0, exit_code=78, message=said)).sentence


def test_long_sentences_are_cut_to_one_line() -> None:
    """A message may be 4 KB of anything."""
    found = first(make_ended_pod(0, message=make_verdict(message="word \n" * 900)))
    assert " ... " in found.sentence
    assert found.sentence.endswith("word (exit code 1)")
    assert len(found.sentence) <= 200 + len(" (exit code 1)")
    assert "\n" not in found.sentence
