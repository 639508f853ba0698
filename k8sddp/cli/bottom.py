"""The rows below the log on a terminal: a rank's progress bar as it moves, and our own live line under it.

What is written above them is never touched: the rows are erased, it is written where they stood, and they are drawn
again below. The cursor stays at their end and is never hidden, so a program that is killed leaves one row too many and
nothing else to mend; a terminal that was made narrower meanwhile may keep a piece of a row, and loses no line. Pure but
for the questions whether a terminal is there, how wide, and whose.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from typing import Final

ERASE: Final = b"\r\x1b[K"  # back to the start of the row, and clear it
_UP: Final = b"\x1b[A"
DEFAULT_COLUMNS: Final = 80


class Bottom:
    """What is drawn below the log, and the bytes that erase and draw it; `bar` and `row` are as they are to be."""

    def __init__(self) -> None:
        self.bar = b""
        self.row = b""
        self._drawn = 0  # rows on the screen

    @property
    def is_drawn(self) -> bool:
        """Return whether anything is on the screen."""
        return self._drawn > 0

    def erased(self) -> bytes:
        """Return what takes the rows off the screen."""
        drawn, self._drawn = self._drawn, 0
        return ERASE + (_UP + ERASE) * (drawn - 1) if drawn else b""

    def wiped(self) -> bytes:
        """Return the same, and what clears the row of the cursor: a terminal writes `^C` there by itself."""
        return self.erased() or ERASE

    def drawn(self) -> bytes:
        """Return what puts the rows on the screen in the place of those that are there."""
        erased = self.erased()
        rows = [one for one in (self.bar, self.row) if one]
        self._drawn = len(rows)
        return (erased or ERASE) + b"\r\n".join(rows) if rows else erased


def clears_lines(environ: Mapping[str, str]) -> bool:
    """Return whether a terminal of this kind can clear a line."""
    return environ.get("TERM", "") not in ("", "dumb")


def is_live(environ: Mapping[str, str], *, stdout: int = 1, stderr: int = 2) -> bool:
    """Return whether a live line may be drawn: a person looks at stderr, and nobody else writes to their screen.

    Of a stdout that is a pipe nobody knows where it ends (`| tee` ends on the same screen); a file is no screen. What
    runs in CI is read later, also where it has a terminal.
    """
    if not os.isatty(stderr) or not clears_lines(environ) or environ.get("CI", "").lower() not in ("", "0", "false"):
        return False
    return os.isatty(stdout) or _is_file(stdout)


def is_ours(descriptor: int) -> bool:
    """Return whether this program is in the foreground of the terminal, so far as anybody can say."""
    try:
        return os.tcgetpgrp(descriptor) == os.getpgrp()
    except OSError:  # not the terminal that controls us
        return True


def columns(descriptor: int) -> int:
    """Return how wide the terminal is."""
    try:
        return os.get_terminal_size(descriptor).columns or DEFAULT_COLUMNS
    except OSError:
        return DEFAULT_COLUMNS


def _is_file(descriptor: int) -> bool:
    try:
        mode = os.fstat(descriptor).st_mode
    except OSError:
        return False
    return stat.S_ISREG(mode) or stat.S_ISCHR(mode)  # or the null device
