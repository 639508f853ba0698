"""Pods that are lost: who is to blame, what counts, and what a node 0 that slept itself takes for a loss."""

from __future__ import annotations

from k8sddp.worker.gang import coordinator, effects, ending, excuse, findings, messages
from tests.unit.worker import gangs
from tests.unit.worker.gangs import cause_of

VICTIM = gangs.GONE


def lose_member(max_attempts: int = 1) -> coordinator.Coordinator:
    """Return a coordinator that has ended attempt 0 because pod digits-1 was lost without a word."""
    gang = gangs.make_running(max_attempts=max_attempts)
    gang.lost(1, 10.0)
    told = gangs.sent(gang.tick(10.0 + findings.WAIT_CAUSE), messages.Ended)
    assert [(0, None)] == [(peer, ended.entry["counted"]) for peer, ended in told.items()]
    assert [] == gang.received(0, messages.Idle(0), 10.5)
    return gang


def test_a_pod_lost_by_its_own_failure_counts() -> None:
    """Its replacement has a higher failure count: with one attempt in the budget the job has failed."""
    told = gangs.ends(lose_member().received(5, gangs.make_join(1, pod="new", failure_count=1), 22.0))
    assert {0: 64, 5: 79} == {peer: end.code for peer, end in told.items()}
    assert ("lost", "digits-1") == (cause_of(told[0])["class"], cause_of(told[0])["pod"])
    assert (1, 1, []) == tuple(told[0].verdict[name] for name in ("spent", "max_attempts", "history"))


def test_a_pod_lost_to_a_disruption_is_free() -> None:
    """Only the count of ignored ends has grown: the next attempt starts although the budget is one."""
    todo = lose_member().received(5, gangs.make_join(1, pod="new", ignored_count=1), 22.0)
    started = gangs.sent(todo, messages.Attempt)
    assert {0: (1, 29411, 0), 5: (1, 29411, 0)} == {
        peer: (terms.number, terms.master_port, terms.spent) for peer, terms in started.items()
    }
    assert [False] == [entry["counted"] for entry in started[0].history]


def test_the_same_pod_that_comes_back_counts() -> None:
    """Its network broke; nobody disrupted it."""
    told = gangs.ends(lose_member().received(5, gangs.make_join(1), 22.0))
    assert {0: 64, 5: 79} == {peer: end.code for peer, end in told.items()}


def test_a_lost_pod_that_is_not_replaced_costs_nothing_until_then() -> None:
    """It may have been drained, and its replacement wait for a Kubernetes Node: nobody fails for that."""
    gang = lose_member()
    for second in range(60, 100_000, 600):
        assert {} == gangs.ends(gang.tick(float(second)))
    assert (0, None) == (gang.ledger.spent, gang.ledger.history[-1]["counted"])
    told = gangs.ends(gang.received(5, gangs.make_join(1, pod="new", failure_count=1), 100_000.0))
    assert ("lost", "digits-1") == (cause_of(told[0])["class"], cause_of(told[0])["pod"])


def test_what_is_known_of_a_silence_is_told() -> None:
    """A worker that is stopped is counted as a lost pod, in words that say what was noticed."""
    gang = gangs.make_running()
    gang.lost(1, 30.0, "its worker said nothing for 20 s: it is stopped")
    told = gangs.sent(gang.tick(31.0), messages.Ended)
    assert (
        "node 1 (pod digits-1, node node-1): its worker said nothing for 20 s: it is stopped"
        == told[0].entry["message"]
    )
    gang.received(0, messages.Idle(0), 31.5)
    assert {0, 5} == set(gangs.ends(gang.received(5, gangs.make_join(1), 90.0)))  # it is back: its silence counts


def test_a_node_0_that_was_stopped_itself_blames_nobody_else() -> None:
    """All members left it while it did not run: the attempt counts, as its own fault, and they are awaited."""
    gang = gangs.make_running(3, max_attempts=2)
    gang.slept(63.0, 100.0)
    gang.lost(1, 100.0)
    gang.lost(2, 100.0)
    (ended,) = gangs.sent(gang.tick(101.0), messages.Ended).values()
    said = "node 0 (pod digits-0, node node-0): its worker did not run for 63 s, so the others left it"
    assert (True, said, []) == (ended.entry["counted"], ended.entry["message"], list(ended.suspects))
    gang.received(0, messages.Idle(0), 102.0)
    gang.received(5, gangs.make_join(1, 3), 103.0)
    started = gangs.sent(gang.received(6, gangs.make_join(2, 3), 104.0), messages.Attempt)
    assert {0: 1, 5: 1, 6: 1} == {peer: terms.number for peer, terms in started.items()}


def test_a_sleep_of_node_0_explains_no_loss_for_long() -> None:
    """What breaks a while after it woke has causes of its own."""
    gang = gangs.make_running(2, max_attempts=2)
    gang.slept(63.0, 100.0)
    gang.lost(1, 100.0 + excuse.PAUSE)
    (ended,) = gangs.sent(gang.tick(120.0), messages.Ended).values()
    assert "node 1 (pod digits-1" in str(ended.entry["message"])


def test_members_have_time_to_end_their_ranks_after_node_0_woke() -> None:
    """Their words of the meantime are read first; nobody is dropped because the clock has run on."""
    gang = gangs.make_running(2, max_attempts=2)
    gang.received(0, gangs.failed(0), 10.0)
    gang.tick(11.0)
    gang.slept(50.0, 70.0)
    assert [] == gang.tick(70.0)
    assert 70.0 + ending.END_LIMIT == gang.deadline()


def test_an_early_exit_does_not_hide_a_lost_pod() -> None:
    """Node 1 is done, as at any end of training, when node 2's machine goes silent: that disruption is free."""
    gang = gangs.make_running(3, max_attempts=1)
    gang.received(1, messages.Left(0, 1), 9.0)
    gang.received(1, messages.Complete(0), 9.1)
    gang.received(0, gangs.failed(0, VICTIM), 10.0)
    assert {} == gangs.ends(gang.tick(10.0 + findings.WAIT_VICTIM))
    gang.received(0, messages.Idle(0), 13.0)
    gang.received(1, messages.Idle(0), 13.0)
    gang.lost(2, 30.0)
    started = gangs.sent(gang.received(5, gangs.make_join(2, 3, pod="new", ignored_count=1), 40.0), messages.Attempt)
    assert [(False, True)] == [(one["counted"], "digits-2" in str(one["message"])) for one in started[0].history]


def test_a_member_that_is_complete_may_be_lost() -> None:
    """Its work is done: the others go on and the job completes."""
    gang = gangs.make_running()
    gang.received(1, messages.Complete(0), 1.0)
    assert [] == gang.lost(1, 2.0)
    told = gangs.ends(gang.received(0, messages.Complete(0), 3.0))
    assert {0: 0} == {peer: end.code for peer, end in told.items()}


def test_a_member_that_is_complete_may_be_asked_to_stop() -> None:
    """Its part is done: a drain of its Kubernetes Node does not undo what the others still finish."""
    gang = gangs.make_running()
    gang.received(1, messages.Complete(0), 5.0)
    assert [] == gang.received(1, messages.Leaving("SIGTERM"), 6.0)
    gang.lost(1, 6.1)
    assert "complete" == gangs.ends(gang.received(0, messages.Complete(0), 9.0))[0].verdict["outcome"]


def test_a_new_pod_of_a_complete_node_waits_for_the_verdict() -> None:
    """The Job replaces a pod that was ended; that is no failure of a node whose part is done."""
    gang = gangs.make_running()
    gang.received(1, messages.Complete(0), 5.0)
    gang.lost(1, 6.0)
    waiting = gang.received(7, gangs.make_join(1, pod="digits-1b"), 16.0)
    assert [effects.Send(7, messages.Waiting(""))] == waiting
    last = gangs.ends(gang.received(0, messages.Complete(0), 20.0))
    assert {0: 0, 7: 0} == {peer: end.code for peer, end in last.items()}
