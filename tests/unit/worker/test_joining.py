"""Who joins a gang: when all are there, who is missing, which of two pods counts, who does not belong."""

from __future__ import annotations

import itertools

import pytest

from k8sddp.worker.gang import effects, messages, roster
from tests.unit.worker import gangs
from tests.unit.worker.gangs import cause_of


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))), ids=str)
def test_the_attempt_starts_when_all_are_there(order: tuple[int, ...]) -> None:
    """Whatever the order of joins, everybody gets the attempt once, with the last one."""
    gang = gangs.make_coordinator(nnodes=3)
    todo = [gang.received(node, gangs.make_join(node, 3), 1.0) for node in order]
    attempts = [
        [e.peer for e in some if isinstance(e, effects.Send) and e.message == gangs.make_attempt()] for some in todo
    ]
    assert [[], [], [0, 1, 2]] == attempts


def test_members_that_wait_hear_who_is_missing_and_for_how_long() -> None:
    """At the join, after a second, and then less and less often, but every five minutes, for days."""
    gang = gangs.make_coordinator(nnodes=3)
    assert [effects.Send(1, messages.Waiting("0, 2", 0))] == gang.received(1, gangs.make_join(1, 3), 0.0)
    times = []
    while not times or times[-1] < 200_000:
        due = gang.deadline()
        assert due is not None
        times.append(due)
        assert [effects.Send(1, messages.Waiting("0, 2", int(due)))] == gang.tick(due)
    assert [1.0, 31.0, 91.0, 211.0, 451.0, 751.0, 1051.0] == times[:7]
    started = gang.received(0, gangs.make_join(0, 3), 200_000.0) + gang.received(2, gangs.make_join(2, 3), 200_000.0)
    assert {0: 0, 1: 0, 2: 0} == {peer: terms.number for peer, terms in gangs.sent(started, messages.Attempt).items()}


def test_who_joins_while_others_train_is_not_told_that_anybody_is_missing() -> None:
    """Its connection broke after its part was done: it waits for the others' end, and needs no reminder."""
    gang = gangs.make_running(3, max_attempts=2)
    gang.received(1, messages.Complete(0), 5.0)
    gang.lost(1, 6.0)
    assert [effects.Send(7, messages.Waiting(""))] == gang.received(7, gangs.make_join(1, 3), 700.0)
    assert gang.watch.due == gang.deadline()


@pytest.mark.parametrize(
    ("present", "text"),
    [
        ([], "0, 1, 2, 3, 4, 5, 6, 7 and 12 more"),
        (range(1, 20), "0"),
        (range(12), "12, 13, 14, 15, 16, 17, 18, 19"),
        ([0, 2, 19], "1, 3, 4, 5, 6, 7, 8, 9 and 9 more"),
        (range(20), ""),
    ],
    ids=["nobody", "all but 0", "the last eight", "some", "all"],
)
def test_the_missing_are_listed_by_their_lowest_ranks(present: list[int], text: str) -> None:
    """Eight by number, the others by how many they are."""
    members = roster.Roster(20)
    for node in present:
        members.add(node, gangs.make_join(node, 20))
    assert text == members.missing_text()


def test_a_newer_pod_wins_before_the_attempt() -> None:
    """The older connection is told so and closed; the gang starts with the newer."""
    gang = gangs.make_coordinator(nnodes=3)
    gang.received(0, gangs.make_join(0, 3), 0.0)
    gang.received(1, gangs.make_join(1, 3), 0.0)
    todo = gang.received(5, gangs.make_join(1, 3, pod="digits-1-new"), 1.0)
    assert 79 == gangs.ends(todo)[1].code
    assert effects.Close(1) in todo
    started = gang.received(2, gangs.make_join(2, 3), 2.0)
    assert {0, 2, 5} == set(gangs.sent(started, messages.Attempt))


def test_a_newer_pod_during_the_attempt_ends_it() -> None:
    """Its predecessor's ranks are in the process group: it is told to go, and the attempt ends for all."""
    gang = gangs.make_running(max_attempts=2)
    todo = gang.received(5, gangs.make_join(1, pod="digits-1-new", ignored_count=1), 1.0)
    assert 79 == gangs.ends(todo)[1].code
    assert [0, 5] == list(gangs.sent(gang.tick(2.0), messages.Ended))  # which the newcomer, who never ran, ignores
    started = gangs.sent(gang.received(0, messages.Idle(0), 2.1), messages.Attempt)
    assert {0: 0, 5: 0} == {peer: terms.spent for peer, terms in started.items()}


def test_an_old_pod_that_comes_back_is_sent_away() -> None:
    """Its node has had fewer pods than with the one in its place, or its name is known for stale."""
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
