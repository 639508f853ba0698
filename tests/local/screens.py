"""A real terminal for the programs under test, and somebody who looks at it."""

from __future__ import annotations

import array
import contextlib
import fcntl
import os
import pty
import re
import struct
import termios
from collections.abc import Iterator

from tests.unit.cli.terminals import Terminal

COLUMNS = 200
FULL = 4000  # bytes that a pseudo-terminal holds for its reader, at least


class Screen:
    """A terminal with somebody before it."""

    def __init__(self, shown: int, written: int) -> None:
        self._shown, self._written = shown, written
        self._is_ours = True
        self.seen = b""

    def close_ours(self) -> None:
        """Leave the terminal to the program that was started: its end can be seen then."""
        if self._is_ours:
            self._is_ours = False
            os.close(self._written)

    def type(self, keys: bytes) -> None:
        """Press keys."""
        os.write(self._shown, keys)

    def resize(self, columns: int) -> None:
        """Make the terminal that wide."""
        fcntl.ioctl(self._written, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))

    def read(self) -> bool:
        """Take what comes next; return whether anything came before the last writer went."""
        with contextlib.suppress(OSError):  # EIO: the last writer is gone
            if data := os.read(self._shown, 1 << 16):
                self.seen += data
                return True
        return False

    def is_full(self) -> bool:
        """Return whether what is written waits: as much as a terminal holds, and nobody reads it."""
        count = array.array("i", [0])
        fcntl.ioctl(self._shown, termios.FIONREAD, count)
        return count[0] >= FULL

    def until(self, sign: re.Pattern[bytes]) -> None:
        """Read until this is shown."""
        while not sign.search(self.seen):
            assert self.read(), self.seen.decode("utf-8", "replace")

    def rest(self) -> list[str]:
        """Read to the end; return what stands on the screen then."""
        while self.read():
            pass
        return Terminal(COLUMNS).write(self.seen).text


@contextlib.contextmanager
def terminal() -> Iterator[tuple[Screen, int]]:
    """Give a terminal, and the end that programs write to."""
    shown, written = pty.openpty()
    screen = Screen(shown, written)
    screen.resize(COLUMNS)
    try:
        yield screen, written
    finally:
        screen.close_ours()
        os.close(shown)


def own_terminal() -> None:
    """Make the terminal behind stdout the one that controls this process."""
    fcntl.ioctl(1, termios.TIOCSCTTY, 0)


def environment() -> dict[str, str]:
    """Return that of somebody who sits before a terminal, whoever runs the tests."""
    return {**os.environ, "TERM": "xterm", "CI": ""}
