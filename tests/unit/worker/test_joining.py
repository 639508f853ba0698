"""Who joins a gang: when all are there, who is missing, which of two pods counts, who does not belong."""

from __future__ import annotations

import itertools

import pytest

from k8sddp.worker.gang import coordinator, messages
from tests.unit.worker import gangs
from tests.unit.worker.gangs import cause_of


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
    assert [coordinator.Send(1, messages.Waiting("0, 2"))] == gang.tick(due)
    assert gang.deadline() == due + coordinator.REMIND


def test_members_that_wait_hear_from_node_0_while_others_train_and_end() -> None:
    """They have joined again after their connection broke, or were quick to end; silence would drive them away."""
    gang = gangs.make_running(3, max_attempts=2)
    assert None is gang.deadline()
    gang.received(1, messages.Complete(0), 5.0)
    gang.lost(1, 6.0)
    gang.received(7, gangs.make_join(1, 3), 16.0)
    due = gang.deadline()
    assert due is not None
    assert due <= 16.0 + coordinator.REMIND
    assert [coordinator.Send(7, messages.Waiting(""))] == gang.tick(due)
    assert due + coordinator.REMIND == gang.deadline()
    gang.received(2, messages.Leaving("SIGTERM"), 20.0)  # rank 0 has a grace period of 30 s
    assert [coordinator.Send(7, messages.Waiting("2"))] == gang.tick(20.0 + coordinator.REMIND)


def test_missing_members_are_named_in_time() -> None:
    """At the join timeout those who came are told who did not."""
    gang = gangs.make_coordinator(nnodes=4)
    gang.received(0, gangs.make_join(0, 4), 0.0)
    gang.received(2, gangs.make_join(2, 4), 0.0)
    told = gangs.ends(gang.tick(gangs.TIMEOUT))
    assert {0: 75, 2: 79} == {peer: end.code for peer, end in told.items()}
    assert "node 1, 3 of 4 never joined within 600 s" in str(cause_of(told[0])["message"])


def test_a_newer_pod_wins_before_the_attempt() -> None:
    """The older connection is told so and closed; the gang starts with the newer."""
    gang = gangs.make_coordinator(nnodes=3)
    gang.received(0, gangs.make_join(0, 3), 0.0)
    gang.received(1, gangs.make_join(1, 3), 0.0)
    effects = gang.received(5, gangs.make_join(1, 3, pod="digits-1-new"), 1.0)
    assert 79 == gangs.ends(effects)[1].code
    assert coordinator.Close(1) in effects
    started = gang.received(2, gangs.make_join(2, 3), 2.0)
    assert {0, 2, 5} == set(gangs.sent(started, messages.Attempt))


def test_a_newer_pod_during_the_attempt_ends_it() -> None:
    """Its predecessor's ranks are in the process group: it is told to go, and the attempt ends for all."""
    gang = gangs.make_running(max_attempts=2)
    effects = gang.received(5, gangs.make_join(1, pod="digits-1-new", ignored_count=1), 1.0)
    assert 79 == gangs.ends(effects)[1].code
    assert [0, 5] == list(gangs.sent(gang.tick(2.0), messages.Ended))  # which the newcomer, who never ran, ignores
    started = gangs.sent(gang.received(0, messages.Idle(0), 2.1), messages.Attempt)
    assert {0: 0, 5: 0} == {peer: terms.spent for peer, terms in started.items()}


def test_an_old_pod_that_comes_back_is_sent_away() -> None:
    """It has had fewer lives than the one in its place, or its name is known for stale."""
    gang = gangs.make_coordinator(nnodes=3)
    gang.received(5, gangs.make_join(1, 3, pod="digits-1-new", ignored_count=1), 1.0)
    assert 79 == gangs.ends(gang.received(6, gangs.make_join(1, 3), 2.0))[6].code
    gang.received(7, gangs.make_join(1, 3, pod="digits-1-newer", ignored_count=1), 3.0)
    assert 79 == gangs.ends(gang.received(8, gangs.make_join(1, 3, pod="digits-1-new", ignored_count=1), 4.0))[8].code
    assert 79 == gangs.ends(gang.received(9, gangs.make_join(0, 3, pod="digits-0-old"), 5.0))[9].code


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
