"""What pods print and what is said about the run, on their way to readers who may be slow, stuck or gone.

The run never waits for a reader: threads call the caller's two functions, in the order in which they were given work.
While too much waits, `full` says so and the pods are not read, which holds them back as any full pipe does. A reader
who is stuck in one of the two does not keep the other from being heard. The first error of `out` is kept, `error`, and
ends the run; what cannot be said about it (a full disk behind stderr) is nobody's to hear and ends nothing.
"""

from __future__ import annotations

import collections
import contextlib
import os
import select
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Final, NamedTuple

HIGH_WATER: Final = 1 << 18  # bytes that wait for `out` before the pods are held back
STUCK: Final = 0.5  # seconds in one call after which a function's reader is not waited for, by the other or at the end
LAST_WORDS: Final = 2.0  # seconds for what still waits at the end of a run that was stopped


class _Work(NamedTuple):
    turn: int
    size: int
    call: Callable[[], None]


class _Channel:
    """The work of one of the two functions."""

    def __init__(self) -> None:
        self.waiting: collections.deque[_Work] = collections.deque()
        self.size = 0  # with what is being done
        self.turn: int | None = None  # of what is being done
        self.since: float | None = None  # and when it began

    @property
    def busy(self) -> bool:
        """Return whether there is work."""
        return self.turn is not None or bool(self.waiting)

    @property
    def stuck(self) -> bool:
        """Return whether it may be in vain to wait for it."""
        return self.since is not None and time.monotonic() - self.since >= STUCK

    def is_before(self, turn: int) -> bool:
        """Return whether there is work that comes before `turn`."""
        first = self.turn if self.turn is not None else self.waiting[0].turn if self.waiting else turn
        return first < turn


class Output:
    """Takes lines (`out`) and remarks (`report`); a context manager whose end never waits longer than LAST_WORDS.

    `clear` is called as `out` is, before each remark. `reader` is the descriptor that `out` writes to: where it is a
    pipe or a socket, its other end's closing counts as an error before anything is written.
    """

    def __init__(
        self,
        out: Callable[[bytes], None],
        report: Callable[[str], None],
        *,
        clear: Callable[[], None] | None = None,
        reader: int | None = None,
    ) -> None:
        self.error: BaseException | None = None
        self.lossy = False  # the oldest lines make room for new ones, and `full` holds nobody back
        self._write, self._say, self._clear = out, report, clear
        self._reader = reader
        self._to_draw: Callable[[], None] | None = None
        self._lines, self._remarks = _Channel(), _Channel()
        self._turn = 0
        self._closed = self._finished = False
        self._changed = threading.Condition()
        self._wake_read, self._wake_write = socket.socketpair()
        self._wake_read.setblocking(False)
        self._wake_write.setblocking(False)
        for own, other in ((self._lines, self._remarks), (self._remarks, self._lines)):
            threading.Thread(target=self._work, args=(own, other), daemon=True).start()

    def __enter__(self) -> Output:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._finished:
            self._wait(LAST_WORDS)
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            self._wake_read.close()
            self._wake_write.close()

    def fileno(self) -> int:
        """Return a descriptor that becomes readable when `full` or `error` may have changed; `seen` resets it."""
        return self._wake_read.fileno()

    def seen(self) -> None:
        """Forget that something has changed."""
        with contextlib.suppress(BlockingIOError):
            while self._wake_read.recv(4096):
                pass

    @property
    def full(self) -> bool:
        """Return whether the pods must wait."""
        return self._lines.size >= HIGH_WATER and not self.lossy and self.error is None

    def out(self, data: bytes) -> None:
        """Pass on whole lines."""
        if data:
            self._add(self._lines, len(data), lambda: self._write(data))

    def report(self, text: str) -> None:
        """Say one sentence."""
        if self._clear is not None:
            self._add(self._lines, 0, self._clear)
        self._add(self._remarks, 0, lambda: self._say(text))

    def show(self, draw: Callable[[], None]) -> None:
        """Have `draw` called as `out` is; of several that wait, the last alone."""
        with self._changed:
            waits, self._to_draw = self._to_draw is not None, draw
            if not waits:
                self._add(self._lines, 0, self._draw)

    def _draw(self) -> None:
        with self._changed:
            draw, self._to_draw = self._to_draw, None
        if draw is not None:
            draw()

    def finish(self) -> None:
        """Wait until everything has been passed on, not for long if that was `lossy`; raises the error of `out`."""
        self._wait(LAST_WORDS if self.lossy else None)
        self._finished = True
        if self.error is not None:
            raise self.error

    @contextlib.contextmanager
    def hangup(self) -> Iterator[select.epoll | None]:
        """Give what becomes readable when the reader's end is closed; None where only writing can tell."""
        if self._reader is None or not _is_pipe(self._reader):
            yield None
            return
        with select.epoll() as hangup:
            hangup.register(self._reader, 0)  # EPOLLERR and EPOLLHUP come unasked
            yield hangup

    def reader_gone(self) -> None:
        """Take note that nobody reads any more."""
        self._fail(BrokenPipeError())

    def _add(self, channel: _Channel, size: int, call: Callable[[], None]) -> None:
        with self._changed:
            if channel is self._lines and self.error is not None:
                return
            self._turn += 1
            channel.waiting.append(_Work(self._turn, size, call))
            channel.size += size
            while self.lossy and channel.size > HIGH_WATER and len(channel.waiting) > 1:
                channel.size -= channel.waiting.popleft().size
            self._changed.notify_all()

    def _work(self, own: _Channel, other: _Channel) -> None:
        while (work := self._next(own, other)) is not None:
            try:
                work.call()
            except BaseException as error:  # raised again by whoever waits for the end
                if own is self._lines:
                    self._fail(error)
            with self._changed:
                was_full = self.full
                own.turn = own.since = None
                own.size = max(0, own.size - work.size)
                self._changed.notify_all()
                if was_full and not self.full:
                    self._wake()

    def _next(self, own: _Channel, other: _Channel) -> _Work | None:
        """Return what is to be done next, when it is its turn; None at the end."""
        with self._changed:
            while True:
                if not own.waiting:
                    if self._closed:
                        return None
                    self._changed.wait()
                    continue
                first = own.waiting[0]
                left = STUCK if other.since is None else other.since + STUCK - time.monotonic()
                if not other.is_before(first.turn) or left <= 0:
                    own.waiting.popleft()
                    own.turn, own.since = first.turn, time.monotonic()
                    return first
                self._changed.wait(left)

    def _fail(self, error: BaseException) -> None:
        with self._changed:
            self.error = self.error or error
            self._lines.waiting.clear()
            self._to_draw = None
            self._lines.size = 0
            self._changed.notify_all()
            self._wake()

    def _wait(self, seconds: float | None) -> None:
        """Wait until all is done; within a limit not for a reader who is stuck already."""
        deadline = None if seconds is None else time.monotonic() + seconds
        with self._changed:
            while any(one.busy and (deadline is None or not one.stuck) for one in (self._lines, self._remarks)):
                if deadline is not None and time.monotonic() >= deadline:
                    return
                self._changed.wait(None if deadline is None else STUCK / 5)

    def _wake(self) -> None:
        with contextlib.suppress(OSError):  # it is full already, or the run is over
            self._wake_write.send(b"!")


def _is_pipe(descriptor: int) -> bool:
    try:
        mode = os.fstat(descriptor).st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)
