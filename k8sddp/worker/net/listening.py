"""Accepts connections on one port, and lives without descriptors: it pauses instead of spinning, and says so once.

While the process is short of descriptors or memory the kernel keeps the connections that it has completed, and those
who dial wait. A selector would report the port as ready in every round meanwhile, which is a whole core for nothing.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable

from . import loop, telling

PAUSE = 0.5  # seconds until it is tried again
BATCH = 64  # connections in one round, so that those that are there are served too
# Errors of the connection itself, which is gone then; any other one may stay (accept(2), "Error handling")
GONE = (
    errno.ECONNABORTED,
    errno.EPROTO,
    errno.EPERM,
    errno.ENETDOWN,
    errno.ENETUNREACH,
    errno.EHOSTDOWN,
    errno.EHOSTUNREACH,
    errno.ENOPROTOOPT,
    errno.ENONET,
)


class Listener:
    """A listening socket; `accepted` gets each connection and the address it comes from."""

    def __init__(
        self,
        events: loop.Loop,
        listener: socket.socket,
        *,
        purpose: str,
        say: Callable[[str], None],
        accepted: Callable[[socket.socket, str], None],
    ) -> None:
        self._events = events
        self._socket = listener
        self._purpose = purpose
        self._say = say
        self._accepted = accepted
        self._said = False
        listener.setblocking(False)
        self._listen()

    def _listen(self) -> None:
        try:
            self._events.watch(self._socket.fileno(), read=self._ready)
        except OSError as error:
            self._pause(error)

    def _ready(self) -> None:
        for _ in range(BATCH):
            try:
                sock, address = self._socket.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno not in GONE:
                    self._pause(error)
                return
            try:
                self._accepted(sock, str(address[0]))
            except OSError as error:
                sock.close()
                self._pause(error)
                return

    def _pause(self, error: OSError) -> None:
        if not self._said:
            self._said = True
            what = telling.describe(error)
            self._say("connections to %s wait: %s (see `ulimit -n` and the pod's limits)" % (self._purpose, what))
        try:
            self._events.watch(self._socket.fileno())
        finally:
            self._events.after(PAUSE, self._listen)
