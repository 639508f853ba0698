"""What a local run shows of its figures: rows where there is a live line, else a sentence now and then."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from k8sddp.cli import live_line, local_figures
from k8sddp.plan import progress


class Screen:
    """Stands for output and console: keeps what is shown and said."""

    def __init__(self, *, has_row: bool) -> None:
        self.has_row = has_row
        self.rows: list[live_line.Row] = []
        self.said: list[str] = []

    def show(self, what: Any) -> None:
        """As the output's `show` gets a function, and the console's a row."""
        if isinstance(what, live_line.Row):
            self.rows.append(what)
        else:
            what()

    def report(self, text: str) -> None:
        """Keep a sentence."""
        self.said.append(text)


def at_step(step: int) -> progress.Progress:
    """Return what node 0 tells at that step."""
    return progress.Progress("training", attempt=0, ranks=(progress.Rank(0, step, 0.5, age=0.1),))


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Screen, local_figures.Figures, list[float]]]:
    """Give a maker of figures, their screen, and their clock."""

    def make(*, has_row: bool) -> tuple[Screen, local_figures.Figures, list[float]]:
        now = [0.0]
        monkeypatch.setattr(local_figures.time, "monotonic", lambda: now[0])
        screen = Screen(has_row=has_row)
        return screen, local_figures.Figures(screen, screen), now  # type: ignore[arg-type]

    return make


def test_a_terminal_sees_each_answer_and_while_it_waits_the_time(figures: Any) -> None:
    """Often while something is awaited, once a second while it trains."""
    screen, shown, now = figures(has_row=True)
    waits = []
    for second, told in ((0.0, None), (3.0, None), (4.0, at_step(0)), (5.0, at_step(7))):
        now[0] = second
        waits.append(shown.tell(told))
    assert [0.25, 0.25, 0.25, 1.0] == waits
    assert [
        live_line.Row("waiting for node 0", figures=("0s",), is_waiting=True),
        live_line.Row("waiting for node 0", figures=("3s",), is_waiting=True),
        live_line.Row("attempt 0, rank 0 has made no step yet", figures=("0s",), is_waiting=True),
        live_line.Row("attempt 0  step 7", None, ("2 steps/s",)),
    ] == screen.rows
    assert [] == screen.said


def test_a_pipe_gets_a_sentence_after_a_minute_and_no_row(figures: Any) -> None:
    """What is read later has figures too, and not too many; a worker that is not there yet is nothing to say."""
    screen, shown, now = figures(has_row=False)
    assert 10.0 == shown.tell(None)
    for second in range(0, 200, 10):
        now[0] = float(second)
        shown.tell(at_step(second + 1))
    assert [
        "progress: attempt 0, step 61, 2 steps/s",
        "progress: attempt 0, step 121, 2 steps/s",
    ] == screen.said
    assert [] == screen.rows
