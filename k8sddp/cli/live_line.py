"""What the live line of `run` says: how far the job is, or what it waits for, as one row of a terminal.

Pure but for the clock that turns the spinner: facts in, one row of text with colours out. rich draws it (widths of
characters, colours as the terminal and NO_COLOR want them, the bar) and is imported with the first row; it never
writes itself, because rows, log lines and ranks' own bars share one screen (bottom.py). A row that is too long loses
its bar, then its figures from the last on: they come in the order of their weight.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from k8sddp.cli import escapes

if TYPE_CHECKING:
    from k8sddp import plan

SPINNER: Final = 2  # cells before the words
BAR: Final = (8, 30)  # cells at least, and at most
_GAP: Final = "  "


class Row(NamedTuple):
    """One row: words, a bar where a share of the way is known, figures."""

    head: str
    share: float | None = None
    figures: tuple[str, ...] = ()
    is_waiting: bool = False


class Rows:
    """The rows of one gang; remembers since when it has been doing what it does, should node 0 not say."""

    def __init__(self, *, now: float) -> None:
        self._doing, self._since = "", now

    def of_progress(self, told: plan.Progress, *, now: float) -> Row:
        """Return how far a gang is that trains; before its first step, and between attempts, what it does."""
        pace = told.pace
        if not told.trains or not pace.step:
            doing, seconds = told.doing
            return self.waiting(doing, now=now) if seconds is None else waiting(doing, seconds)
        attempt = f"attempt {told.attempt}{_GAP}" if told.attempt is not None else ""
        return Row(f"{attempt}{pace.cell}", pace.share, pace.figures())

    def waiting(self, for_what: str, *, now: float) -> Row:
        """Return what is awaited, and for how long it has been seen to be."""
        if for_what != self._doing:
            self._doing, self._since = for_what, now
        return waiting(for_what, now - self._since)


def waiting(for_what: str, seconds: float | None = None) -> Row:
    """Return what is awaited, and for how long it has been."""
    from k8sddp.plan import statuses

    return Row(for_what, figures=() if seconds is None else (statuses.age(seconds),), is_waiting=True)


class Painter:
    """Draws rows for a terminal of this environment."""

    def __init__(self, environ: Mapping[str, str], *, encoding: str = "utf-8") -> None:
        self._environ = environ
        self._encoding = encoding
        self._is_unicode = "utf" in encoding.lower()
        self._spinner: Any = None

    def paint(self, row: Row, columns: int, *, now: float) -> str:
        """Return the row, in fewer cells than the terminal has columns: the last one would wrap."""
        from rich.console import Console
        from rich.spinner import Spinner
        from rich.text import Text

        paper = io.TextIOWrapper(io.BytesIO(), encoding=self._encoding, errors="replace", write_through=True)
        cells = max(1, columns - 1)
        console = Console(
            file=paper, force_terminal=True, width=cells, legacy_windows=False, _environ=self._environ, highlight=False
        )
        if self._spinner is None:
            self._spinner = Spinner("dots" if self._is_unicode else "line")
        self._spinner.style = "yellow" if row.is_waiting else "cyan"
        line = Text.assemble(self._spinner.render(now), " ", escapes.fitting(row.head, cells))
        figures = list(row.figures)
        while figures and line.cell_len + len(_GAP + _GAP.join(figures)) > cells:
            figures.pop()
        tail = "".join(_GAP + one for one in figures)
        room = cells - line.cell_len - len(tail) - len(_GAP)
        if row.share is not None and room >= BAR[0]:
            line = Text.assemble(line, _GAP, _bar(console, row.share, min(BAR[1], room)))
        line.append(tail)
        line.truncate(cells, overflow="ellipsis" if self._is_unicode else "crop")
        console.print(line, end="", soft_wrap=True)
        return paper.buffer.getvalue().decode(self._encoding)


def _bar(console: Any, share: float, cells: int) -> Any:
    from rich.progress_bar import ProgressBar
    from rich.text import Text

    bar = Text()
    for segment in console.render(
        ProgressBar(total=1.0, completed=share, width=cells, complete_style="green", style="bright_black")
    ):
        bar.append(segment.text, segment.style)
    return bar
