"""How far the whole gang is, in a few figures: what /status tells first, and what a person's live line shows. Pure.

The gang is as far as its last rank. How quick it is, one rank can tell for all: in DDP every step is everybody's. Its
steps are timed by itself (a step's end is in its page), so the rate is right for steps of a minute as for those of a
millisecond, and falls as soon as steps stay away for longer than two of them take.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Optional

from . import progress

WINDOW = 10.0  # seconds of steps that the rate is about
REPORT_WINDOW = 60.0  # of the script's own reports, which may be seldom

STARTING, JOINING, JOINED, TRAINING = "starting", "joining", "joined", "training"
_ORDER = (STARTING, JOINING, JOINED, TRAINING)


class Summary(NamedTuple):
    """The gang, or on other nodes than node 0 the ranks of the node, in the attempt that runs; None: not known."""

    attempt: Optional[int]
    phase: str  # of the rank that is least far on: starting | joining | joined | training (a forward or step was seen)
    ranks: int  # of which something is known
    step: Optional[int]  # the least: optimizer steps of this attempt, 0 before the first
    last_rank: Optional[int]  # that has made so few
    steps_max: Optional[int]
    reported_step: Optional[int]  # the least of those that the script has reported
    total_steps: Optional[int]  # as reported
    rate: Optional[float]  # steps a second over the last WINDOW seconds
    eta: Optional[float]  # seconds until total_steps, by the pace of the reports
    loss: Optional[float]  # as reported by the first rank that reports one
    slowest_rank: Optional[int]  # by its own time per step (stragglers.py); node 0 only


class Pace:
    """How quickly a count grows: over the last `window` seconds, or since the last change but one if that is longer."""

    def __init__(self, window: float) -> None:
        self._window = window
        self._seen: deque[tuple[int, float]] = deque()

    def take(self, count: int, at: float) -> None:
        """Take note of a count that was reached at `at`; one that is smaller than before begins anew."""
        if self._seen and count < self._seen[-1][0]:
            self._seen.clear()
        if not self._seen or count > self._seen[-1][0]:
            self._seen.append((count, at))
        while len(self._seen) > 2 and self._seen[1][1] <= at - self._window:
            self._seen.popleft()

    def rate(self, now: float) -> Optional[float]:
        """Return the growth per second, None before there has been any."""
        if len(self._seen) < 2:
            return None
        (first, began), (last, at) = self._seen[0], self._seen[-1]
        span, silence = at - began, now - at
        if silence * (last - first) > 2 * span:
            span += silence
        return (last - first) / span if span > 0.0 else None


class Paces:
    """Those of one attempt, by one rank."""

    def __init__(self) -> None:
        self._steps = Pace(WINDOW)
        self._reports = Pace(REPORT_WINDOW)

    def take(self, ranks: Sequence[progress.Rank], now: float) -> None:
        """Take how far this node's ranks are: the first that has made a step tells for the gang."""
        for one in ranks:
            if one.step and one.age is not None:
                self._steps.take(one.step, now - one.age)
                break
        reported = _reported(ranks)
        if reported:
            self._reports.take(min(reported), now)

    def rate(self, now: float) -> Optional[float]:
        """Return the steps per second: of those that are counted, else of those that the script reports."""
        counted = self._steps.rate(now)
        return self._reports.rate(now) if counted is None else counted

    def eta(self, reported: Optional[int], total: Optional[int], now: float) -> Optional[float]:
        """Return the seconds until the script has reported `total`."""
        rate = self._reports.rate(now)
        if reported is None or total is None or not rate:
            return None
        return max(0.0, (total - reported) / rate)


def summarize(
    ranks: Iterable[progress.Rank], paces: Paces, *, attempt: Optional[int], slowest_rank: Optional[int], now: float
) -> Summary:
    """Return what is told of `ranks`, which are in order."""
    ranks = tuple(ranks)
    steps = [(one.step, one.rank) for one in ranks if one.step is not None]
    step, last = min(steps, default=(None, None))
    reported = min(_reported(ranks), default=None)
    total = next((one.total_steps for one in ranks if one.total_steps is not None), None)
    return Summary(
        attempt=attempt,
        phase=min(map(_phase, ranks), key=_ORDER.index, default=STARTING),
        ranks=len(ranks),
        step=step,
        last_rank=last,
        steps_max=max(steps)[0] if steps else None,
        reported_step=reported,
        total_steps=total,
        rate=paces.rate(now),
        eta=paces.eta(reported, total, now),
        loss=next((one.loss for one in ranks if one.loss is not None), None),
        slowest_rank=slowest_rank,
    )


def _phase(one: progress.Rank) -> str:
    if one.step or one.forward_entered:
        return TRAINING
    return progress.BEFORE.get(one.group, STARTING)


def _reported(ranks: Iterable[progress.Rank]) -> list[int]:
    return [one.reported_step for one in ranks if one.reported_step is not None]
