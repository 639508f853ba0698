"""The account of attempts, from one node 0 to the next: what counts, who remembers it, when it is used up."""

from __future__ import annotations

import pytest

from k8sddp.worker.gang import coordinator, memory, messages
from tests.unit.worker import gangs


def test_a_new_node_0_goes_on_where_the_old_one_stopped() -> None:
    """Number and budget come with the members; whether the loss counts, node 0's own failure count tells."""
    known = memory.Memory(2, 1, True, "digits-0", "node-0", 0, (memory.entry(0, True, "first"),))
    own = gangs.make_join(0, pod="digits-0b", ignored_count=1)
    gang = coordinator.Coordinator(gangs.make_plan(max_attempts=2), own, now=0.0)
    gang.received(0, own, 0.0)
    started = gangs.sent(gang.received(1, gangs.make_join(1, memory=memory.to_record(known)), 1.0), messages.Attempt)
    assert (3, 29410 + 256 + 3, 1) == (started[1].number, started[1].master_port, started[1].spent)
    assert [("first", True), (False, "digits-0")] == [
        (one["message"], one["counted"]) if one["attempt"] == 0 else (one["counted"], "digits-0")
        for one in started[1].history
    ]


@pytest.mark.parametrize("order", [(2, 1), (1, 2)], ids=["who remembers first", "the replacement first"])
def test_a_new_node_0_takes_over_an_undecided_attempt(order: tuple[int, int]) -> None:
    """Pod 1 died of its own, node 0 too before the replacement came: the attempt counts once, and one is left."""
    lost = memory.Suspect(1, "digits-1", 0)
    known = memory.Memory(0, 0, False, "digits-0", "node-0", 0, (memory.entry(0, None, "lost"),), (lost,))
    own = gangs.make_join(0, 3, pod="digits-0b", failure_count=1)
    gang = coordinator.Coordinator(gangs.make_plan(max_attempts=2), own, now=0.0)
    gang.received(0, own, 0.0)
    joins = {
        1: gangs.make_join(1, 3, pod="digits-1b", failure_count=1),
        2: gangs.make_join(2, 3, memory=memory.to_record(known)),
    }
    gang.received(order[0], joins[order[0]], 1.0)
    started = gangs.sent(gang.received(order[1], joins[order[1]], 2.0), messages.Attempt)
    assert (1, 1, [True]) == (started[0].number, started[0].spent, [one["counted"] for one in started[0].history])
    gang.received(2, gangs.failed(2, attempt=1), 10.0)
    assert {0: 1, 1: 79, 2: 79} == {peer: end.code for peer, end in gangs.ends(gang.tick(11.0)).items()}


def test_who_knows_more_of_the_last_attempt_is_believed() -> None:
    """One member missed that the attempt counts: it counts, once."""
    suspects = (memory.Suspect(0, "digits-0", 0), memory.Suspect(1, "digits-1", 0))
    early = memory.Memory(0, 0, False, "digits-0", "node-0", 0, (memory.entry(0, None, "x"),), suspects)
    late = early._replace(spent=1, history=(memory.entry(0, True, "x"),), suspects=())
    own = gangs.make_join(0, 3, pod="digits-0b", ignored_count=1)
    for first, second in ((early, late), (late, early)):
        gang = coordinator.Coordinator(gangs.make_plan(max_attempts=3), own, now=0.0)
        gang.received(0, own, 0.0)
        gang.received(1, gangs.make_join(1, 3, memory=memory.to_record(first)), 1.0)
        effects = gang.received(2, gangs.make_join(2, 3, memory=memory.to_record(second)), 1.0)
        assert 1 == gangs.sent(effects, messages.Attempt)[0].spent


@pytest.mark.parametrize("how", ["exception", "network"])
def test_a_failure_before_the_first_attempt_costs_one(how: str) -> None:
    """A pod that failed while it waited and an attempt that failed are two, whatever ended the attempt."""
    gang = gangs.make_coordinator(max_attempts=3)
    gang.received(0, gangs.make_join(0), 0.0)
    join = gangs.make_join(1, failure_count=1)
    terms = gangs.sent(gang.received(1, join, 0.0), messages.Attempt)[1]
    assert 1 == terms.spent
    if how == "exception":
        gang.received(0, gangs.failed(0), 1.0)
    else:
        gang.lost(1, 1.0)
        known = memory.Memory(terms.number, terms.spent, True, terms.pod, terms.kube_node, terms.failure_count)
        gang.received(2, join._replace(memory=memory.to_record(known)), 1.1)
    gang.tick(2.0)
    assert 2 == gang.ledger.spent


def test_a_drained_pod_whose_replacement_takes_an_hour_is_free() -> None:
    """Nothing but the replacement's counts tells what the loss of its predecessor costs."""
    gang = gangs.make_running(2, max_attempts=1)
    gang.received(1, messages.Leaving("SIGTERM"), 10.0)
    gang.received(0, messages.Idle(0), 11.0)
    for second in range(20, 3600, 10):
        assert {} == gangs.ends(gang.tick(float(second)))
    started = gang.received(5, gangs.make_join(1, pod="new", ignored_count=1), 3600.0)
    assert {0: (1, 0), 5: (1, 0)} == {
        peer: (terms.number, terms.spent) for peer, terms in gangs.sent(started, messages.Attempt).items()
    }


@pytest.mark.parametrize(
    ("earlier", "offers", "number"),
    [
        pytest.param((0, 0, 0), (0, 0, 0), 0, id="the first pods"),
        pytest.param((3, 0, 2), (0, 0, 0), 0, id="one node has its first pod: there was no attempt"),
        pytest.param((1, 1, 1), (0, 0, 0), 7, id="all lost once: above 4 counted attempts and 3 disruptions"),
        pytest.param((5, 1, 2), (0, 0, 0), 12, id="above 4 counted ones and 8 disruptions"),
        pytest.param((2, 2, 3), (0, 0, 0), 15, id="all lost twice"),
        pytest.param((1, 0, 0), (0, 1, 1), 2, id="one may have begun, and its word been lost with node 0"),
    ],
)
def test_a_number_is_above_all_that_nobody_remembers(
    earlier: tuple[int, ...], offers: tuple[int, ...], number: int
) -> None:
    """So that checkpoints can be fenced by it; the Job's counts of lost pods bound how many there were."""
    own = gangs.make_join(0, 3, ignored_count=earlier[0])
    gang = coordinator.Coordinator(gangs.make_plan(max_attempts=4), own, now=0.0)
    for node in range(3):
        known = memory.to_record(memory.Memory(offers=offers[node]))
        effects = gang.received(node, gangs.make_join(node, 3, ignored_count=earlier[node], memory=known), 0.0)
    assert number == gangs.sent(effects, messages.Attempt)[0].number


def test_a_number_of_which_no_word_arrived_is_passed_over() -> None:
    """Both were idle when node 0 was lost: it may have started attempt 3 before."""
    for offers, number in (((1, 1), 4), ((2, 1), 4), ((1, 0), 3)):  # the second member may not have been idle
        own = gangs.make_join(0, 3, pod="digits-0b", ignored_count=1)
        gang = coordinator.Coordinator(gangs.make_plan(max_attempts=4), own, now=0.0)
        effects = gang.received(0, own, 0.0)
        for node in (1, 2):
            known = memory.Memory(2, 1, False, history=(memory.entry(2, True, "x"),), offers=offers[node - 1])
            effects = gang.received(node, gangs.make_join(node, 3, memory=memory.to_record(known)), 0.0)
        assert number == gangs.sent(effects, messages.Attempt)[0].number


def test_disruptions_without_end_end_the_job() -> None:
    """They are free, each alone; of a million attempts none would be the last otherwise."""
    known = memory.Memory(coordinator.LAST_NUMBER, 0, False, history=(memory.entry(9, False, "x"),))
    gang = gangs.make_coordinator(2, max_attempts=4)
    gang.received(0, gangs.make_join(0), 0.0)
    told = gangs.ends(gang.received(1, gangs.make_join(1, memory=memory.to_record(known)), 0.0))
    assert {0: 64, 1: 79} == {peer: end.code for peer, end in told.items()}
    assert "attempt 999999 was the last that there can be" in str(gangs.cause_of(told[0])["message"])


def test_a_job_without_budget_names_the_pod_that_failed_most_and_the_last_end() -> None:
    """Its successor found pod 1's failures on its replacement, and nobody remembers what they were."""
    known = memory.Memory(3, 1, False, "digits-0", "node-0", 0, (memory.entry(3, True, "rank 2 raised X"),))
    gang = gangs.make_coordinator(3, max_attempts=2)
    gang.received(0, gangs.make_join(0, 3), 0.0)
    gang.received(1, gangs.make_join(1, 3, failure_count=2), 0.0)
    told = gangs.ends(gang.received(2, gangs.make_join(2, 3, memory=memory.to_record(known)), 0.0))
    assert (1, 3) == (gangs.cause_of(told[0])["node_rank"], told[0].verdict["attempt"])
    assert "2 attempts or pods have failed" in str(gangs.cause_of(told[0])["message"])
    assert str(gangs.cause_of(told[0])["message"]).endswith("attempt 3 ended: rank 2 raised X")


def test_a_new_node_0_may_find_the_budget_used_up() -> None:
    """Its predecessor died of its own: with what the members remember no attempt is left, and the pod is named."""
    known = memory.Memory(0, 1, True, "digits-0", "node-0", 0)
    own = gangs.make_join(0, pod="digits-0b", failure_count=1)
    gang = coordinator.Coordinator(gangs.make_plan(max_attempts=2), own, now=0.0)
    gang.received(0, own, 0.0)
    told = gangs.ends(gang.received(1, gangs.make_join(1, memory=memory.to_record(known)), 1.0))
    assert {0: 64, 1: 79} == {peer: end.code for peer, end in told.items()}
    assert ("lost", "digits-0") == (gangs.cause_of(told[0])["class"], gangs.cause_of(told[0])["pod"])


def test_pods_that_nobody_remembers_are_bounded_by_their_failure_count() -> None:
    """All pods were lost at once as often as there are attempts; said when nobody is missing who could know more."""
    gang = coordinator.Coordinator(gangs.make_plan(2), gangs.make_join(0, failure_count=2), now=0.0)
    assert {} == gangs.ends(gang.received(0, gangs.make_join(0, failure_count=2), 0.0))
    told = gangs.ends(gang.received(1, gangs.make_join(1, failure_count=1), 0.0))
    assert {0: 64, 1: 79} == {peer: end.code for peer, end in told.items()}
    assert "2 attempts or pods have failed, and restart.maxAttempts is 2" in str(gangs.cause_of(told[0])["message"])
