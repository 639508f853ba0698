"""The coordinator's decisions: when a gang starts, who is blamed, who leaves with which code."""

from __future__ import annotations

import itertools

import pytest

from k8sddp.worker.gang import coordinator, messages
from tests.unit.worker import gangs

VICTIM = "RuntimeError: [gloo/transport/tcp/pair.cc:534] Connection closed by peer [10.0.0.1]:1234"


def cause_of(end: messages.End) -> dict[str, object]:
    first = end.verdict["first_failure"]
    assert isinstance(first, dict)
    return first


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))), ids=str)
def test_the_attempt_starts_when_all_are_there(order: tuple[int, ...]) -> None:
    """Whatever the order of joins, everybody gets the attempt once, with the last one."""
    gang = gangs.make_coordinator(nnodes=3)
    effects = [gang.received(node, gangs.make_join(node, 3), 1.0) for node in order]
    attempts = [
        [e.peer for e in some if isinstance(e, coordinator.Send) and e.message == gangs.make_attempt()]
        for some in effects
    ]
    assert [[], [], [0, 1, 2]] == attempts


def test_a_joined_member_hears_who_is_missing() -> None:
    """At its join and again at the reminders."""
    gang = gangs.make_coordinator(nnodes=3)
    assert [coordinator.Send(1, messages.Waiting("0, 2"))] == gang.received(1, gangs.make_join(1, 3), 0.0)
    due = gang.deadline()
    assert due is not None
    assert coordinator.Send(0, messages.Waiting("0, 2")) in gang.tick(due)
    assert gang.deadline() == due + coordinator.REMIND


def test_success_needs_every_member() -> None:
    """Nobody is told before the last member reports; then all leave with 0."""
    gang = gangs.make_running(3)
    assert [] == gang.received(0, messages.Complete(0), 1.0)
    assert [] == gang.received(2, messages.Complete(0), 2.0)
    told = gangs.ends(gang.received(1, messages.Complete(0), 3.0))
    assert {0: 0, 1: 0, 2: 0} == {peer: end.code for peer, end in told.items()}


def test_a_failure_is_decided_after_a_short_wait() -> None:
    """Node 0 leaves with the rank's code, the others with 79, all with the same verdict."""
    gang = gangs.make_running()
    assert {} == gangs.ends(gang.received(1, gangs.failed(1), 10.0))
    assert 10.0 + coordinator.SETTLE_CAUSE == gang.deadline()
    assert [] == gang.tick(10.0)
    told = gangs.ends(gang.tick(10.0 + coordinator.SETTLE_CAUSE))
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
    assert 10.0 + coordinator.SETTLE_VICTIM == gang.deadline()
    told = gangs.ends(gang.tick(12.0))
    assert 1 == cause_of(told[0])["rank"]


def test_a_lost_member_is_a_failure() -> None:
    """A connection that breaks without a word ends the attempt, with the lost pod as cause."""
    gang = gangs.make_running()
    gang.lost(1, 10.0)
    told = gangs.ends(gang.tick(11.0))
    assert {0: 64} == {peer: end.code for peer, end in told.items()}
    assert ("lost", "digits-1") == (cause_of(told[0])["class"], cause_of(told[0])["pod"])


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
    assert [coordinator.Send(7, messages.Waiting(""))] == waiting
    assert None is gang.deadline()
    last = gangs.ends(gang.received(0, messages.Complete(0), 20.0))
    assert {0: 0, 7: 0} == {peer: end.code for peer, end in last.items()}


def test_a_stop_is_no_failure() -> None:
    """The member that was asked leaves with 143, the others with 79, and ranks get their grace."""
    gang = gangs.make_running(3)
    told = gangs.ends(gang.received(2, messages.Leaving("SIGTERM"), 1.0))
    assert {0: 79, 1: 79, 2: 143} == {peer: end.code for peer, end in told.items()}
    assert {True} == {end.grace for end in told.values()}
    assert (None, "stopped") == (told[0].verdict["first_failure"], told[0].verdict["outcome"])


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


def test_missing_members_are_named_in_time() -> None:
    """At the join timeout those who came are told who did not."""
    gang = gangs.make_coordinator(nnodes=4)
    gang.received(0, gangs.make_join(0, 4), 0.0)
    gang.received(2, gangs.make_join(2, 4), 0.0)
    told = gangs.ends(gang.tick(gangs.TIMEOUT))
    assert {0: 75, 2: 79} == {peer: end.code for peer, end in told.items()}
    assert "node 1, 3 of 4 never joined within 60 s" in str(cause_of(told[0])["message"])


def test_a_newer_pod_wins_before_the_attempt() -> None:
    """The older connection is told so and closed; the gang starts with the newer."""
    gang = gangs.make_coordinator(nnodes=3)
    gang.received(0, gangs.make_join(0, 3), 0.0)
    gang.received(1, gangs.make_join(1, 3), 0.0)
    effects = gang.received(5, gangs.make_join(1, 3, pod="digits-1-new"), 1.0)
    assert 79 == gangs.ends(effects)[1].code
    assert coordinator.Close(1) in effects
    started = gang.received(2, gangs.make_join(2, 3), 2.0)
    assert [0, 5, 2] == [e.peer for e in started if isinstance(e, coordinator.Send)]


def test_a_newer_pod_during_the_attempt_ends_it() -> None:
    """Its predecessor's ranks are in the process group: the attempt is spent."""
    gang = gangs.make_running()
    gang.received(5, gangs.make_join(1, pod="digits-1-new"), 1.0)
    told = gangs.ends(gang.tick(2.0))
    assert {0: 64, 5: 79} == {peer: end.code for peer, end in told.items()}
    assert "lost" == cause_of(told[0])["class"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param({"nnodes": 3}, "nnodes is 3 there but 2 on node 0", id="nnodes"),
        pytest.param({"nproc_per_node": 8}, "nprocPerNode is 8 there but 1 on node 0", id="nproc"),
        pytest.param({"code_digest": ""}, "the code digest is unset there but sha on node 0", id="code"),
        pytest.param({"torch_version": "2.4.0"}, "torch is 2.4.0 there but 2.9.1 on node 0", id="torch"),
        pytest.param({"node_rank": 5}, "there is no node 5 among 2 nodes", id="node rank"),
    ],
)
def test_a_join_that_disagrees_ends_the_job(change: dict[str, object], said: str) -> None:
    """Node 0 leaves with 77 and says the difference in one sentence."""
    gang = gangs.make_coordinator()
    gang.received(0, gangs.make_join(0), 0.0)
    told = gangs.ends(gang.received(1, gangs.make_join(1)._replace(**change), 0.0))
    assert {0: 77, 1: 79} == {peer: end.code for peer, end in told.items()}
    assert said in str(cause_of(told[0])["message"])


def test_a_launcher_that_ends_without_a_reason_ends_the_attempt() -> None:
    """Over without a failure before it still leads to a verdict."""
    gang = gangs.make_running()
    gang.received(1, messages.Over(0), 1.0)
    assert {0, 1} == set(gangs.ends(gang.tick(2.0)))
