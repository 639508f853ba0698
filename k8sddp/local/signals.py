"""Signals to a run, as readable events instead of exceptions in the middle of something.

SIGINT is Ctrl-C, SIGTERM comes from supervisors and CI, SIGHUP from a closed terminal: they end a run. SIGQUIT is
Ctrl-\\ and asks for the ranks' stacks. One that the process was started to ignore (nohup, a background job of a
script) stays ignored. Outside of the main thread Python cannot watch signals;
the caller then has none.
"""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

ASKS: Final = signal.SIGQUIT
WATCHED: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, ASKS)


class Watch:
    """The end that is read: `fileno` for a selector, `read` for what arrived."""

    def __init__(self, reader: socket.socket) -> None:
        self._reader = reader

    def fileno(self) -> int:
        """Return the descriptor that becomes readable."""
        return self._reader.fileno()

    def read(self) -> tuple[signal.Signals, ...]:
        """Return the signals that arrived since the last call, in their order."""
        with suppress(BlockingIOError):
            return tuple(signal.Signals(number) for number in self._reader.recv(4096) if number in WATCHED)
        return ()


@contextmanager
def watching() -> Iterator[Watch]:
    """Watch these signals, and give them back afterwards."""
    reader, writer = socket.socketpair()
    with reader, writer:
        reader.setblocking(False)
        writer.setblocking(False)
        if threading.current_thread() is not threading.main_thread():
            yield Watch(reader)
            return
        before = {number: signal.getsignal(number) for number in WATCHED}
        descriptor = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        try:
            for number, handler in before.items():
                if handler is not signal.SIG_IGN:
                    signal.signal(number, _noted)
            yield Watch(reader)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler if handler is not None else signal.SIG_DFL)
            signal.set_wakeup_fd(descriptor)


def _noted(_number: int, _frame: object) -> None:
    """Do nothing: the wake-up descriptor has the signal already."""


def exit_code(number: signal.Signals) -> int:
    """Return what a shell reports for a program that a signal ended."""
    return 128 + int(number)
