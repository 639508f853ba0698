"""How a member finds node 0: by its name, which may have another address tomorrow."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable

from k8sddp.worker.gang import messages
from k8sddp.worker.net import dialer, link, loop, names
from tests.unit.worker import gangs
from tests.unit.worker.test_link import play

KEY, HOST = "uid", "digits-0.digits.invalid"


class NodeZero:
    """A pod of node 0: it listens at an address of its own, and has the links of those who found it."""

    def __init__(self, events: loop.Loop, address: str, port: int = 0) -> None:
        self.listener = socket.create_server((address, port))
        self.address = self.listener.getsockname()
        self.joined: list[messages.Message] = []
        self.links: list[link.Link] = []
        self._events = events
        events.watch(self.listener.fileno(), read=self._accept)

    def _accept(self) -> None:
        sock, _ = self.listener.accept()
        one = link.Link(
            self._events,
            sock,
            KEY,
            coordinator=True,
            on_up=lambda _: None,
            on_message=lambda _, message: self.joined.append(message),
            on_lost=lambda *_: None,
        )
        self.links.append(one)

    def close(self) -> None:
        for one in self.links:
            one.abort()
        self._events.watch(self.listener.fileno())
        self.listener.close()


def find(events: loop.Loop, known: list[NodeZero]) -> tuple[dialer.Dialer, list[str]]:
    """Return a dialer of a name that has the addresses of `known`, and what it loses; it dials and joins again."""
    lost: list[str] = []

    def resolve(_: loop.Loop, host: str, port: int, done: Callable[[names.Addresses, str], None]) -> None:
        assert (HOST, 1) == (host, port)
        found = tuple((int(socket.AF_INET), one.address) for one in known)
        events.soon(lambda: done(found, "" if found else "it does not resolve"))

    def again(problem: str) -> None:
        lost.append(problem)
        one.dial()

    one = dialer.Dialer(
        events,
        HOST,
        1,
        key=KEY,
        nnodes=2,
        look_again=0.01,
        resolve=resolve,
        on_up=lambda: one.send(gangs.make_join(1, pod=f"digits-1-{os.getpid()}")),
        on_message=lambda message: None,
        on_lost=again,
    )
    one.dial()
    return one, lost


def test_a_node_0_whose_name_has_moved_is_left_for_the_new_one() -> None:
    """The old pod still answers, from a Kubernetes Node that is lost: the member goes where the name is."""
    events = loop.Loop()
    old, new = NodeZero(events, "127.0.0.1"), NodeZero(events, "127.0.0.1")
    known = [old]
    one, lost = find(events, known)

    def moves() -> bool:
        known[:] = [old, new]  # the endpoints of a pod that is being deleted may stay for a while
        return True

    play(events, lambda: old.joined, moves, lambda: new.joined)
    assert [f"{HOST} has a new address"] == lost
    assert (1, 1) == (len(old.joined), len(new.joined))
    one.close()
    old.close()
    new.close()


def test_a_name_that_does_not_resolve_for_a_moment_changes_nothing() -> None:
    """DNS may be away while the gang trains, and the address that is known may be one of several."""
    events = loop.Loop()
    old = NodeZero(events, "127.0.0.1")
    known = [old]
    looks: list[int] = []
    one, lost = find(events, known)

    def away() -> bool:
        known.clear()
        return True

    def looked() -> bool:
        looks.append(1)
        return len(looks) > 50

    play(events, lambda: old.joined, away, looked)
    assert ([], 1) == (lost, len(old.joined))
    one.close()
    old.close()
