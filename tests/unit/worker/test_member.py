"""One member's decisions: when to dial, what to tell, with which code to leave."""

from __future__ import annotations

import pytest

from k8sddp.worker import root_cause
from k8sddp.worker.contract import verdict as verdicts
from k8sddp.worker.gang import effects, member, memory, messages
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


def exit_of(todo: list[effects.Effect]) -> effects.Exit:
    return next(effect for effect in todo if isinstance(effect, effects.Exit))


def test_a_member_joins_runs_and_completes() -> None:
    """The whole life: dial, join, launch, complete, and 0 on the coordinator's word only."""
    one = make_member()
    assert [effects.Dial()] == one.start()
    assert [effects.Tell(gangs.make_join(1, 3, memory=memory.to_record(memory.Memory())))] == one.connection_up()
    assert [] == one.received(messages.Waiting("2"), 0.0)
    assert [effects.Launch(gangs.make_attempt())] == one.received(gangs.make_attempt(), 1.0)
    assert [effects.Tell(messages.Complete(0))] == one.ranks_complete()
    assert not one.ending
    assert [effects.EndRanks(grace=False)] == one.received(messages.End({"outcome": "complete"}, 0, False), 2.0)
    assert [effects.Exit(verdicts.from_record({"outcome": "complete"}), 0)] == one.ranks_ended((), 99.0)


def test_a_member_looks_at_its_ranks_while_they_run() -> None:
    """In the attempt that it is asked about; one without ranks, its part being done, answers with none."""
    one = make_running()
    look = messages.Look(0, 7, True)
    assert [effects.LookAtRanks(look)] == one.received(look, 1.0)
    assert [effects.Tell(messages.Seen(0, 7, [["row"]]))] == one.seen(look, [["row"]])
    assert [effects.Tell(messages.Seen(1, 8, []))] == one.received(messages.Look(1, 8, False), 1.0)
    one.received(messages.Ended(0, memory.entry(0, True, "x"), 1, [], False), 2.0)
    assert [effects.Tell(messages.Seen(0, 7, []))] == one.received(look, 3.0)
    assert [] == one.seen(look, [["late"]])


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


@pytest.mark.parametrize(
    ("counted", "account"),
    [
        (True, "; 1 of 4 attempts used"),
        (False, "; a disruption, not counted"),
        (None, " (not decided yet whether this attempt counts; 1 of 4 used so far)"),
    ],
)
def test_an_attempts_end_is_told_with_what_it_costs(counted: bool | None, account: str) -> None:
    """Who reads one line knows whether the budget has shrunk."""
    note, _ = make_running().received(messages.Ended(0, memory.entry(0, counted, "it broke"), 1, (), False), 5.0)
    assert f"attempt 0 ended: it broke{account}" == note.text


def test_an_attempt_that_ended_is_followed_by_the_next() -> None:
    """Ranks end, the coordinator hears so, and the next number starts; the same number does not."""
    one = make_running()
    entry = memory.entry(0, True, "rank 0 (pod digits-0) was killed by SIGKILL")
    note, end = one.received(messages.Ended(0, entry, 1, (), False), 5.0)
    assert "attempt 0 ended: rank 0 (pod digits-0) was killed by SIGKILL; 1 of 4 attempts used" == note.text
    assert effects.EndRanks(grace=False) == end
    assert [] == one.rank_failed(gangs.make_failure(1)) + one.ranks_over()
    assert [effects.Tell(messages.Idle(0))] == one.ranks_ended((), 5.2)
    assert [] == one.received(gangs.make_attempt(0), 5.3)
    assert [effects.Launch(gangs.make_attempt(1))] == one.received(gangs.make_attempt(1), 5.4)


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
    assert [effects.Dial()] == one.ranks_ended((), 5.2)


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
    assert [effects.Tell(messages.Leaving("SIGTERM")), effects.EndRanks(grace=True)] == one.asked_to_stop("SIGTERM")
    assert [] == one.received(messages.End({}, 79, True), 1.0)
    assert [] == one.connection_lost("gone", 1.0)
    assert [] == one.rank_failed(gangs.make_failure(1))
    assert 143 == exit_of(one.ranks_ended((), 99.0)).code


def test_a_stop_for_a_fault_of_the_pods_own_is_a_failure() -> None:
    """The gang hears of it before it hears that this node leaves, and the Job gets a code that it counts."""
    one = make_running()
    fault = gangs.make_failure(1)._replace(kind="evicted", rank=None, exit_code=None, exception=None, detail="too much")
    assert [
        effects.Tell(messages.Failed(0, root_cause.to_record(fault))),
        effects.Tell(messages.Leaving("SIGTERM")),
        effects.EndRanks(grace=True),
    ] == one.asked_to_stop("SIGTERM", fault=fault)
    end = exit_of(one.ranks_ended((), 99.0))
    assert (80, "stopped", "evicted") == (end.code, end.verdict.outcome, end.verdict.first_failure.kind)


def test_a_second_sigterm_takes_the_grace_away() -> None:
    """Whoever asks twice does not want to wait."""
    one = make_running()
    one.asked_to_stop("SIGTERM")
    assert [effects.EndRanks(grace=False)] == one.asked_to_stop("SIGTERM")


def test_after_the_launcher_nothing_more_is_told() -> None:
    """One end of the launcher is reported, once."""
    one = make_running()
    assert [effects.Tell(gangs.failed(1))] == one.rank_failed(gangs.make_failure(1))
    assert [effects.Tell(messages.Over(0))] == one.ranks_over()
    assert [] == one.ranks_over() + one.ranks_complete() + one.rank_failed(gangs.make_failure(1))


def test_node_0_is_looked_for_without_end() -> None:
    """A dial that fails leads to the next, before the first attempt and after one, whatever the time; nothing ends."""
    one = make_member()
    assert [effects.Dial()] == one.connection_lost("refused", 1.0)
    assert [effects.Dial()] == one.connection_lost("refused", 100 * gangs.TIMEOUT)
    trained = make_running()
    trained.connection_lost("gone", 5.0)
    assert [effects.Dial()] == trained.ranks_ended((), 6.0)
    assert [effects.Dial()] == trained.connection_lost("refused", 100 * gangs.TIMEOUT)
    assert (6.0, member.SEEKING) == (trained.since, trained.state)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (31, "waiting for node 2 of 3, 31 s so far"),
        (int(gangs.TIMEOUT) - 1, "waiting for node 2 of 3, 9 min so far"),
        (
            int(gangs.TIMEOUT),
            "waiting for node 2 of 3, 10 min so far: see whether its pod is scheduled, its image pulled, and what its "
            "log says",
        ),
        (
            4000,
            "waiting for node 2 of 3, 1 h 6 min so far: see whether its pod is scheduled, its image pulled, and what "
            "its log says",
        ),
    ],
)
def test_a_reminder_is_a_line_that_says_who_is_missing_and_for_how_long(seconds: int, text: str) -> None:
    """After rendezvous.timeout it says where to look, and the waiting goes on."""
    one = make_member()
    one.connection_up()
    assert [] == one.received(messages.Waiting("0, 2", 1), 0.0)
    assert [effects.Note(text)] == one.received(messages.Waiting("2", seconds), 30.0)
    assert member.WAITING == one.state


def test_who_joins_late_is_told_at_once() -> None:
    """The others have waited for minutes, and the next reminder may be minutes away."""
    one = make_member()
    one.connection_up()
    assert [effects.Note("waiting for node 2 of 3, 2 min so far")] == one.received(messages.Waiting("2", 120), 0.0)


def test_ranks_that_left_may_have_successors() -> None:
    """Said once each time, and only where somebody had left."""
    one = make_running()
    assert [] == one.ranks_back()
    assert [effects.Tell(messages.Left(0, 1))] == one.rank_left(1)
    assert [] == one.rank_left(2)
    assert [effects.Tell(messages.Left(0, messages.NOBODY))] == one.ranks_back()
    assert [] == one.ranks_back()
    assert [effects.Tell(messages.Left(0, 2))] == one.rank_left(2)


def test_each_offer_of_itself_is_remembered_until_an_attempt_begins() -> None:
    """An attempt may begin whenever it has joined or is idle; one that node 0 took with it leaves no other trace."""
    one = make_running()
    assert 0 == one.memory.offers
    one.received(messages.Ended(0, memory.entry(0, True, "x"), 1, (), False), 5.0)
    one.ranks_ended((), 5.2)
    assert 1 == one.memory.offers
    one.connection_lost("gone", 6.0)
    (told,) = one.connection_up()
    assert (1, 2) == (memory.from_record(told.message.memory).offers, one.memory.offers)
    one.received(gangs.make_attempt(1), 7.0)
    assert 0 == one.memory.offers
    one.received(messages.Ended(1, memory.entry(1, False, "x"), 1, (), True, last=True), 8.0)
    one.ranks_ended((), 8.2)
    assert 0 == one.memory.offers  # that node 0 was asked to stop, and starts nothing more
