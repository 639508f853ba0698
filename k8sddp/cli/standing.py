"""The live line of a `run` on a cluster: when it is drawn below what `screen` prints.

Drawn by the thread that prints, when its row may have changed: a few times a second while something is awaited, once a
second while it trains, and soon after a line has taken its place, but not after each of a flood. At the end of the
block it is gone, however that ends.
"""

from __future__ import annotations

import math
import os
import sys
import time
from types import TracebackType
from typing import Final

from k8sddp.cli import bottom, live_line, screen

TURN: Final = 0.25  # seconds between two frames of the spinner while something is awaited
STEADY: Final = 1.0  # the same while it trains
SOON: Final = 0.1  # from a line that took its place until it is drawn again


class Standing:
    """The live line, or none where nobody sees one."""

    def __init__(self) -> None:
        self.is_live = bottom.is_live(os.environ)
        self._painter = live_line.Painter(os.environ, encoding=sys.stderr.encoding)
        self._due = 0.0 if self.is_live else math.inf
        self._columns = bottom.columns(sys.stderr.fileno()) if self.is_live else 0

    def __enter__(self) -> Standing:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.is_live:
            screen.wipe()
            self.is_live, self._due = False, math.inf

    def fits(self, sentence: str) -> bool:
        """Return whether the line shows the whole of a sentence."""
        return len(sentence) + live_line.SPINNER < self._columns

    def due(self) -> float:
        """Return when `draw` has something to do, on the monotonic clock."""
        return self._due

    def touched(self) -> None:
        """Take note that something else was printed."""
        self._due = min(self._due, time.monotonic() + SOON)

    def draw(self, row: live_line.Row | None) -> None:
        """Draw the row if it is time, none for None."""
        now = time.monotonic()
        if not self.is_live or now < self._due:
            return
        self._columns = bottom.columns(sys.stderr.fileno())
        ours = row is not None and bottom.is_ours(sys.stderr.fileno())
        screen.stand(self._painter.paint(row, self._columns, now=now) if row is not None and ours else "")
        self._due = now + (TURN if row is not None and row.is_waiting else STEADY)
