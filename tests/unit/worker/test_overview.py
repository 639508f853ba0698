"""A node's part in what is known of the gang: what it tells node 0 and when, and what node 0 tells of all."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from k8sddp.worker import overview
from k8sddp.worker.contract import node_env
from k8sddp.worker.gang import messages, progress, standings
from tests.unit.worker import workers


class Events:
    """The loop's clock and timers, moved by the test."""

    def __init__(self) -> None:
        self.time = 100.0
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._cancelled: set[int] = set()
        self._count = 0

    def now(self) -> float:
        return self.time

    def after(self, seconds: float, callback: Callable[[], None]) -> Any:
        self._count += 1
        number = self._count
        heapq.heappush(self._timers, (self.time + seconds, number, callback))
        return type("Timer", (), {"cancel": lambda _: self._cancelled.add(number)})()

    def wait(self, seconds: float) -> None:
        until = self.time + seconds
        while self._timers and self._timers[0][0] <= until:
            self.time, number, callback = heapq.heappop(self._timers)
            if number not in self._cancelled:
                callback()
        self.time = until


class Node:
    """One node of a gang; `ranks` is what its pages say."""

    def __init__(self, node_rank: int = 0, nnodes: int = 2, nproc_per_node: int = 2) -> None:
        env = workers.make_env(0, workers.ROOT, 29400)
        changes = {"NNODES": nnodes, "NPROC_PER_NODE": nproc_per_node, "NODE_RANK": node_rank}
        node = node_env.parse({**env, **{f"K8SDDP_{name}": str(value) for name, value in changes.items()}})
        self.events = Events()
        self.told: list[tuple[float, messages.Progress]] = []
        self.said: list[str] = []
        self.clear = True
        self.ranks: Sequence[progress.Rank] = [
            progress.Rank(node_rank * nproc_per_node + rank, step=5, age=0.5) for rank in range(nproc_per_node)
        ]
        self.gang = standings.Standings(nnodes, nproc_per_node) if node_rank == 0 else None
        self.overview = overview.Overview(
            self.events,  # type: ignore[arg-type]
            node,
            gang=self.gang,
            clear=lambda: self.clear,
            tell=lambda message: self.told.append((self.events.time, message)),  # type: ignore[arg-type]
            say=self.said.append,
        )

    def begin(self) -> Node:
        self.overview.begin(3, lambda: self.ranks)
        return self

    def rows(self) -> list[int]:
        return [len(message.rows) for _, message in self.told]


def test_a_node_tells_of_its_ranks_once_a_second_while_they_run() -> None:
    """All of them first, then what has changed; nothing once they are being ended."""
    node = Node(1).begin()
    node.events.wait(2.5)
    node.ranks = [node.ranks[0], node.ranks[1]._replace(step=6)]
    node.events.wait(1.0)
    node.overview.end()
    node.events.wait(10.0)
    assert [101.0, 102.0, 103.0] == [at for at, _ in node.told]
    assert ([2, 0, 1], {3}) == (node.rows(), {message.attempt for _, message in node.told})


def test_node_0_hears_what_has_changed_before_it_hears_of_a_look() -> None:
    """Else it would judge a stack of now by counts of a second ago, and call a rank hung that has just gone on."""
    node = Node().begin()
    node.events.wait(1.0)
    node.ranks = [one._replace(step=6) for one in node.ranks]
    heard: list[tuple[int, object]] = []
    before = len(node.told)
    node.overview.first(lambda rows: heard.append((len(node.told), rows)))([["row"]])
    assert [(before + 1, [["row"]])] == heard
    assert [6, 6] == [told.rank.step for told in map(progress.decode, node.told[-1][1].rows) if told]


def test_the_nodes_of_a_gang_do_not_speak_all_at_once() -> None:
    """Of 4,096 each has its own moment in the 16 seconds."""
    first = []
    for node_rank in (0, 1024, 4095):
        node = Node(node_rank, nnodes=4096).begin()
        node.events.wait(40.0)
        first.append(node.told[0][0] - 100.0)
        assert 16.0 == node.told[1][0] - node.told[0][0]
    assert [pytest.approx(one, abs=0.01) for one in (0.0, 4.0, 16.0)] == first


def test_a_connection_that_has_more_to_send_is_not_given_this_as_well() -> None:
    """What was not told then is told as soon as it takes more."""
    node = Node(1).begin()
    node.clear = False
    node.events.wait(3.5)
    assert [] == node.told
    node.clear = True
    node.events.wait(1.0)
    assert [2] == node.rows()


def test_a_fault_is_said_once_and_ends_nothing() -> None:
    """A page that raises, as long as it does; then it goes on."""
    node = Node(1)

    def broken() -> Sequence[progress.Rank]:
        if node.events.time < 103.5:
            raise ValueError("no page")
        return node.ranks

    node.overview.begin(0, broken)
    node.events.wait(4.0)
    assert ["telling how far the ranks are failed, and will not be told again: ValueError: no page"] == node.said
    assert [2] == node.rows()


def test_thousands_of_ranks_of_one_node_are_told_in_several_messages() -> None:
    """None is longer than a frame may be."""
    node = Node(1, nproc_per_node=600).begin()
    node.events.wait(1.0)
    assert [256, 256, 88] == node.rows()


def make_gang(nnodes: int, nproc_per_node: int = 2) -> Node:
    """Return node 0 of a gang whose members have told, two seconds ago, that rank n is at step n, the last at 0."""
    node = Node(0, nnodes, nproc_per_node).begin()
    assert node.gang is not None
    node.gang.take(0, [progress.encode(one, still=0.0) for one in node.ranks], node.events.time)
    for other in range(1, nnodes):
        ranks = range(other * nproc_per_node, (other + 1) * nproc_per_node)
        last = nnodes * nproc_per_node - 1
        rows = [progress.encode(progress.Rank(rank, step=rank % last, age=1.0), still=0.0) for rank in ranks]
        node.gang.take(other, rows, node.events.time)
    node.events.wait(2.0)
    return node


def test_node_0_tells_of_all_ranks() -> None:
    """Its own as they are, the others' as they were told."""
    node = make_gang(3)
    assert [(0, 0, 0.0, 5), (1, 0, 0.0, 5), (2, 1, 2.0, 2), (3, 1, 2.0, 3), (4, 2, 2.0, 4), (5, 2, 2.0, 0)] == [
        (seen.rank.rank, seen.node_rank, seen.heard, seen.rank.step) for seen in node.overview.ranks()
    ]
    assert [1, 4] == [seen.rank.rank for rank in (1, 4) for seen in node.overview.ranks(range(rank, rank + 1))]
    far = node.overview.summary()
    assert far is not None
    assert (3, "starting", 6, 0, 5, 5) == (far.attempt, far.phase, far.ranks, far.step, far.last_rank, far.steps_max)


def test_of_a_large_gang_the_ranks_worth_a_look_are_told_unasked() -> None:
    """Node 0's own and the one that is least far on; any others when they are asked for."""
    node = make_gang(300)
    assert [0, 1, 599] == [seen.rank.rank for seen in node.overview.ranks()]
    assert [598, 599] == [seen.rank.rank for seen in node.overview.ranks(range(598, 700))]


def test_another_node_tells_of_its_own() -> None:
    """It knows of no other."""
    node = Node(1).begin()
    assert [(2, 1), (3, 1)] == [(seen.rank.rank, seen.node_rank) for seen in node.overview.ranks()]
    assert [] == node.overview.ranks(range(2))
    far = node.overview.summary()
    assert far is not None
    assert (2, 5) == (far.ranks, far.step)


def test_nothing_is_told_of_ranks_that_are_being_ended() -> None:
    """Neither figures nor rows, on node 0 too."""
    node = make_gang(3)
    node.overview.end()
    assert (None, [], ()) == (node.overview.summary(), node.overview.ranks(), node.overview.stragglers)


def test_node_0_names_a_straggler_in_its_log() -> None:
    """Rank 3 of node 1 needs 50 ms where the others need 10, for 40 steps."""
    node = Node(0)
    assert node.gang is not None

    def ranks() -> Sequence[progress.Rank]:
        steps = int(10 * (node.events.time - 100.0))
        return [
            progress.Rank(rank, step=steps + 1, step_time=0.1 * steps, own_time=own * steps, own_steps=steps, age=0.0)
            for rank, own in enumerate((0.01, 0.01, 0.01, 0.05))
        ]

    node.overview.begin(3, lambda: ranks()[:2])
    for _ in range(7):
        node.events.wait(1.0)
        for one in ranks():
            node.gang.take(one.rank // 2, [progress.encode(one, still=0.0)], node.events.time)
    text = "straggler: rank 3 (node 1) spends 50 ms a step on data, forward and saving, the others 10 ms: 40 % is lost"
    assert [text] == node.said
    far = node.overview.summary()
    assert far is not None
    assert (3, [3]) == (far.slowest_rank, [one.rank for one in node.overview.stragglers])
    assert pytest.approx(10.0) == far.rate  # not less for having been asked half a second after the last beat
