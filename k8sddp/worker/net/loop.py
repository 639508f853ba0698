"""The worker's one thread: file descriptors, timers, signals and children, each answered by a callback.

`selectors`, `signal.set_wakeup_fd` and a `waitpid` loop over our own pid table cost a third of asyncio's memory and
start-up. Every wait ends: nothing here blocks longer than the next timer. Orphans that fall to us as PID 1 or
subreaper are reaped too. The loop knows nothing about gangs or ranks.
"""

from __future__ import annotations

import heapq
import os
import selectors
import signal
import time
from collections.abc import Callable

Callback = Callable[[], None]

ASLEEP = 10.0  # seconds that a round takes longer than it should until the process has been stopped meanwhile
MAX_WAIT = 60.0  # seconds; only a guard, signals and descriptors wake the loop at once
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


class Timer:
    """One pending call; `cancel` makes it never happen."""

    __slots__ = ("callback", "when")

    def __init__(self, when: float, callback: Callback | None) -> None:
        self.when = when
        self.callback = callback

    def cancel(self) -> None:
        """Forget the call."""
        self.callback = None

    def __lt__(self, other: Timer) -> bool:
        return self.when < other.when


class Loop:
    """An event loop with one owner; `run` returns what `stop` was given."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.now = clock
        self._selector = selectors.DefaultSelector()
        self._timers: list[Timer] = []
        self._children: dict[int, Callable[[int], None]] = {}
        self._on_signal: Callable[[int], None] = lambda signum: None
        self._on_sleep: Callable[[float], None] = lambda seconds: None
        self._result: int | None = None
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self.watch(self._wake_read, read=self._drain_wakeups)

    def watch(self, fd: int, *, read: Callback | None = None, write: Callback | None = None) -> None:
        """Call `read` or `write` whenever `fd` is ready for it; with neither, forget `fd`.

        Raises PermissionError for a regular file, which is always ready.
        """
        events = (selectors.EVENT_READ if read else 0) | (selectors.EVENT_WRITE if write else 0)
        known = fd in self._selector.get_map()
        if not events:
            if known:
                self._selector.unregister(fd)
        elif known:
            self._selector.modify(fd, events, (read, write))
        else:
            self._selector.register(fd, events, (read, write))

    def after(self, seconds: float, callback: Callback) -> Timer:
        """Call `callback` once, `seconds` from now."""
        timer = Timer(self.now() + seconds, callback)
        heapq.heappush(self._timers, timer)
        return timer

    def soon(self, callback: Callback) -> None:
        """Call `callback` in the next round: cuts recursion between parts that call each other."""
        self.after(0.0, callback)

    def on_child(self, pid: int, callback: Callable[[int], None]) -> None:
        """Call `callback` with the exit code (negative: the signal) when the child `pid` has ended."""
        self._children[pid] = callback

    def forget_child(self, pid: int) -> None:
        """Call nobody any more when `pid` ends."""
        self._children.pop(pid, None)

    def handle_signals(self, callback: Callable[[int], None]) -> None:
        """Take over SIGNALS (all given to `callback`) and SIGCHLD (reaping)."""
        self._on_signal = callback
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        for signum in (*SIGNALS, signal.SIGCHLD):
            signal.signal(signum, lambda signum, frame: None)

    def on_sleep(self, callback: Callable[[float], None]) -> None:
        """Call `callback` with the seconds that this process did not run, before anything that came meanwhile."""
        self._on_sleep = callback

    def stop(self, result: int) -> None:
        """Let `run` return `result`; the first call counts."""
        if self._result is None:
            self._result = result

    def run(self) -> int:
        """Serve callbacks until `stop`."""
        self.reap()  # a child may have ended before the handler was there
        before = self.now()
        while self._result is None:
            wait = self._next_wait()
            ready = self._selector.select(wait)
            before, asleep = self.now(), self.now() - before - wait
            if asleep > ASLEEP:
                self._on_sleep(asleep)
            for key, mask in ready:
                read, write = key.data
                # a callback may close what is served later in this round, and another source may get its number
                if mask & selectors.EVENT_READ and read and self._selector.get_map().get(key.fd) is key:
                    read()
                if mask & selectors.EVENT_WRITE and write and self._selector.get_map().get(key.fd) is key:
                    write()
            self._run_timers()
        return self._result

    def reap(self) -> None:
        """Collect every child that has ended, our own and orphans."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            callback = self._children.pop(pid, None)
            if callback:
                callback(os.waitstatus_to_exitcode(status))

    def _next_wait(self) -> float:
        while self._timers and self._timers[0].callback is None:
            heapq.heappop(self._timers)
        if not self._timers:
            return MAX_WAIT
        return min(MAX_WAIT, max(0.0, self._timers[0].when - self.now()))

    def _run_timers(self) -> None:
        now = self.now()
        due = []
        while self._timers and self._timers[0].when <= now:
            due.append(heapq.heappop(self._timers))
        for timer in due:
            callback = timer.callback
            if callback:
                callback()

    def _drain_wakeups(self) -> None:
        try:
            numbers = os.read(self._wake_read, 4096)
        except BlockingIOError:
            return
        if signal.SIGCHLD in numbers:
            self.reap()
        for number in numbers:
            if number in SIGNALS:
                self._on_signal(number)
