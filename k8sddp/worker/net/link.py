"""One TCP connection between a member and the coordinator: non-blocking, authenticated, bounded both ways.

A peer that is not a worker of this job, is too slow to show that it is, or does not take what we send is dropped. The
kernel's keepalive finds peers that vanish without a word, so the protocol needs no heartbeat of its own.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable

from k8sddp.worker.gang import messages, wire

from . import loop

HANDSHAKE_LIMIT = 5.0  # seconds until the first authenticated frame
MAX_UNSENT = 1024 * 1024
SILENCE = 20  # seconds after which a silent machine counts as gone: 5 s idle, then a probe every 5 s, three times


class Link:
    """A connection; `on_message` gets every message, `on_lost` the reason when it breaks (never after `close`)."""

    def __init__(
        self,
        events: loop.Loop,
        sock: socket.socket,
        key: str,
        *,
        coordinator: bool,
        on_up: Callable[[Link], None],
        on_message: Callable[[Link, messages.Message], None],
        on_lost: Callable[[Link, str], None],
    ) -> None:
        self._events = events
        self._socket = sock
        self._session = wire.Session(key, coordinator=coordinator, nonce=os.urandom(wire.NONCE_SIZE))
        self._coordinator = coordinator
        self._on_up = on_up
        self._on_message = on_message
        self._on_lost = on_lost
        self._out = self._session.greeting()
        self._open = True
        self._closing = False
        sock.setblocking(False)
        _keep_alive(sock)
        events.watch(sock.fileno(), read=self._readable, write=self._flush)  # the greeting leaves in the next round
        self._timer = events.after(HANDSHAKE_LIMIT, self._too_slow)

    def send(self, message: messages.Message) -> None:
        """Queue `message` and send what the socket takes."""
        if self._open and not self._closing:
            self._out += self._session.seal(messages.encode(message))
            if len(self._out) > MAX_UNSENT:
                self._lose("it does not take what is sent to it")
            else:
                self._flush()

    def close(self) -> None:
        """Close once what was queued has left."""
        self._closing = True
        if self._open and not self._out:
            self._shut()

    def abort(self) -> None:
        """Close at once."""
        if self._open:
            self._shut()

    def _readable(self) -> None:
        try:
            data = self._socket.recv(64 * 1024)
        except BlockingIOError:
            return
        except OSError as error:
            self._lose(error.strerror or str(error))
            return
        if not data:
            self._lose("it closed the connection")
            return
        try:
            self._take(data)
        except wire.WireError as error:
            self._lose(str(error))

    def _take(self, data: bytes) -> None:
        greeted = self._session.greeted
        records = self._session.feed(data)
        if self._session.authenticated or (self._session.greeted and not self._coordinator):
            self._timer.cancel()
        if self._session.greeted and not greeted:
            self._on_up(self)
        for record in records:
            if self._open and not self._closing:
                self._on_message(self, messages.decode(record))

    def _flush(self) -> None:
        if not self._open:
            return
        try:
            if self._out:
                self._out = self._out[self._socket.send(self._out) :]
        except BlockingIOError:
            pass
        except OSError as error:
            self._lose(error.strerror or str(error))
            return
        if self._closing and not self._out:
            self._shut()
        else:
            self._events.watch(self._socket.fileno(), read=self._readable, write=self._flush if self._out else None)

    def _too_slow(self) -> None:
        self._lose("it did not answer within %.0f s" % HANDSHAKE_LIMIT)

    def _lose(self, reason: str) -> None:
        if self._open:
            self._shut()
            self._on_lost(self, reason)

    def _shut(self) -> None:
        self._open = False
        self._timer.cancel()
        self._events.watch(self._socket.fileno())
        self._socket.close()


def _keep_alive(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for name, value in (("TCP_KEEPIDLE", 5), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3), ("TCP_USER_TIMEOUT", 20000)):
        option = getattr(socket, name, None)  # Linux has all of them
        if option is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)
