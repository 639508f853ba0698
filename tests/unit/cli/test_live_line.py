"""The live line: from what node 0 says to one row of a terminal, whatever its width, colours and characters."""

from __future__ import annotations

import json
from typing import Any

import pytest

from k8sddp.cli import live_line
from k8sddp.plan import progress
from tests.unit.cli.terminals import Terminal
from tests.unit.plan.test_pace import TOLD

XTERM = {"TERM": "xterm-256color"}
RANK = {"rank": 0, "step": 0, "age": 12.3, "phase": "joining"}


def told(state: str = "training", *, ranks: Any = (), stragglers: Any = (), **figures: Any) -> progress.Progress:
    """Return what node 0 says."""
    record = {
        "state": state,
        "attempt": 1,
        "ranks": list(ranks),
        "progress": {**TOLD, **figures},
        "stragglers": list(stragglers),
    }
    found = progress.parse(json.dumps(record))
    assert found is not None
    return found


def row_of(told: progress.Progress) -> live_line.Row:
    """Return the first row of a gang."""
    return live_line.Rows(now=0.0).of_progress(told, now=0.0)


def lasting(told: progress.Progress, seconds: float) -> live_line.Row:
    """Return the row of a gang that has been doing the same for so long."""
    rows = live_line.Rows(now=0.0)
    rows.of_progress(told, now=10.0)
    return rows.of_progress(told, now=10.0 + seconds)


def painted(row: live_line.Row, columns: int = 80, *, now: float = 0.0, **options: Any) -> str:
    """Return what a terminal of that width shows of a row."""
    painter = live_line.Painter(options.pop("environ", XTERM), **options)
    (text,) = Terminal(columns).write(painter.paint(row, columns, now=now).encode()).text
    return text


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (120, "⠋ attempt 1  step 1200/5000 24%  ━━━━━━━╺━━━━━━━━━━━━━━━━━━━━━━  12.3 steps/s  ETA 5m7s  "
              "slow rank 3 (25%)  loss 0.1235"),
        (80, "⠋ attempt 1  step 1200/5000 24%  12.3 steps/s  ETA 5m7s  slow rank 3 (25%)"),
        (60, "⠋ attempt 1  step 1200/5000 24%  12.3 steps/s  ETA 5m7s"),
        (44, "⠋ attempt 1  step 1200/5000 24%  ━━╺━━━━━━━"),
        (20, "⠋ attempt 1  step …"),
        (1, "…"),
        (0, "…"),
    ],
)  # fmt: skip
def test_a_row_fits_whatever_the_width(columns: int, expected: str) -> None:
    """It loses its figures whole, and never wraps: a carriage return goes back to the start of the last row only."""
    row = row_of(told(stragglers=[{"rank": 3, "share": 0.25}]))
    painter = live_line.Painter(XTERM)
    (text,) = Terminal(10_000).write(painter.paint(row, columns, now=0.0).encode()).text
    assert expected == text


@pytest.mark.parametrize(
    ("expected", "row"),
    [
        ("⠋ attempt 1  step 1200  12.3 steps/s", row_of(
            told(total_steps=None, loss=None))),
        ("⠋ attempt 1  step 9  loss nan", row_of(
            told(step=9, total_steps=None, rate=None, loss=float("nan")))),
        ("⠋ attempt 1, rank 0 of 4 is in init_process_group  12s", row_of(
            told(ranks=[RANK], step=0))),
        ("⠋ attempt 1, rank 3 of 4 has not reached init_process_group yet  14s", row_of(
            told(ranks=[RANK, {"rank": 3, "step": 0, "age": 14, "phase": "starting"}], step=0))),
        ("⠋ attempt 1, rank 0 of 4 is starting  3s", lasting(told(ranks=[{"rank": 0}], step=None), 3.9)),
        ("⠋ the nodes are joining  1m5s", lasting(progress.Progress("joining"), 65.0)),
        ("⠋ attempt 1, its ranks are being ended, and the gang starts anew  0s", row_of(told("restarting"))),
        ("⠋ waiting 12s: image x cannot be pulled", live_line.Row(
            "waiting 12s: image \x1b[2J\x1b[31mx cannot be\npulled", is_waiting=True)),
    ],
)  # fmt: skip
def test_what_is_not_known_is_not_said(expected: str, row: live_line.Row) -> None:
    """No step yet, no total, no rate: what the gang does instead; nothing that a stranger wrote acts on the screen."""
    assert expected == painted(row, 100)


def test_wide_characters_are_counted_by_their_cells() -> None:
    """An image name in Chinese, at the edge."""
    painter = live_line.Painter(XTERM)
    assert "像像像…" in painter.paint(live_line.Row("像" * 30), 10, now=0.0)


def test_no_color_means_none_and_another_encoding_no_foreign_characters() -> None:
    """https://no-color.org; a terminal that has no Braille turns a slash."""
    row = row_of(told())
    plain = live_line.Painter({**XTERM, "NO_COLOR": "1"}, encoding="latin-1")
    assert "- attempt 1  step 1200/5000 24%  12.3 steps/s  ETA 5m7s" == plain.paint(row, 60, now=0.0)
    assert "\x1b[" in live_line.Painter(XTERM).paint(row, 60, now=0.0)


def test_the_spinner_turns_with_the_clock() -> None:
    """It is how one sees that the program lives."""
    painter = live_line.Painter({**XTERM, "NO_COLOR": "1"})
    row = live_line.waiting("waiting for node 0", 3.0)
    frames = [painter.paint(row, 80, now=now) for now in (10.0, 10.3, 10.6)]
    assert 3 == len(set(frames))
    assert {"waiting for node 0  3s"} == {frame[2:] for frame in frames}
