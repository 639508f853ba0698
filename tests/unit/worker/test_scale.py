"""A gang of thousands: what the coordinator does for each member does not grow with the number of members."""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable, Iterator, Sequence

import pytest

from k8sddp.worker.gang import coordinator, effects, messages
from tests.unit.worker import gangs

SMALL, LARGE = 256, 2048
LINEAR = LARGE / SMALL  # 8; what looks at every member for each one takes 64 times as long
VICTIM = "RuntimeError: [gloo/transport/tcp/pair.cc:534] Connection closed by peer [10.0.0.1]:1234"

Story = Callable[[coordinator.Coordinator, Sequence[int]], None]


@pytest.fixture(autouse=True)
def without_garbage_collection() -> Iterator[None]:
    """Its work grows with all that this process has ever made."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def told(gang: coordinator.Coordinator, todo: Sequence[effects.Effect]) -> Sequence[effects.Effect]:
    """Do what the driver does after each message."""
    gang.deadline()
    return todo


def join(gang: coordinator.Coordinator, order: Sequence[int]) -> None:
    for node in order:
        told(gang, gang.received(node, gangs.make_join(node, len(order)), 0.0))


def restart(gang: coordinator.Coordinator, order: Sequence[int]) -> None:
    """A rank fails, its neighbours lose it, every launcher ends, every member is idle: the next attempt starts."""
    told(gang, gang.received(1, gangs.failed(1), 2.0))
    for node in order:
        told(gang, gang.received(node, gangs.failed(node, VICTIM), 2.0))
    for node in order:
        told(gang, gang.received(node, messages.Over(0), 2.1))
    told(gang, gang.tick(9.0))
    for node in order:
        todo = told(gang, gang.received(node, messages.Idle(0), 9.0))
    assert len(order) == len(gangs.sent(list(todo), messages.Attempt))


def lose_all_but_node_0(gang: coordinator.Coordinator, order: Sequence[int]) -> None:
    """The network of node 0 breaks: every member is lost, and comes back."""
    for node in order:
        if node:
            told(gang, gang.lost(node, 2.0))
    told(gang, gang.tick(9.0))
    told(gang, gang.received(0, messages.Idle(0), 9.0))
    for node in order:
        if node:
            todo = told(gang, gang.received(len(order) + node, gangs.make_join(node, len(order)), 10.0))
    assert len(order) == len(gangs.sent(list(todo), messages.Attempt))


def complete(gang: coordinator.Coordinator, order: Sequence[int]) -> None:
    for node in order:
        todo = told(gang, gang.received(node, messages.Complete(0), 2.0))
    assert len(order) == len(gangs.ends(list(todo)))


def seconds(story: Story, nnodes: int, order: Sequence[int]) -> float:
    """Return the CPU time of a story for a gang, the shortest of three, so that other programs do not count."""
    times = []
    for _ in range(3):
        gang = gangs.make_coordinator(nnodes, max_attempts=4) if story is join else gangs.make_running(nnodes, 4)
        began = time.process_time()
        story(gang, order)
        times.append(time.process_time() - began)
    return min(times)


def upwards(nnodes: int) -> Sequence[int]:
    return range(nnodes)


def shuffled(nnodes: int) -> Sequence[int]:
    return random.Random(1).sample(range(nnodes), nnodes)


def first_one_last(nnodes: int) -> Sequence[int]:
    return [*range(1, nnodes), 0]


@pytest.mark.parametrize("order", [upwards, shuffled, first_one_last])
@pytest.mark.parametrize("story", [join, restart, lose_all_but_node_0, complete])
def test_the_work_grows_with_the_number_of_members_and_not_with_its_square(
    story: Story, order: Callable[[int], Sequence[int]]
) -> None:
    """Eight times as many members take some eight times as long, in whatever order they speak."""
    small, large = (seconds(story, nnodes, order(nnodes)) for nnodes in (SMALL, LARGE))
    print(f"{story.__name__}: {SMALL} members {1e3 * small:.1f} ms, {LARGE} members {1e3 * large:.1f} ms")
    assert large < 3 * LINEAR * small
