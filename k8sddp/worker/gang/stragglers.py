"""Which rank holds the others up, by the time that each spends on its own part of a step. Pure; decides nothing.

DDP makes the whole steps of all ranks equally long, because the quick ones wait for the slow one in backward. So a rank
is judged by its own time: from the end of a step to the end of the next forward, which is data and forward, without
what it spends in collectives and in backward there. Time is cut into slices of at least STEPS steps of every rank. In a
slice a rank is slow when its own time is

- RATIO times the median of the others or more: under that, ranks differ for reasons that nobody mends (which core, who
  writes the log); and
- SHARE of the gang's step longer than it, or more: else mending it would not be worth a person's time.

It is a straggler when it was slow in each of the last SLICES slices, so after 30 steps at the earliest. A save or an
evaluation every few minutes makes one slice slow and names nobody. It no longer is one when at most one of the last
SLICES was slow; between the two what was said stands, so that no rank comes and goes. What lies behind forward cannot
be told apart from waiting for others: a rank that is slow in backward alone is not seen. Nor is a slow GPU whose work
nobody waits for in that part of the step: forward only queues it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Optional

from . import progress

STEPS = 6
SLICES = 5
RATIO = 1.3
SHARE = 0.1
SHOWN = 3  # stragglers in one line
PAUSE = 60.0  # seconds between two lines, whatever changes
REPEAT = 600.0  # and until the same is said again


class Straggler(NamedTuple):
    """Seconds per step: its own, the others' (their median), the gang's; in the last slice in which it was slow."""

    rank: int
    own: float
    others: float
    step: float

    @property
    def share(self) -> float:
        """Return which share of the gang's step it costs."""
        return (self.own - self.others) / self.step


class Slice(NamedTuple):
    """Some steps of all ranks: who was slow, who was slowest, and the median; own seconds per step."""

    slow: Mapping[int, Straggler]
    slowest: int
    own: float
    median: float


class _Sums(NamedTuple):
    """What a rank has added up so far."""

    own_time: float
    own_steps: int
    step_time: float
    step: int


class Watch:
    """The stragglers of one attempt."""

    def __init__(self, nproc_per_node: int) -> None:
        self._nproc = nproc_per_node
        self._base: Mapping[int, _Sums] = {}  # by rank: at the end of the last slice
        self._slices: deque[Slice] = deque(maxlen=SLICES)
        self._found: dict[int, Straggler] = {}
        self._told: frozenset[int] = frozenset()
        self._told_at: Optional[float] = None

    @property
    def found(self) -> tuple[Straggler, ...]:
        """Return the stragglers, the costliest first."""
        return tuple(sorted(self._found.values(), key=lambda one: -one.own))

    @property
    def last(self) -> Optional[Slice]:
        """Return the last slice, None before its end."""
        return self._slices[-1] if self._slices else None

    def look(self, ranks: Sequence[progress.Rank], now: float) -> list[str]:
        """Take how far all ranks are; return what is to be said."""
        sums = {
            one.rank: _Sums(one.own_time, one.own_steps, one.step_time or 0.0, one.step or 0)
            for one in ranks
            if one.own_steps
        }
        if sums.keys() != self._base.keys() or any(
            one.own_steps < self._base[key].own_steps for key, one in sums.items()
        ):
            self._base = sums  # a rank has begun to count, or anew
            self._slices.clear()
        elif len(sums) > 1 and all(one.own_steps >= self._base[key].own_steps + STEPS for key, one in sums.items()):
            self._slices.append(cut(self._base, sums))
            self._base = sums
            self._judge()
        return self._say(now)

    def _judge(self) -> None:
        counts: dict[int, int] = {}
        for one in self._slices:
            for rank in one.slow:
                counts[rank] = counts.get(rank, 0) + 1
        newest = self._slices[-1].slow
        for rank, count in counts.items():
            if count == SLICES or (rank in self._found and rank in newest):
                self._found[rank] = newest[rank]
        for rank in tuple(self._found):
            if counts.get(rank, 0) <= 1:
                del self._found[rank]

    def _say(self, now: float) -> list[str]:
        names = frozenset(self._found)
        since = None if self._told_at is None else now - self._told_at
        due = since is None or since >= (REPEAT if names == self._told else PAUSE)
        if not due or not (names or self._told):
            return []
        gone, self._told, self._told_at = self._told, names, now
        if not names:
            return ["no straggler any more: %s" % _named(sorted(gone))]
        lines = [self._line(one) for one in self.found[:SHOWN]]
        more = len(names) - SHOWN
        return [*lines, "and %d more stragglers" % more] if more > 0 else lines

    def _line(self, one: Straggler) -> str:
        text = (
            "straggler: rank %d (node %d) spends %s a step on data, forward and saving, the others %s: %.0f %% is lost"
        )
        own, others = duration(one.own), duration(one.others)
        return text % (one.rank, one.rank // self._nproc, own, others, 100 * one.share)


def cut(before: Mapping[int, _Sums], after: Mapping[int, _Sums]) -> Slice:
    """Return the slice between two looks at the same ranks, two at least, all of which have made steps."""
    own = {
        rank: _mean(before[rank].own_time, one.own_time, one.own_steps - before[rank].own_steps)
        for rank, one in after.items()
    }
    steps = sorted(
        _mean(before[rank].step_time, one.step_time, one.step - before[rank].step) for rank, one in after.items()
    )
    step = max(median(steps), 1e-9)
    order = sorted(own, key=lambda rank: own[rank])
    times = [own[rank] for rank in order]
    slow = {}
    for place, rank in enumerate(order):
        others = median(times, without=place)
        if times[place] >= RATIO * others and times[place] - others >= SHARE * step:
            slow[rank] = Straggler(rank, times[place], others, step)
    return Slice(slow, order[-1], times[-1], median(times))


def median(values: Sequence[float], *, without: Optional[int] = None) -> float:
    """Return the median of sorted values, of one of them taken out where its place is given."""
    count = len(values) - (without is not None)

    def at(place: int) -> float:
        return values[place + (without is not None and place >= without)]

    return (at((count - 1) // 2) + at(count // 2)) / 2


def duration(seconds: float) -> str:
    """Return a time of a step as people read it: 61 ms, 1.2 s."""
    return "%.3g s" % seconds if seconds >= 1 else "%.3g ms" % (1e3 * seconds)


def _mean(before: float, after: float, count: int) -> float:
    return max(0.0, after - before) / max(1, count)


def _named(ranks: Sequence[int]) -> str:
    text = ", ".join("rank %d" % rank for rank in ranks[:SHOWN])
    return text if len(ranks) <= SHOWN else "%s and %d more" % (text, len(ranks) - SHOWN)
