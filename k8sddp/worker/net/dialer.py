"""A member's side: finds node rank 0, again and again, until it answers as the coordinator of this job.

Every dial resolves the name anew and tries each address, IPv4 and IPv6. The pauses between dials grow from 50 ms to
1 s, so that a job starts as soon as pod 0 is there and thousands of pods do not flood DNS. While it is connected it
looks the name up again from time to time: a pod 0 on a lost Kubernetes Node may still answer when its replacement has
the name. How long to go on is the member's decision, not made here.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable

from k8sddp.worker.gang import messages

from . import link, loop, names

FIRST_PAUSE = 0.05
LAST_PAUSE = 1.0
CONNECT_LIMIT = 3.0  # seconds for one address
LOOK_AGAIN = 5.0  # seconds between two looks at the name while connected, and 0.01 more for each node


class Dialer:
    """Keeps one connection to the coordinator; `on_lost` hears why a dial failed or the connection broke."""

    def __init__(
        self,
        events: loop.Loop,
        host: str,
        port: int,
        *,
        key: str,
        nnodes: int,
        look_again: float = LOOK_AGAIN,
        resolve: names.Resolve = names.resolve,
        on_up: Callable[[], None],
        on_message: Callable[[messages.Message], None],
        on_lost: Callable[[str], None],
    ) -> None:
        self._events = events
        self._host = host
        self._port = port
        self._key = key
        self._on_up = on_up
        self._on_message = on_message
        self._on_lost = on_lost
        self._pause = 0.0
        self._look_again = look_again + 0.01 * nnodes
        self._resolve = resolve
        self._link: link.Link | None = None
        self._known: set[object] = set()  # the addresses that the name had at the last dial
        self._left: set[object] = set()  # those of a coordinator that has been replaced

    def dial(self) -> None:
        """Dial after the pause that is due; exactly one of `on_up` and `on_lost` follows."""
        self._link = None
        pause, self._pause = self._pause, min(LAST_PAUSE, max(FIRST_PAUSE, self._pause * 1.5))
        self._events.after(pause, lambda: self._resolve(self._events, self._host, self._port, self._resolved))

    @property
    def clear(self) -> bool:
        """Return whether the coordinator is there and has been sent all."""
        return self._link is not None and self._link.clear

    def send(self, message: messages.Message) -> None:
        """Send `message` to the coordinator if it is there."""
        if self._link:
            self._link.send(message)

    def close(self) -> None:
        """Close the connection once what was sent has left."""
        if self._link:
            self._link.close()

    def _resolved(self, addresses: names.Addresses, problem: str) -> None:
        self._known = {address for _, address in addresses}
        current = [one for one in addresses if one[1] not in self._left] or list(addresses)
        if current:
            self._connect(current, "")
        else:
            self._on_lost(problem)

    def _watch_name(self, connection: link.Link) -> None:
        """Leave the coordinator when its name has a new address."""

        def looked(addresses: names.Addresses, _: str) -> None:
            if self._link is not connection:
                return
            if {address for _, address in addresses} <= self._known:
                self._watch_name(connection)
                return
            self._left = self._known
            self._link = None
            connection.abort()
            self._on_lost("%s has a new address" % self._host)

        def look() -> None:
            if self._link is connection:
                self._resolve(self._events, self._host, self._port, looked)

        if not names.is_address(self._host):
            self._events.after(self._look_again, look)

    def _connect(self, addresses: list[tuple[int, tuple[object, ...]]], problem: str) -> None:
        if not addresses:
            self._on_lost("%s port %d: %s" % (self._host, self._port, problem))
            return
        family, address = addresses.pop(0)
        try:
            sock = socket.socket(family, socket.SOCK_STREAM)
        except OSError as error:  # IPv6 is switched off
            self._connect(addresses, _text(error.errno))
            return
        sock.setblocking(False)
        code = sock.connect_ex(address)
        if code not in (0, errno.EINPROGRESS):
            sock.close()
            self._connect(addresses, _text(code))
            return

        def answered() -> None:
            timer.cancel()
            self._events.watch(sock.fileno())
            failure = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if failure:
                sock.close()
                self._connect(addresses, _text(failure))
            else:
                self._greet(sock)

        def too_slow() -> None:
            self._events.watch(sock.fileno())
            sock.close()
            self._connect(addresses, "no answer within %.0f s" % CONNECT_LIMIT)

        timer = self._events.after(CONNECT_LIMIT, too_slow)
        self._events.watch(sock.fileno(), write=answered)

    def _greet(self, sock: socket.socket) -> None:
        def message(_: link.Link, received: messages.Message) -> None:
            self._pause = FIRST_PAUSE  # it is ours: dial quickly when it breaks
            self._on_message(received)

        def lost(_: link.Link, reason: str) -> None:
            self._link = None
            self._on_lost("%s port %d: %s" % (self._host, self._port, reason))

        self._link = link.Link(
            self._events,
            sock,
            self._key,
            coordinator=False,
            on_up=lambda _: self._on_up(),
            on_message=message,
            on_lost=lost,
        )
        self._watch_name(self._link)


def _text(code: int | None) -> str:
    return os.strerror(code or 0).lower()
