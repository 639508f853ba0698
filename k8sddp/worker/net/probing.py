"""Whether a peer is reached on a port that nobody has named: a listener of our own, and a visit to another's.

torch's groups connect every pod to others on ports that the kernel chooses, so a port of ours that it chose stands for
them. Who is visited says its pod and the time; so a stranger is told from the peer, and the visitor knows how far its
clock is off (Cristian's algorithm: the answer was given at some moment of the round trip). A visit is tried TRIES
times, each within a limit; nothing here decides what a failure means.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import time
from collections.abc import Callable
from typing import NamedTuple, Optional

from . import listening, loop

BACKLOG = 4096  # connections not yet accepted: all members of the largest gang visit node 0 at one time
TRIES = 3
PAUSE = 1.0  # seconds from one try to the next, if it failed at once: a firewall may not know a new pod yet
MAX_ANSWER = 256
MAGIC = "k8sddp-probe"

REACHED, REFUSED, SILENT = "reached", "refused", "silent"
# Errors that are silence: a way to a Kubernetes Node that has just come is perhaps only being made
_SILENT = (errno.ETIMEDOUT, errno.EHOSTUNREACH)


class Target(NamedTuple):
    """Whom to visit."""

    node_rank: int
    pod: str
    address: str
    port: int


class Visit(NamedTuple):
    """How it went: REACHED, REFUSED (every try failed at once: `why`) or SILENT; `offset` is our clock less the peer's.

    SILENT is also what is not certain. The true difference is within `offset` plus or minus `error` seconds.
    """

    outcome: str
    why: str = ""
    offset: float = 0.0
    error: float = 0.0


class Door:
    """The probe port of this node, whose number the kernel has chosen."""

    def __init__(self, events: loop.Loop, sock: socket.socket, pod: str, *, say: Callable[[str], None]) -> None:
        sock.listen(BACKLOG)  # again: it may be set anew at any time
        self.port = int(sock.getsockname()[1])
        self._pod = pod
        listening.Listener(events, sock, purpose="the probe port", say=say, accepted=self._answer)

    def _answer(self, sock: socket.socket, _address: str) -> None:
        # fits into any socket's buffer, so nothing is waited for
        sock.setblocking(False)
        with contextlib.suppress(OSError):  # the visitor has gone
            sock.send(("%s %s %.6f\n" % (MAGIC, self._pod, time.time())).encode("ascii", "replace"))
        sock.close()


class Visitor:
    """One visit to a target; `done` hears how it went."""

    def __init__(
        self,
        events: loop.Loop,
        target: Target,
        *,
        patience: float,
        done: Callable[[Visit], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._events = events
        self._target = target
        self._patience = patience
        self._done = done
        self._clock = clock
        self._tries = 0
        self._refused = 0
        self._why = ""
        self._socket: Optional[socket.socket] = None
        self._timer: Optional[loop.Timer] = None
        self._try()

    def _try(self) -> None:
        target, self._tries = self._target, self._tries + 1
        self._begun, self._heard = self._clock(), b""
        self._next = self._events.now() + PAUSE
        try:
            family = socket.AF_INET6 if ":" in target.address else socket.AF_INET
            self._socket = sock = socket.socket(family, socket.SOCK_STREAM)
            sock.setblocking(False)
            code = sock.connect_ex((target.address, target.port))
        except OSError as error:
            code = error.errno or errno.EIO
        if code not in (0, errno.EINPROGRESS):
            self._failed(os.strerror(code).lower(), refused=code not in _SILENT)
            return
        self._timer = self._events.after(self._patience, lambda: self._failed("", refused=False))
        self._events.watch(sock.fileno(), write=self._connected)

    def _connected(self) -> None:
        assert self._socket is not None
        code = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self._failed(os.strerror(code).lower(), refused=code not in _SILENT)
        else:
            self._events.watch(self._socket.fileno(), read=self._readable)

    def _readable(self) -> None:
        assert self._socket is not None
        try:
            data = self._socket.recv(MAX_ANSWER)
        except BlockingIOError:
            return
        except OSError as error:
            self._failed(os.strerror(error.errno or 0).lower(), refused=True)
            return
        self._heard += data
        if data and not self._heard.endswith(b"\n") and len(self._heard) < MAX_ANSWER:
            return
        words = self._heard.decode("ascii", "replace").split()
        if len(words) != 3 or words[0] != MAGIC:
            self._failed("another program answers" if self._heard else "closed without an answer", refused=True)
        elif words[1] != self._target.pod:
            self._failed("pod %s answers" % words[1][:64], refused=True)
        else:
            self._reached(words[2])

    def _reached(self, text: str) -> None:
        now = self._clock()
        try:
            offset, error = (self._begun + now) / 2 - float(text), abs(now - self._begun) / 2
        except ValueError:
            offset, error = 0.0, 0.0
        self._close()
        self._done(Visit(REACHED, offset=offset, error=error))

    def _failed(self, why: str, *, refused: bool) -> None:
        self._close()
        self._refused += refused
        self._why = why or self._why
        if self._tries < TRIES:
            self._events.after(max(0.0, self._next - self._events.now()), self._try)
        elif self._refused == TRIES:
            self._done(Visit(REFUSED, self._why))
        else:
            self._done(Visit(SILENT, self._why or "no answer within %.0f s" % (TRIES * self._patience)))

    def _close(self) -> None:
        if self._timer:
            self._timer.cancel()
        if self._socket is not None:
            self._events.watch(self._socket.fileno())
            self._socket.close()
            self._socket = None
