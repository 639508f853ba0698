"""How far a local run is, on its screen: the live line where there is one, else a plain line now and then.

Called by the thread that asks node 0 (local/looking.py); what it draws goes through the run's output, so a reader who
is stuck holds nothing up, and of rows that nobody could see the last alone is drawn.
"""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING, Final

from k8sddp.cli import live_line, narration
from k8sddp.cli.console import Console

if TYPE_CHECKING:
    from k8sddp import local, plan

TURN: Final = 0.25  # seconds between two frames of the spinner while something is awaited
STEADY: Final = 1.0  # the same while it trains
PLAIN: Final = 10.0  # seconds between two looks where there is no live line


class Figures:
    """Shows what node 0 tells of its gang."""

    def __init__(self, output: local.Output, where: Console) -> None:
        self._output, self._where = output, where
        self._pulse = narration.Pulse()
        self._rows = live_line.Rows(now=time.monotonic())

    def tell(self, told: plan.Progress | None) -> float:
        """Show it; return the seconds after which there may be something new to show."""
        now = time.monotonic()
        if not self._where.has_row:
            line = self._pulse.take(told, now=now) if told is not None else ""
            if line:
                self._output.report(line)
            return PLAIN
        if told is None:
            row = self._rows.waiting("waiting for node 0", now=now)
        else:
            row = self._rows.of_progress(told, now=now)
        self._output.show(functools.partial(self._where.show, row))
        return TURN if row.is_waiting else STEADY
