"""How far and how fast, from the JSON of /status to words; what no person could use is not said."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from k8sddp.plan import pace, progress

TOLD = {
    "attempt": 1,
    "phase": "training",
    "ranks": 4,
    "step": 1200,
    "steps_max": 1201,
    "reported_step": None,
    "total_steps": 5000,
    "rate": 12.345,
    "eta": None,
    "loss": 0.12345,
    "slowest_rank": 2,
}
SLOW = [{"rank": 1, "share": 0.1}, {"rank": 3, "share": 0.254}, {"rank": 4}, {"share": 0.9}, "nonsense"]


def told(stragglers: object = (), **changed: Any) -> pace.Pace:
    """Return what is understood of `progress` with some fields changed, on its way as JSON."""
    found = pace.parse(*json.loads(json.dumps([{**TOLD, **changed}, stragglers])))
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("cell", "figures", "changed"),
    [
        ("step 1200/5000 24%", ("12.3 steps/s", "ETA 5m7s", "slow rank 3 (25%)", "loss 0.1235"),
         {"stragglers": SLOW}),
        ("step 1200", ("12.3 steps/s", "loss 0.1235"), {"total_steps": None}),
        ("step 3700/5000 74%", ("12.3 steps/s", "ETA 1m5s"),
         {"reported_step": 3700, "eta": 65.2, "loss": None}),
        ("step 5100/5000 100%", ("12.3 steps/s", "ETA 0s"), {"step": 5100, "loss": None}),
        ("step 4999/5000 99%", ("12.3 steps/s", "ETA 0s"), {"step": 4999, "loss": None}),
        ("step 0/5000 0%", (), {"step": 0, "rate": None, "loss": None}),
        ("-", (), {"step": 0, "total_steps": None, "rate": None, "loss": None}),
        ("-", (), dict.fromkeys(TOLD)),
        ("step 9", ("loss nan",), {"step": 9, "total_steps": 0, "rate": 0, "loss": "nan"}),
        ("step 9", ("loss nan",),
         {"step": 9, "total_steps": None, "rate": math.nan, "loss": math.nan}),
        ("step 9", ("loss inf",),
         {"step": 9, "total_steps": None, "rate": math.inf, "loss": math.inf}),
        ("step 9", ("loss -1.5e-09",),
         {"step": 9, "total_steps": -3, "rate": -1, "stragglers": [{"rank": -1, "share": 0.5}], "loss": -1.5e-9}),
        ("-", (), {"step": "9", "total_steps": [1], "rate": "fast", "stragglers": {"rank": 1}, "loss": "little"}),
        ("-", (), {"step": 10**400, "total_steps": None, "rate": 10**400, "loss": 10**400,
                   "stragglers": [{"rank": 0.5, "share": 1}, {"rank": 1, "share": 2}]}),
        ("step 1/9223372036854775807 0%", ("1e+300 s/step",),
         {"step": 1, "total_steps": 2**63 - 1, "rate": 1e-300, "loss": None}),
    ],
)  # fmt: skip
def test_figures_are_told_in_the_order_of_their_weight(
    cell: str, figures: tuple[str, ...], changed: dict[str, Any]
) -> None:
    """A loss is told whatever it is; a rate, a share or a time only where a person can use it."""
    found = told(**changed)
    assert (cell, figures) == (found.cell, found.figures())


@pytest.mark.parametrize(
    ("expected", "rate"),
    [("1234 steps/s", 1234.4), ("100 steps/s", 100.0), ("99.9 steps/s", 99.94), ("1 steps/s", 1.0), ("2 s/step", 0.5),
     ("3.33 s/step", 0.3), ("300 s/step", 1 / 300)],
)  # fmt: skip
def test_a_rate_is_read_at_a_glance(expected: str, rate: float) -> None:
    """Three digits, and seconds a step where a step takes longer than one."""
    assert expected == told(rate=rate).figures()[0]


def test_an_older_worker_tells_its_own_ranks_only() -> None:
    """The one that is least far on, at the pace of the slowest; unknown where one has not been counted."""
    assert pace.parse(None) is None
    ranks = (progress.Rank(0, 7, 0.5), progress.Rank(1, 6, 0.25))
    assert ("step 6", ("2 steps/s",)) == (pace.of_ranks(ranks).cell, pace.of_ranks(ranks).figures())
    assert [pace.Pace(), pace.Pace()] == [pace.of_ranks(()), pace.of_ranks((progress.Rank(0, 7), progress.Rank(1)))]
