"""A connection between member and coordinator, over real sockets: beats, silence, and what is never waited for."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from k8sddp.worker.gang import messages, wire
from k8sddp.worker.net import link, loop
from tests.unit.worker import gangs

KEY = "uid"
BEAT = 0.02
NEVER = 1000.0  # seconds
GREETING = wire.MAGIC + bytes(wire.NONCE_SIZE)


@contextlib.contextmanager
def connected() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Give the two ends of a TCP connection: the coordinator's, the member's."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        far = socket.create_connection(listener.getsockname())
        near, _ = listener.accept()
    with near, far:
        yield near, far


class Side:
    """One end with its link, and what its owner hears; a member joins at once."""

    def __init__(self, events: loop.Loop, sock: socket.socket, *, coordinator: bool, **limits: float) -> None:
        self.heard: list[messages.Message] = []
        self.lost: list[str] = []
        self.link = link.Link(
            events,
            sock,
            KEY,
            coordinator=coordinator,
            on_up=lambda one: None if coordinator else one.send(gangs.make_join(1)),
            on_message=lambda _, message: self.heard.append(message),
            on_lost=lambda _, reason: self.lost.append(reason),
            **limits,
        )


def play(events: loop.Loop, *conditions: Callable[[], object]) -> None:
    """Serve until each condition has come true, one after the other."""
    left = list(conditions)

    def look() -> None:
        while left and left[0]():
            left.pop(0)
        if left:
            events.after(0.002, look)
        else:
            events.stop(0)

    events.after(60.0, lambda: events.stop(1))
    look()
    assert 0 == events.run(), "it did not happen"


def passed(seconds: float) -> Callable[[], bool]:
    """Return a condition that comes true some time after it is first asked for."""
    began: list[float] = []

    def look() -> bool:
        began.append(time.monotonic())
        return began[-1] - began[0] > seconds

    return look


def test_a_quiet_connection_lives_on_beats() -> None:
    """Nobody has anything to say for many times the limit of silence; nobody is lost, and nobody hears of the beats."""
    events = loop.Loop()
    with connected() as (near, far):
        here = Side(events, near, coordinator=True, beat=BEAT)
        there = Side(events, far, coordinator=False, beat=BEAT)
        play(events, lambda: here.heard, passed(10 * link.MISSED * BEAT))
    assert ([], []) == (here.lost, there.lost)
    assert ([gangs.make_join(1)._replace(findings=[])], []) == (here.heard, there.heard)  # as JSON has it


@pytest.mark.parametrize("coordinator", [True, False], ids=["the coordinator's side", "the member's side"])
def test_a_peer_that_says_nothing_any_more_is_lost(coordinator: bool) -> None:
    """Its kernel still answers, as for a worker that is stopped: both sides notice it by the missing beats."""
    events = loop.Loop()
    with connected() as (near, far):
        here = Side(events, near, coordinator=True, beat=BEAT if coordinator else NEVER)
        there = Side(events, far, coordinator=False, beat=NEVER if coordinator else BEAT)
        one, other = (here, there) if coordinator else (there, here)
        play(events, lambda: one.lost)
        assert (True, False) == (one.link.silent, other.link.silent)
    assert [link.SILENT % (link.MISSED * BEAT)] == one.lost


def test_the_limit_of_silence_is_20_seconds() -> None:
    """As docs/protocol.md says: a beat every 5 s, four of them missed."""
    assert (5.0, 20.0) == (link.BEAT, link.MISSED * link.BEAT)


def test_who_was_stopped_itself_accuses_nobody_when_it_wakes() -> None:
    """No beat has come for ten times the limit, because nobody was there to read it: the peer is not lost."""
    events = loop.Loop()
    with connected() as (near, far):
        here = Side(events, near, coordinator=True, beat=BEAT)
        there = Side(events, far, coordinator=False, beat=BEAT)
        stopped = [lambda: time.sleep(10 * link.MISSED * BEAT) or True]
        play(events, lambda: here.heard, passed(2 * BEAT), *stopped, passed(10 * link.MISSED * BEAT))
    assert ([], []) == (here.lost, there.lost)


@pytest.mark.parametrize("greeting", [b"", GREETING], ids=["says nothing", "only greets"])
def test_a_stranger_has_a_few_seconds_to_show_who_it_is(greeting: bytes) -> None:
    """Then its place is free again."""
    events = loop.Loop()
    with connected() as (near, far):
        far.sendall(greeting)
        here = Side(events, near, coordinator=True, handshake=0.05)
        play(events, lambda: here.lost)
        assert -1 == near.fileno()
    assert here.lost[0].startswith("it did not answer within ")
    assert link.HANDSHAKE_LIMIT == 5.0  # as docs/protocol.md says


def test_a_link_tells_whether_all_that_was_sent_has_left() -> None:
    """What can wait is sent then only: not before the greeting has left, nor while the peer takes nothing."""
    events = loop.Loop()
    with connected() as (near, far):
        coordinator = Side(events, near, coordinator=True, beat=NEVER)
        member = Side(events, far, coordinator=False, beat=NEVER)
        assert not coordinator.link.clear
        play(events, lambda: coordinator.heard, lambda: coordinator.link.clear and member.link.clear)
        events.watch(far.fileno())  # the member does not look any more
        while coordinator.link.clear:
            coordinator.link.send(messages.Waiting("x" * 10_000))
        assert not coordinator.lost
        coordinator.link.abort()
        assert not coordinator.link.clear
        member.link.abort()


def test_a_peer_that_takes_nothing_is_dropped() -> None:
    """What waits for it is bounded: at 1 MiB it is lost."""
    events = loop.Loop()
    with connected() as (near, far):
        far.sendall(GREETING)
        here = Side(events, near, coordinator=True)
        text = messages.Leaving("x" * 100_000)
        sent: list[int] = []

        def more() -> bool:
            if not here.lost and len(far.recv(1, socket.MSG_PEEK)) == 1:  # so it has been greeted
                here.link.send(text)
                sent.append(1)
            return bool(here.lost)

        play(events, passed(0.01), more)
    assert ["it does not take what is sent to it"] == here.lost
    assert len(sent) < 300  # the kernel takes some, too
    assert link.MAX_UNSENT == 1024 * 1024


def test_a_connection_that_is_being_closed_is_not_held_open_by_its_peer() -> None:
    """It takes nothing and says nothing: after the limit of silence the descriptor is free, and nobody hears of it."""
    events = loop.Loop()
    with connected() as (near, far):
        far.sendall(GREETING)
        near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        here = Side(events, near, coordinator=True, beat=BEAT)

        def close() -> bool:
            for _ in range(9):
                here.link.send(messages.Leaving("x" * 100_000))
            here.link.close()
            return True

        play(events, passed(0.05), close, lambda: near.fileno() == -1)
    assert [] == here.lost
