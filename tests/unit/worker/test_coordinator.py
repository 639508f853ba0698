"""The coordinator's decisions: how an attempt ends, who is blamed, who leaves with which code."""

from __future__ import annotations

import pytest

from k8sddp.worker import root_cause
from k8sddp.worker.gang import coordinator, effects, ending, findings, messages, progress, retrying
from tests.unit.worker import gangs
from tests.unit.worker.gangs import cause_of

VICTIM = gangs.GONE


def test_success_needs_every_member() -> None:
    """Nobody is told before the last member reports; then all leave with 0."""
    gang = gangs.make_running(3)
    assert [] == gang.received(0, messages.Complete(0), 1.0)
    assert [] == gang.received(2, messages.Complete(0), 2.0)
    told = gangs.ends(gang.received(1, messages.Complete(0), 3.0))
    assert {0: 0, 1: 0, 2: 0} == {peer: end.code for peer, end in told.items()}


def rows(rank: int, step: int) -> list[list[object]]:
    return [progress.encode(progress.Rank(rank, step=step), still=0.0)]


def test_node_0_knows_how_far_all_ranks_are() -> None:
    """By what the members tell of the running attempt, and nothing of the one before is left in the next."""
    gang = gangs.make_running(3, max_attempts=2)
    for peer, attempt, step in ((0, 0, 5), (1, 0, 4), (2, 7, 6), (2, 0, 3)):
        assert [] == gang.received(peer, messages.Progress(attempt, rows(peer, step)), 3.0)
    assert [5, 4, 3] == [one.step for one in gang.watch.ranks.rows()]
    gang.received(9, messages.Progress(0, rows(2, 9)), 3.0)  # a stranger
    gang.received(1, gangs.failed(1), 4.0)
    gang.tick(5.0)
    gang.received(2, messages.Progress(0, rows(2, 9)), 5.0)  # while its ranks are being ended
    assert [5, 4, 3] == [one.step for one in gang.watch.ranks.rows()]
    for peer in range(3):
        effects_of_last = gang.received(peer, messages.Idle(0), 6.0)
    assert 3 == len(gangs.sent(effects_of_last, messages.Attempt))
    assert () == tuple(gang.watch.ranks)


def test_a_failure_is_decided_after_a_short_wait() -> None:
    """Node 0 leaves with the rank's code, the others with 79, all with the same verdict."""
    gang = gangs.make_running()
    assert {} == gangs.ends(gang.received(1, gangs.failed(1), 10.0))
    assert 10.0 + findings.WAIT_CAUSE == gang.deadline()
    assert [] == gang.tick(10.0)
    told = gangs.ends(gang.tick(10.0 + findings.WAIT_CAUSE))
    assert (1, 79) == (told[0].code, told[1].code)
    assert told[0].verdict == told[1].verdict


def test_nobody_waits_when_all_have_reported() -> None:
    """The verdict comes with the last report, before the settling time is over."""
    gang = gangs.make_running()
    gang.received(0, gangs.failed(0, VICTIM), 10.0)
    gang.received(0, messages.Over(0), 10.0)
    gang.received(1, gangs.failed(1), 10.01)
    assert {0, 1} == set(gangs.ends(gang.received(1, messages.Over(0), 10.01)))


@pytest.mark.parametrize("culprit_first", [True, False], ids=["culprit first", "victim first"])
def test_a_victim_is_not_blamed(culprit_first: bool) -> None:
    """Rank 1 raised, rank 0 lost its peer: rank 1 is the cause in either order of arrival, rank 0 the victim."""
    gang = gangs.make_running()
    reports = [(1, gangs.failed(1)), (0, gangs.failed(0, VICTIM))]
    for peer, report in reports if culprit_first else reversed(reports):
        gang.received(peer, report, 10.0)
    told = gangs.ends(gang.tick(11.0))
    assert (1, [0]) == (cause_of(told[0])["rank"], told[0].verdict["victims"])


def test_victims_are_waited_for_longer_but_not_for_ever() -> None:
    """With nothing but victims the earliest one is named after two seconds."""
    gang = gangs.make_running(3)
    gang.received(1, gangs.failed(1, VICTIM), 10.0)
    gang.received(2, gangs.failed(2, VICTIM), 11.0)
    assert 10.0 + findings.WAIT_VICTIM == gang.deadline()
    told = gangs.sent(gang.tick(12.0), messages.Ended)
    assert "rank 1" in str(told[0].entry["message"])


def end_by_victims(nnodes: int = 3, max_attempts: int = 1) -> coordinator.Coordinator:
    """Return a coordinator that has ended attempt 0 because of rank 0's consequence, and knows of no cause."""
    gang = gangs.make_running(nnodes, max_attempts)
    gang.received(0, gangs.failed(0, VICTIM), 10.0)
    told = gangs.sent(gang.tick(10.0 + findings.WAIT_VICTIM), messages.Ended)
    assert {(None, 0)} == {(ended.entry["counted"], ended.spent) for ended in told.values()}
    return gang


def test_a_loss_that_the_network_tells_late_is_the_cause() -> None:
    """Rank 0 lost its peer long before the link to node 1 broke: pod digits-1 is to blame, its replacement tells."""
    gang = end_by_victims()
    gang.received(0, messages.Idle(0), 13.0)
    gang.received(2, messages.Idle(0), 13.0)
    assert {} == gangs.ends(gang.lost(1, 20.0))
    told = gangs.ends(gang.received(5, gangs.make_join(1, 3, pod="new", failure_count=1), 40.0))
    assert ("lost", "digits-1", [0]) == (
        cause_of(told[0])["class"],
        cause_of(told[0])["pod"],
        told[0].verdict["victims"],
    )


def test_a_late_loss_to_a_disruption_is_free() -> None:
    """The victims' failures do not count when a pod was taken away."""
    gang = end_by_victims()
    gang.received(0, messages.Idle(0), 13.0)
    gang.received(2, messages.Idle(0), 13.0)
    gang.lost(1, 20.0)
    started = gangs.sent(gang.received(5, gangs.make_join(1, 3, pod="new", ignored_count=1), 40.0), messages.Attempt)
    assert {0: 0, 2: 0, 5: 0} == {peer: terms.spent for peer, terms in started.items()}
    assert [(False, True)] == [(one["counted"], "digits-1" in str(one["message"])) for one in started[0].history]


def test_a_member_that_never_ends_its_ranks_explains_victims() -> None:
    """Its link is closed before the network would have told that it is lost."""
    gang = end_by_victims()
    gang.received(0, messages.Idle(0), 13.0)
    gang.received(2, messages.Idle(0), 13.0)
    due = gang.deadline()
    assert due is not None
    assert effects.Close(1) in gang.tick(due)
    started = gangs.sent(gang.received(5, gangs.make_join(1, 3, pod="new", ignored_count=1), 40.0), messages.Attempt)
    assert {0: 0, 2: 0, 5: 0} == {peer: terms.spent for peer, terms in started.items()}


def test_victims_without_a_loss_count() -> None:
    """When everybody is idle nobody was lost: the consequence is all there is, and all members hear that it counts."""
    gang = end_by_victims()
    gang.received(0, messages.Idle(0), 13.0)
    gang.received(1, messages.Idle(0), 13.0)
    told = gangs.ends(gang.received(2, messages.Idle(0), 13.1))
    assert ({0: 1, 1: 79, 2: 79}, 0) == (
        {peer: end.code for peer, end in told.items()},
        cause_of(told[0])["rank"],
    )
    gang = end_by_victims(max_attempts=2)
    gang.received(0, messages.Idle(0), 13.0)
    gang.received(1, messages.Idle(0), 13.0)
    todo = gang.received(2, messages.Idle(0), 13.1)
    assert {(True, 1)} == {(told.entry["counted"], told.spent) for told in gangs.sent(todo, messages.Ended).values()}
    assert 1 == gangs.sent(todo, messages.Attempt)[0].spent


def test_a_consequence_is_never_final() -> None:
    """failOn is about the rank that failed first, and that one is not known."""
    gang = gangs.make_running(max_attempts=2, rules=retrying.Rules(fail_on=(1,)))
    gang.received(1, gangs.failed(1, VICTIM), 10.0)
    assert {0, 1} == set(gangs.sent(gang.tick(12.0), messages.Ended))


def test_a_signal_that_may_be_a_consequence_is_final_when_nobody_was_lost() -> None:
    """NCCL's watchdog aborts when a peer has gone: restart.retryOn is asked when every member is cleared."""
    rules = retrying.Rules(retry_on=(137,))
    aborted = gangs.make_failure(1)._replace(kind="signal", signal="SIGABRT", exception=None, exit_code=None)
    gang = gangs.make_running(max_attempts=3, rules=rules)
    gang.received(1, messages.Failed(0, root_cause.to_record(aborted)), 10.0)
    assert {0, 1} == set(gangs.sent(gang.tick(12.0), messages.Ended))
    gang.received(0, messages.Idle(0), 13.0)
    told = gangs.ends(gang.received(1, messages.Idle(0), 13.0))
    assert {0: 64, 1: 79} == {peer: end.code for peer, end in told.items()}


def test_a_failed_attempt_is_followed_by_the_next_with_a_fresh_port() -> None:
    """It starts when every member has said that its ranks are gone, with another port and run id."""
    gang = gangs.make_running(max_attempts=2)
    gang.received(1, gangs.failed(1), 10.0)
    ended = gangs.sent(gang.tick(10.0 + findings.WAIT_CAUSE), messages.Ended)
    assert {(0, True, 1, False)} == {
        (told.attempt, told.entry["counted"], told.spent, told.grace) for told in ended.values()
    }
    assert [] == gang.received(1, messages.Idle(0), 10.5)
    started = gangs.sent(gang.received(0, messages.Idle(0), 10.6), messages.Attempt)
    assert {0, 1} == set(started)
    assert (1, 29411, "digits-1-token", 1) == (
        started[0].number,
        started[0].master_port,
        started[0].run_id,
        started[0].spent,
    )
    gang.received(0, gangs.failed(0, attempt=0), 11.0)  # a straggler of attempt 0
    assert [] == gang.tick(13.0)
    gang.received(0, gangs.failed(0, attempt=1), 14.0)
    told = gangs.ends(gang.tick(15.0))
    assert (1, 79, 2) == (told[0].code, told[1].code, told[0].verdict["spent"])
    assert ["rank 1 (pod digits-1, node node-1) raised ValueError: bad"] == [
        entry["message"] for entry in told[0].verdict["history"]
    ]


def test_a_killed_rank_is_not_waited_upon() -> None:
    """No other report can be a better cause than SIGKILL: the attempt ends with it."""
    gang = gangs.make_running(max_attempts=2)
    killed = root_cause.Failure("signal", 1, "digits-1", "node-1", rank=1, signal="SIGKILL")
    todo = gang.received(1, messages.Failed(0, root_cause.to_record(killed)), 10.0)
    assert {0, 1} == set(gangs.sent(todo, messages.Ended))


@pytest.mark.parametrize(
    ("rules", "final"),
    [
        pytest.param(retrying.Rules(), False, id="no rules"),
        pytest.param(retrying.Rules(fail_on=(1,)), True, id="failOn"),
        pytest.param(retrying.Rules(fail_on=(3,)), False, id="failOn another"),
        pytest.param(retrying.Rules(retry_on=(3,)), True, id="retryOn another"),
        pytest.param(retrying.Rules(retry_on=(1, 3)), False, id="retryOn"),
    ],
)
def test_exit_codes_decide_whether_to_try_again(rules: retrying.Rules, final: bool) -> None:
    """An exception is exit code 1."""
    gang = gangs.make_running(max_attempts=4, rules=rules)
    gang.received(1, gangs.failed(1), 10.0)
    todo = gang.tick(11.0)
    assert final == bool(gangs.ends(todo))
    assert final != bool(gangs.sent(todo, messages.Ended))


def test_a_member_that_does_not_end_its_ranks_is_given_up() -> None:
    """A frozen pod must not hold the others for ever: its replacement is waited for."""
    gang = gangs.make_running(max_attempts=2)
    gang.received(0, gangs.failed(0), 10.0)
    gang.tick(11.0)
    gang.received(0, messages.Idle(0), 11.1)
    due = gang.deadline()
    assert 11.0 + ending.END_LIMIT == due
    assert effects.Close(1) in gang.tick(due)
    started = gang.received(9, gangs.make_join(1, pod="new"), 40.0)
    assert {0, 9} == set(gangs.sent(started, messages.Attempt))


def test_a_rank_that_exits_early_is_named() -> None:
    """Rank 1 exits with 0 while rank 0 still trains and loses its peer: rank 1 is the cause."""
    gang = gangs.make_running()
    gang.received(1, messages.Left(0, 1), 9.0)
    gang.received(0, gangs.failed(0, VICTIM), 10.0)
    assert {0, 1} == set(gangs.sent(gang.tick(10.0 + findings.WAIT_VICTIM), messages.Ended))
    gang.received(0, messages.Idle(0), 13.0)
    told = gangs.ends(gang.received(1, messages.Idle(0), 13.0))  # so nobody was lost
    assert ("early-exit", 1, [0]) == (
        cause_of(told[0])["class"],
        cause_of(told[0])["rank"],
        told[0].verdict["victims"],
    )
    expected = "rank 1 (pod digits-1, node node-1) exited with code 0 while other ranks still trained"
    assert expected == cause_of(told[0])["message"]


def test_ranks_that_left_and_have_successors_were_not_too_early() -> None:
    """Both nodes had a first pool of ranks; of the second one rank 1 leaves while rank 0 trains."""
    gang = gangs.make_running()
    for node_rank in (0, 1):
        gang.received(node_rank, messages.Left(0, node_rank), 5.0)
        gang.received(node_rank, messages.Left(0, messages.NOBODY), 6.0)
    gang.received(1, messages.Left(0, 1), 9.0)
    gang.received(0, gangs.failed(0, VICTIM), 10.0)
    gang.tick(10.0 + findings.WAIT_VICTIM)
    gang.received(0, messages.Idle(0), 13.0)
    told = gangs.ends(gang.received(1, messages.Idle(0), 13.0))
    assert ("early-exit", 1) == (cause_of(told[0])["class"], cause_of(told[0])["rank"])


def test_a_stopped_member_leaves_alone() -> None:
    """The others end the attempt, with the grace, free of charge, and wait for the replacement."""
    gang = gangs.make_running(3)
    told = gangs.sent(gang.received(2, messages.Leaving("SIGTERM"), 1.0), messages.Ended)
    assert {0, 1} == set(told)
    assert (False, 0, True) == (told[0].entry["counted"], told[0].spent, told[0].grace)
    assert "node 2 (pod digits-2) was asked to stop (SIGTERM)" == told[0].entry["message"]
    gang.lost(2, 2.0)
    for peer in (0, 1):
        gang.received(peer, messages.Idle(0), 3.0)
    started = gang.received(7, gangs.make_join(2, 3, pod="new", ignored_count=1), 13.0)
    assert {0, 1, 7} == set(gangs.sent(started, messages.Attempt))


def test_a_stopped_node_0_tells_the_others() -> None:
    """They learn that it was a disruption before its connection breaks; late comers are sent away to the next one."""
    gang = gangs.make_running(3)
    told = gangs.sent(gang.received(0, messages.Leaving("SIGTERM"), 1.0), messages.Ended)
    assert {1: False, 2: False} == {peer: ended.entry["counted"] for peer, ended in told.items()}
    assert gang.ended
    assert [effects.Close(9)] == gang.received(9, gangs.make_join(1, 3), 2.0)


@pytest.mark.parametrize("peer", [0, 1])
def test_a_pod_that_is_evicted_for_its_own_fault_counts(peer: int) -> None:
    """Told as a failure before it leaves: the attempt counts, and with the last one the job ends with that sentence."""
    fault = gangs.make_failure(peer)._replace(
        kind="evicted", rank=None, exit_code=None, exception=None, detail="volume scratch holds more than 64 MiB"
    )
    told = messages.Failed(0, root_cause.to_record(fault))
    gang = gangs.make_running(max_attempts=2)
    gang.received(peer, told, 1.0)
    gang.received(peer, messages.Leaving("SIGTERM"), 1.0)
    assert (1, True) == (gang.ledger.spent, gang.ledger.history[-1]["counted"])
    last = gangs.make_running(max_attempts=1)
    last.received(peer, told, 1.0)
    ends = gangs.ends(last.received(peer, messages.Leaving("SIGTERM"), 1.0))
    assert 64 == ends[0].code
    assert str(gangs.cause_of(ends[0])["message"]).endswith("volume scratch holds more than 64 MiB")


def test_a_failure_before_the_stop_stays_a_failure() -> None:
    """SIGTERM within the settling time does not turn a rank's failure into a disruption."""
    gang = gangs.make_running()
    gang.received(1, gangs.failed(1), 1.0)
    told = gangs.ends(gang.received(0, messages.Leaving("SIGTERM"), 1.1))
    assert (1, "failed") == (told[0].code, told[0].verdict["outcome"])


def test_the_verdict_is_final() -> None:
    """Whatever comes later changes nothing; a late comer is told the same verdict and leaves with 79."""
    gang = gangs.make_running()
    gang.received(1, gangs.failed(1), 1.0)
    verdict = gangs.ends(gang.tick(2.0))[0].verdict
    later = [
        gang.received(0, messages.Complete(0), 3.0),
        gang.received(0, messages.Leaving("SIGTERM"), 3.0),
        gang.received(0, gangs.failed(0), 3.0),
        gang.lost(1, 3.0),
        gang.tick(99.0),
    ]
    assert [[]] * 5 == later
    late = gangs.ends(gang.received(7, gangs.make_join(1), 4.0))
    assert (79, verdict) == (late[7].code, late[7].verdict)


def test_a_launcher_that_ends_without_a_reason_ends_the_attempt() -> None:
    """Over without a failure before it still leads to a verdict."""
    gang = gangs.make_running()
    gang.received(1, messages.Over(0), 1.0)
    assert {0, 1} == set(gangs.ends(gang.tick(2.0)))
