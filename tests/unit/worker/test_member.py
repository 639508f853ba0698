"""One member's decisions: when to dial, what to tell, with which code to leave."""

from __future__ import annotations

import pytest

from k8sddp.worker.contract import verdict as verdicts
from k8sddp.worker.gang import member, memory, messages
from tests.unit.worker import gangs


def make_member(node_rank: int = 1, max_attempts: int = 4) -> member.Member:
    own = gangs.make_join(node_rank, 3)
    return member.Member("digits", own, max_attempts=max_attempts, join_timeout=gangs.TIMEOUT, now=0.0)


def make_running(node_rank: int = 1, max_attempts: int = 4) -> member.Member:
    one = make_member(node_rank, max_attempts)
    one.connection_up()
    one.received(messages.Waiting("2"), 0.0)
    one.received(gangs.make_attempt(), 0.0)
    return one


def exit_of(effects: list[member.Effect]) -> member.Exit:
    return next(effect for effect in effects if isinstance(effect, member.Exit))


def test_a_member_joins_runs_and_completes() -> None:
    """The whole life: dial, join, launch, ready, complete, and 0 on the coordinator's word only."""
    one = make_member()
    assert [member.Dial()] == one.start()
    assert [member.Tell(gangs.make_join(1, 3, memory=memory.to_record(memory.Memory())))] == one.connection_up()
    assert [] == one.received(messages.Waiting("2"), 0.0)
    assert [member.Launch(gangs.make_attempt())] == one.received(gangs.make_attempt(), 1.0)
    assert [member.Tell(messages.Ready(0))] == one.launched()
    assert [member.Tell(messages.Complete(0))] == one.ranks_complete()
    assert not one.ending
    assert [member.EndRanks(grace=False)] == one.received(messages.End({"outcome": "complete"}, 0, False), 2.0)
    assert [member.Exit(verdicts.from_record({"outcome": "complete"}), 0)] == one.ranks_ended((), 99.0)


def test_it_dials_until_the_join_timeout() -> None:
    """A failed dial leads to the next; after the timeout it leaves with 75 and the last problem."""
    one = make_member()
    assert [member.Dial()] == one.connection_lost("refused", 1.0)
    assert [] == one.tick(gangs.TIMEOUT - 1)
    assert [member.EndRanks(grace=False)] == one.tick(gangs.TIMEOUT)
    end = exit_of(one.ranks_ended((), 99.0))
    assert 75 == end.code
    assert "node 0 was not reached within 600 s: refused" in str(end.verdict.first_failure)


def test_a_stranger_does_not_keep_it_waiting() -> None:
    """A connection that never lets it in does not move the deadline."""
    one = make_member()
    for second in range(1, 50):
        one.connection_up()
        one.connection_lost("it closed the connection", float(second))
    assert gangs.TIMEOUT == one.deadline()


def test_a_new_node_0_is_waited_for_as_long_again() -> None:
    """When the coordinator goes before the attempt, its successor gets the whole timeout."""
    one = make_member()
    one.connection_up()
    one.received(messages.Waiting("2"), 10.0)
    assert [member.Dial()] == one.connection_lost("gone", 20.0)
    assert 20.0 + gangs.TIMEOUT == one.deadline()


@pytest.mark.parametrize(("node_rank", "code"), [pytest.param(1, 64, id="node 1"), pytest.param(2, 79, id="node 2")])
def test_if_node_0_does_not_come_back_node_1_carries_the_result(node_rank: int, code: int) -> None:
    """Ranks end at once, then it is looked for as long as a gang may gather; exactly one member ends the Job."""
    one = make_running(node_rank)
    assert member.EndRanks(grace=False) in one.connection_lost("gone", 5.0)
    assert [member.Dial()] == one.ranks_ended((), 6.0)
    assert [] == one.tick(6.0 + gangs.TIMEOUT - 1.0)
    one.tick(6.0 + gangs.TIMEOUT)
    end = exit_of(one.ranks_ended((), 999.0))
    assert code == end.code
    assert "digits-0" in str(end.verdict.first_failure)


def test_a_loss_that_may_be_the_last_is_waited_for_as_long_as_any() -> None:
    """With one attempt in the budget, the replacement's failure count decides; it may be slow to come."""
    one = make_running(max_attempts=1)
    one.connection_lost("gone", 5.0)
    one.ranks_ended((), 6.0)
    assert 6.0 + gangs.TIMEOUT == one.deadline()


def test_a_new_coordinator_hears_what_the_member_remembers() -> None:
    """Number, budget and ends of the attempts travel with the join; the last one is open."""
    one = make_member()
    one.connection_up()
    first = memory.entry(0, True, "rank 1 raised")
    one.received(gangs.make_attempt(1, spent=1, history=[first], failure_count=2), 0.0)
    one.connection_lost("gone", 5.0)
    one.ranks_ended((), 6.0)
    (told,) = one.connection_up()
    expected = memory.Memory(1, 1, True, "digits-0", "node-0", 2, (first,))
    assert expected == memory.from_record(told.message.memory)


def test_an_attempt_that_ended_is_followed_by_the_next() -> None:
    """Ranks end, the coordinator hears so, and the next number starts; the same number does not."""
    one = make_running()
    entry = memory.entry(0, True, "rank 0 (pod digits-0) was killed by SIGKILL")
    note, end = one.received(messages.Ended(0, entry, 1, (), False), 5.0)
    assert "attempt 0 ended: rank 0 (pod digits-0) was killed by SIGKILL; 1 of 4 attempts used" == note.text
    assert member.EndRanks(grace=False) == end
    assert [] == one.rank_failed(gangs.make_failure(1)) + one.ranks_over()
    assert [member.Tell(messages.Idle(0))] == one.ranks_ended((), 5.2)
    assert [] == one.received(gangs.make_attempt(0), 5.3)
    assert [member.Launch(gangs.make_attempt(1))] == one.received(gangs.make_attempt(1), 5.4)
    assert [member.Tell(messages.Ready(1))] == one.launched()


def test_it_remembers_who_tells_whether_the_attempt_counts() -> None:
    """The lost pods travel with its join to the next node 0, until it has heard that the attempt counts."""
    one = make_running()
    lost = memory.Suspect(2, "digits-2", 1)
    one.received(messages.Ended(0, memory.entry(0, None, "lost"), 0, (lost._asdict(),), False), 5.0)
    assert (lost,) == memory.from_record(memory.to_record(one.memory)).suspects
    assert memory.UNDECIDED == one.memory.heard
    one.ranks_ended((), 5.2)
    assert [] == one.received(messages.Ended(0, memory.entry(0, True, "lost"), 1, (), False), 6.0)
    assert ((), 1, [True]) == (one.memory.suspects, one.memory.spent, [e["counted"] for e in one.memory.history])
    assert memory.DECIDED == one.memory.heard


def test_a_coordinator_lost_while_ranks_end_is_looked_for_afterwards() -> None:
    """It joins again only when nothing of the attempt is left."""
    one = make_running()
    one.received(messages.Ended(0, memory.entry(0, True, "x"), 1, (), False), 5.0)
    assert [] == one.connection_lost("gone", 5.1)
    assert [] == one.connection_up()
    assert [member.Dial()] == one.ranks_ended((), 5.2)


def test_processes_that_cannot_be_ended_end_the_pod() -> None:
    """They hold GPUs and ports: the container has to go, with 75 and their pids."""
    one = make_running()
    one.received(messages.Ended(0, memory.entry(0, True, "x"), 1, (), False), 5.0)
    one.ranks_ended((17, 18), 10.0)
    end = exit_of(one.ranks_ended((17, 18), 15.0))
    assert 75 == end.code
    assert "2 processes of the last attempt cannot be ended: pids 17, 18" in str(end.verdict.first_failure)


@pytest.mark.parametrize(("outcome", "code"), [("failed", 3), ("complete", 0)])
def test_an_end_decided_before_the_stop_keeps_its_code(outcome: str, code: int) -> None:
    """SIGTERM while the verdict is on its way: the job has its end and says so."""
    one = make_running()
    one.asked_to_stop("SIGTERM")
    one.received(messages.End({"outcome": outcome}, code, False), 5.0)
    assert code == exit_of(one.ranks_ended((), 6.0)).code


def test_sigterm_is_told_and_ends_with_143() -> None:
    """The gang hears of it, the ranks get their grace, and no later word changes the code."""
    one = make_running()
    assert [member.Tell(messages.Leaving("SIGTERM")), member.EndRanks(grace=True)] == one.asked_to_stop("SIGTERM")
    assert [] == one.received(messages.End({}, 79, True), 1.0)
    assert [] == one.connection_lost("gone", 1.0)
    assert [] == one.rank_failed(gangs.make_failure(1))
    assert 143 == exit_of(one.ranks_ended((), 99.0)).code


def test_a_second_sigterm_takes_the_grace_away() -> None:
    """Whoever asks twice does not want to wait."""
    one = make_running()
    one.asked_to_stop("SIGTERM")
    assert [member.EndRanks(grace=False)] == one.asked_to_stop("SIGTERM")


def test_after_the_launcher_nothing_more_is_told() -> None:
    """One end of the launcher is reported, once."""
    one = make_running()
    assert [member.Tell(gangs.failed(1))] == one.rank_failed(gangs.make_failure(1))
    assert [member.Tell(messages.Over(0))] == one.ranks_over()
    assert [] == one.ranks_over() + one.ranks_complete() + one.rank_failed(gangs.make_failure(1))


def test_a_joined_member_does_not_wait_for_ever() -> None:
    """A coordinator that never starts anything is given up a little after its own limit."""
    one = make_member()
    one.connection_up()
    one.received(messages.Waiting("2"), 10.0)
    assert [] == one.tick(10.0 + gangs.TIMEOUT)
    one.tick(10.0 + gangs.TIMEOUT + member.SLACK)
    assert 75 == exit_of(one.ranks_ended((), 99.0)).code


@pytest.mark.parametrize("missing", ["", "2"], ids=["nobody missing", "node 2 missing"])
def test_a_word_of_the_coordinator_keeps_a_member_waiting(missing: str) -> None:
    """While node 0 says that it is there, it is waited for: the others may train for days."""
    one = make_member()
    one.connection_up()
    one.received(messages.Waiting(missing), 10.0)
    one.received(messages.Waiting(missing), 600.0)
    assert 600.0 + gangs.TIMEOUT + member.SLACK == one.deadline()


def test_it_passes_on_who_is_missing() -> None:
    """The second message about the missing is a line for people."""
    one = make_member()
    one.connection_up()
    one.received(messages.Waiting("0, 2"), 0.0)
    assert [member.Note("waiting for node 2 of 3")] == one.received(messages.Waiting("2"), 30.0)


def test_ranks_that_left_may_have_successors() -> None:
    """Said once each time, and only where somebody had left."""
    one = make_running()
    assert [] == one.ranks_back()
    assert [member.Tell(messages.Left(0, 1))] == one.rank_left(1)
    assert [] == one.rank_left(2)
    assert [member.Tell(messages.Left(0, messages.NOBODY))] == one.ranks_back()
    assert [] == one.ranks_back()
    assert [member.Tell(messages.Left(0, 2))] == one.rank_left(2)
