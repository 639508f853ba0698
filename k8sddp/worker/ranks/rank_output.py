"""Each rank's output as `[rank N] line` on the worker's stdout, whole lines at a time.

Bytes pass unchanged: no decoding, no line ever lost; a line beyond MAX_LINE is cut into several, and a line without an
end is shown after a short pause, whatever follows. Of a progress bar (rows.py) the state is shown once a second, or,
where a person looks at it live, as it comes and with `\r` for an end, which means that it may be overwritten. Memory is
bounded: while stdout does not take more, pipes are not read, so ranks wait as they would with a pipe of their own. A
pipe's end is never waited for: DataLoader workers may hold it for minutes. Writes go out only when stdout is ready and
in pieces that a ready pipe always takes, so the loop never blocks on it.
"""

from __future__ import annotations

import collections
import os
import select
from collections.abc import Callable

from k8sddp.worker.net import loop, telling

from . import rows

MAX_LINE = rows.MAX_LINE
READ_SIZE = 64 * 1024
MAX_READS = 64  # in one go, of a pipe that another process may fill as fast
PIPE_ATOMIC = 4096  # PIPE_BUF: a pipe that polls writable takes this much without blocking
HIGH_WATER = 256 * 1024  # bytes waiting for stdout at which pipes are no longer read
PARTIAL_PAUSE = 0.5  # seconds from its first byte after which an unfinished line is shown
STATE_PAUSE = 1.0  # seconds at least between two states of a rank's progress bars
LIVE_PAUSE = 0.1  # the same where they are shown live
TICK = 0.001  # two moments closer than this are one
TAIL_LINES = 12
MOST = 256  # lines of one reading that are looked at for them
FRAME = b"frame #"  # of c10::Error's stacks, 20 and more: they would push out what the error is
RETRY = 0.2  # seconds until a pipe that could not be read, or stdout that could not be watched, is tried again


class LineSplitter:
    """Cut a stream of records into lines; holds less than MAX_LINE bytes."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Return the lines that `data` completes, without their newlines."""
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        if len(self._rest) < MAX_LINE and all(len(line) <= MAX_LINE for line in lines):
            return lines
        cut = [line[i : i + MAX_LINE] for line in lines for i in range(0, len(line) or 1, MAX_LINE)]
        while len(self._rest) >= MAX_LINE:
            cut.append(self._rest[:MAX_LINE])
            self._rest = self._rest[MAX_LINE:]
        return cut


class Sink:
    """The worker's stdout: a bounded queue that is written whenever the descriptor takes more."""

    def __init__(self, events: loop.Loop, fd: int, *, live: bool = False) -> None:
        self.live = live
        self._events = events
        self._fd = fd
        self._queue = bytearray()
        self.written = 0  # bytes so far
        self._watched = False
        self._always_ready = False  # a regular file or /dev/null cannot be polled
        self._broken = False
        self._on_room: list[Callable[[], None]] = []
        self.teller = telling.Teller(self.say)  # of what goes wrong where output, counts and sweeps are made

    @property
    def full(self) -> bool:
        """Return whether sources must stop reading for now."""
        return len(self._queue) > HIGH_WATER

    def when_room(self, callback: Callable[[], None]) -> None:
        """Call `callback` once, when the queue is no longer full."""
        self._on_room.append(callback)

    def say(self, text: str) -> None:
        """Write one line of the worker's own."""
        line = text.replace("\n", " ").replace("\r", " ")
        self.write(b"[k8sddp] " + line.encode("utf-8", "backslashreplace") + b"\n")

    def write(self, data: bytes) -> None:
        """Queue `data`, which ends with a newline, and write what can be written now."""
        if not self._broken:
            self._queue += data
            self._write_ready()

    def drain(self, seconds: float) -> None:
        """Write out everything at the end, waiting at most `seconds` for a slow reader."""
        deadline = self._events.now() + seconds
        while self._queue and not self._broken:
            left = deadline - self._events.now()
            if left <= 0 or not (self._always_ready or _writable(self._fd, left)):
                return
            self._write_some()

    def _write_ready(self) -> None:
        while self._queue and not self._broken and (self._always_ready or _writable(self._fd, 0)):
            self._write_some()
        self._watch(bool(self._queue) and not self._broken)
        if self._on_room and not self.full:
            waiting, self._on_room = self._on_room, []
            for callback in waiting:
                callback()

    def _write_some(self) -> None:
        try:
            written = os.write(self._fd, memoryview(self._queue)[:PIPE_ATOMIC].tobytes())
        except BlockingIOError:
            return
        except OSError:  # the reader is gone: training goes on without it
            self._broken = True
            self._queue.clear()
            return
        self.written += written
        del self._queue[:written]

    def _watch(self, wanted: bool) -> None:
        if wanted == self._watched or self._always_ready:
            return
        try:
            self._events.watch(self._fd, write=self._write_ready if wanted else None)
        except PermissionError:
            self._always_ready = True
            self._write_ready()
            return
        except OSError:  # no memory for it
            self._events.after(RETRY, self._write_ready)
            return
        self._watched = wanted


class Source:
    """One pipe whose lines go to the sink with a prefix; remembers the last lines for the first failure."""

    def __init__(self, events: loop.Loop, sink: Sink, fd: int, *, prefix: str) -> None:
        self._events = events
        self._sink = sink
        self._fd = fd
        self._prefix = prefix.encode("ascii")
        self._rows = rows.Rows()
        self._timer: loop.Timer | None = None
        self._since = 0.0  # when what is unfinished and not yet shown began; 0.0: nothing is
        self._line = 0  # the line that it belongs to
        self._stated = -STATE_PAUSE  # when a state of a bar was shown last
        self._state = b""  # what a live reader sees of what is unfinished
        self._tail: collections.deque[bytes] = collections.deque(maxlen=TAIL_LINES)
        os.set_blocking(fd, False)
        events.watch(fd, read=self._readable)

    def tail(self) -> str:
        """Return the last lines as text."""
        lines = [*self._tail, *filter(None, [self._rows.state()])]
        return b"\n".join([line[-400:] for line in lines][-TAIL_LINES:]).decode("utf-8", "replace")

    def read_now(self) -> None:
        """Read what is in the pipe at this moment, as long as the sink takes it."""
        for _ in range(MAX_READS):
            if self._sink.full or not self._read():
                break

    def close(self) -> None:
        """Show what is left, finished or not, and forget the pipe."""
        for _ in range(MAX_READS):  # bounded: a process that survived SIGKILL could still write
            if not self._read():
                break
        self._show(self._rows.flush())
        self._wait(None)
        self._events.watch(self._fd)
        os.close(self._fd)
        self._fd = -1

    def _readable(self) -> None:
        if self._sink.full:
            self._events.watch(self._fd)
            self._sink.when_room(self._resume)
        else:
            self._read()

    def _resume(self) -> None:
        if self._fd >= 0:
            self._events.watch(self._fd, read=self._readable)

    def _read(self) -> bool:
        try:
            data = os.read(self._fd, READ_SIZE)
        except BlockingIOError:
            return False
        except OSError as error:  # not for ever: the rank would wait when the pipe is full
            self._sink.teller.failed("reading output", error)
            self._events.watch(self._fd)
            self._events.after(RETRY, self._resume)
            return False
        if not data:  # every writer of a plain pipe is gone
            self._events.watch(self._fd)
            return False
        self._show(self._rows.feed(data))
        self._wait(self._due())
        return True

    def _show(self, lines: list[bytes], *, states: bool = False) -> None:
        if lines:
            end = b"\r" if states and self._sink.live else b"\n"
            self._sink.write(b"".join([self._prefix + line + end for line in lines]))
            self._state = b""
            self._tail.extend(() if states else [line for line in lines[-MOST:] if not line.startswith(FRAME)])

    def _due(self) -> float | None:
        """Return when what is unfinished is to be shown, None where there is no such thing."""
        if self._sink.live:
            return self._events.now() + LIVE_PAUSE if self._rows.state() != self._state else None
        if not self._rows.pending:
            self._since = 0.0
            return None
        if not self._since or self._line != self._rows.finished:
            self._since, self._line = self._events.now(), self._rows.finished
        soonest = self._since + PARTIAL_PAUSE
        return max(soonest, self._stated + STATE_PAUSE) if self._rows.redrawn else soonest

    def _wait(self, due: float | None) -> None:
        """Show what is unfinished when it is `due`; live, it may come before that."""
        if self._timer and (due is None or (not self._sink.live and abs(due - self._timer.when) > TICK)):
            self._timer.cancel()
            self._timer = None
        if due is not None and self._timer is None:
            self._timer = self._events.after(due - self._events.now(), self._show_unfinished)

    def _show_unfinished(self) -> None:
        self._timer = None
        self._since = 0.0
        if self._sink.live:
            state = self._rows.state()
            self._show([state], states=True)
            self._state = state
            return
        states = self._rows.redrawn
        if states:
            self._stated = self._events.now()
        self._show(self._rows.show(), states=states)


def _writable(fd: int, seconds: float) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    try:
        return bool(poll.poll(int(seconds * 1000)))
    except OSError:  # no memory for it
        return False
