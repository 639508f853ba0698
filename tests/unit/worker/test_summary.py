"""The figures of a person's live line."""

from __future__ import annotations

import pytest

from k8sddp.worker.gang import progress, summary

TRAINED = progress.Rank(0, step=8, age=0.5, step_time=7.0, group=2, forward_entered=9, forward_left=8)


def summarize(*ranks: progress.Rank) -> summary.Summary:
    return summary.summarize(ranks, summary.Paces(), attempt=1, slowest_rank=None, now=0.0)


def paced(window: float, *seen: tuple[int, float]) -> summary.Pace:
    pace = summary.Pace(window)
    for count, at in seen:
        pace.take(count, at)
    return pace


def test_the_gang_is_as_far_as_its_last_rank() -> None:
    """Least and most steps; the script's own word; the loss of the first rank that tells one."""
    found = summarize(
        TRAINED._replace(reported_step=108, total_steps=1000, loss=0.5),
        TRAINED._replace(rank=1, step=7, reported_step=107, loss=0.75),
        progress.Rank(2),
    )
    assert (1, 3, 7, 1, 8, 107, 1000, 0.5) == (
        found.attempt, found.ranks, found.step, found.last_rank, found.steps_max, found.reported_step,
        found.total_steps, found.loss,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("expected", "last"),
    [
        ("starting", progress.Rank(1)),
        ("joining", progress.Rank(1, step=0, group=progress.JOINING)),
        ("joined", progress.Rank(1, step=0, group=progress.JOINED)),
        ("training", progress.Rank(1, step=0, group=progress.JOINED, forward_entered=1)),
        ("training", progress.Rank(1, step=3)),
    ],
)
def test_the_phase_is_that_of_the_rank_that_is_least_far_on(expected: str, last: progress.Rank) -> None:
    """One rank that is still starting keeps the gang from training."""
    assert expected == summarize(TRAINED, last).phase


def test_nothing_is_known_before_anybody_has_told() -> None:
    """All figures are None."""
    assert summary.Summary(1, "starting", 0, *[None] * 9) == summarize()


def test_the_rate_is_that_of_the_last_ten_seconds() -> None:
    """A slow beginning is forgotten."""
    slow_then_quick = [(step, 10.0 * step) for step in range(4)] + [(3 + step, 30.0 + step) for step in range(1, 21)]
    assert 1.0 == paced(10.0, *slow_then_quick).rate(50.0)
    assert 0.2 == paced(10.0, (1, 0.0), (2, 8.0), (3, 10.0)).rate(10.0)


def test_slow_steps_have_a_rate_too() -> None:
    """Of two steps that are a minute apart, however long nobody looked."""
    assert 1 / 60 == paced(10.0, (1, 0.0), (2, 60.0)).rate(100.0)
    assert 1 / 60 == paced(10.0, (1, 0.0), (2, 60.0), (2, 100.0)).rate(100.0)
    assert paced(10.0, (1, 0.0)).rate(100.0) is None


def test_the_rate_falls_when_steps_stay_away() -> None:
    """After twice the time of a step the silence counts, so that a hang does not look like progress."""
    pace = paced(10.0, (10, 0.0), (20, 10.0))
    assert [1.0, 1.0, 0.1] == [pace.rate(now) for now in (10.0, 12.0, 100.0)]


def test_a_count_that_falls_begins_anew() -> None:
    """Another process of the rank counts from zero."""
    assert 2.0 == paced(10.0, (1000, 0.0), (1010, 1.0), (0, 2.0), (2, 3.0)).rate(3.0)


def test_the_rest_is_told_by_the_pace_of_the_reports() -> None:
    """A script that resumed at step 500 and reports every tenth step; counted steps say nothing about its total."""
    paces, reports_only = summary.Paces(), summary.Paces()
    for tens in range(6):
        now = 5.0 * tens
        paces.take([TRAINED._replace(step=10 * tens, age=0.0, reported_step=500 + 10 * tens)], now)
        reports_only.take([progress.Rank(0, step=0, reported_step=10 * tens)], now)
    # an optimizer that nobody counts
    assert 2.0 == reports_only.rate(25.0)
    assert (2.0, 225.0) == (paces.rate(25.0), paces.eta(550, 1000, 25.0))
    assert (None, None, 0.0) == tuple(
        paces.eta(*known, 25.0) for known in ((None, 1000), (550, None), (1200, 1000))
    )  # fmt: skip
