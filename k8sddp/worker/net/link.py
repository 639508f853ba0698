"""One TCP connection between a member and the coordinator: non-blocking, authenticated, bounded both ways.

A peer that is not a worker of this job, is too slow to show that it is, or does not take what we send is dropped. So is
one that falls silent: both sides send a beat every BEAT seconds, from the loop that does all their work. TCP's own
keepalive would be answered by the kernel of a process that is stopped; a beat shows that the worker runs. Silence is
counted in beats of our own, not by the clock: who was stopped itself accuses nobody when it wakes.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable

from k8sddp.worker.gang import messages, wire

from . import loop

HANDSHAKE_LIMIT = 5.0  # seconds until the first authenticated frame
MAX_UNSENT = 1024 * 1024
BEAT = 5.0  # seconds between two beats: 52 bytes and some 30 us each, on each side of each connection
MISSED = 4  # beats of ours, after the first that finds nothing new, until a silent peer counts as gone: 20 to 25 s
SILENT = "its worker said nothing for %.0f s: it is stopped, or its machine or network is gone"


class Link:
    """A connection; `on_message` gets every message, `on_lost` the reason when it breaks (never after `close`)."""

    def __init__(
        self,
        events: loop.Loop,
        sock: socket.socket,
        key: str,
        *,
        coordinator: bool,
        beat: float = BEAT,
        handshake: float = HANDSHAKE_LIMIT,
        on_up: Callable[[Link], None],
        on_message: Callable[[Link, messages.Message], None],
        on_lost: Callable[[Link, str], None],
    ) -> None:
        self._events = events
        self._socket = sock
        self._session = wire.Session(key, coordinator=coordinator, nonce=os.urandom(wire.NONCE_SIZE))
        self._coordinator = coordinator
        self._beat = beat
        self._quiet = 0  # beats of ours since the peer's last word
        self._on_up = on_up
        self._on_message = on_message
        self._on_lost = on_lost
        self._out = self._session.greeting()
        self._open = True
        self._closing = False
        self._handshake = handshake
        self.silent = False  # lost because the peer said nothing any more
        self._known = False  # the peer has shown who it is: it beats from now on
        self._writing = True
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        events.watch(sock.fileno(), read=self._readable, write=self._flush)  # the greeting leaves in the next round
        self._timer = events.after(handshake, self._too_slow)

    @property
    def clear(self) -> bool:
        """Return whether all that was sent has left: what can wait is not sent to a peer that does not take more."""
        return self._open and not self._closing and not self._out

    def send(self, message: messages.Message) -> None:
        """Queue `message` and send what the socket takes."""
        if self._open and not self._closing:
            self._out += self._session.seal(messages.encode(message))
            if len(self._out) > MAX_UNSENT:
                self._lose("it does not take what is sent to it")
            else:
                self._flush()

    def close(self) -> None:
        """Close once what was queued has left, or has not been taken for as long as a peer may be silent."""
        self._closing = True
        if self._open and not self._out:
            self._shut()
        elif self._open:
            self._timer.cancel()
            self._timer = self._events.after(MISSED * self._beat, self.abort)

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
        self._quiet = 0
        try:
            self._take(data)
        except wire.WireError as error:
            self._lose(str(error))

    def _take(self, data: bytes) -> None:
        greeted = self._session.greeted
        records = self._session.feed(data)
        shown = self._session.authenticated or (self._session.greeted and not self._coordinator)
        if shown and not self._known and not self._closing:
            self._known = True
            self._timer.cancel()
            self._timer = self._events.after(self._beat, self._tick)
        if self._session.greeted and not greeted:
            self._on_up(self)
        for record in records:
            if self._open and not self._closing:
                message = messages.decode(record)
                if not isinstance(message, messages.Beat):
                    self._on_message(self, message)

    def _tick(self) -> None:
        """Say that we run, and look whether the peer does."""
        if self._quiet >= MISSED:
            self.silent = True
            self._lose(SILENT % (MISSED * self._beat))
            return
        self._quiet += 1
        self._timer = self._events.after(self._beat, self._tick)
        self.send(messages.Beat())

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
        elif self._writing != bool(self._out):
            self._writing = bool(self._out)
            self._events.watch(self._socket.fileno(), read=self._readable, write=self._flush if self._out else None)

    def _too_slow(self) -> None:
        self._lose("it did not answer within %.0f s" % self._handshake)

    def _lose(self, reason: str) -> None:
        if self._open:
            self._shut()
            if not self._closing:
                self._on_lost(self, reason)

    def _shut(self) -> None:
        self._open = False
        self._timer.cancel()
        self._events.watch(self._socket.fileno())
        self._socket.close()
