"""How far a gang is and how fast, in the figures of node 0's /status: step, of how many, rate, time left, loss.

The step is that of the rank that is least far on: a gang is as far as its last rank. Where the script reports its own
steps they are told, because only they go on after a restart and only they are what its total is about. Steps of an
older worker, which tells its own ranks only, are taken from those. What is missing, or no figure that a person could
use (a rate of zero, of infinity), is not said; a loss is said whatever it is: `nan` is what its reader must see.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from k8sddp.plan.progress import Rank

NOBODY: Final = "-"
_TOO_MANY: Final = 1 << 63  # JSON's numbers have no end
_ODD: Final = ("nan", "inf", "-inf")  # losses that are no number in JSON
_FAST: Final = 100.0  # steps a second from which on a fraction says nothing


@dataclass(frozen=True)
class Pace:
    """The figures of one moment; None for what nobody tells."""

    step: int | None = None  # 0 before the first
    total: int | None = None  # steps that the script means to make
    rate: float | None = None  # steps a second
    told_left: float | None = None  # seconds until the last step, as the worker reckons
    loss: float | None = None
    slowed: tuple[int, float] | None = None  # by that rank, and by what share of each step
    last: int | None = None  # a rank that is least far on
    ranks: int = 0  # of which something is known

    @property
    def share(self) -> float | None:
        """Return how much of the way is done, 0 to 1."""
        return None if self.step is None or not self.total else min(1.0, self.step / self.total)

    @property
    def left(self) -> float | None:
        """Return the seconds until the last step, as the worker reckons, else at this rate."""
        if self.told_left is not None:
            return self.told_left
        if self.step is None or not self.total or not self.rate:
            return None
        left = max(0, self.total - self.step) / self.rate
        return left if math.isfinite(left) else None

    @property
    def cell(self) -> str:
        """Return how far it is, in a column's cell or a sentence: `step 1200/5000 24%`, `step 1200`, `-`."""
        share = self.share
        if not self.step and share is None:
            return NOBODY
        return f"step {self.step}" if share is None else f"step {self.step}/{self.total} {_percent(share)}"

    def figures(self) -> tuple[str, ...]:
        """Return all else that is known, each in a few words, the most wanted first."""
        left = self.left
        return (
            *((_rate(self.rate),) if self.rate else ()),
            *((f"ETA {_age(left)}",) if left is not None else ()),
            *((f"slow rank {self.slowed[0]} ({_percent(self.slowed[1])})",) if self.slowed else ()),
            *((f"loss {self.loss:.4g}",) if self.loss is not None else ()),
        )


def parse(record: object, stragglers: object = ()) -> Pace | None:
    """Return what `progress` and `stragglers` of /status say, None where there is none: it is an older worker's."""
    if not isinstance(record, Mapping):
        return None
    reported = whole(record.get("reported_step"))
    return Pace(
        step=whole(record.get("step")) if reported is None else reported,
        total=whole(record.get("total_steps")) or None,
        rate=_usable(number(record.get("rate"))),
        told_left=_usable(number(record.get("eta"))),
        loss=_loss(record.get("loss")),
        slowed=_slowed(stragglers),
        last=whole(record.get("last_rank")),
        ranks=whole(record.get("ranks")) or 0,
    )


def of_ranks(ranks: Sequence[Rank]) -> Pace:
    """Return how far some ranks are."""
    steps = [one.step for one in ranks if one.step is not None]
    means = [one.mean_step for one in ranks if one.mean_step]
    return Pace(
        step=min(steps) if len(steps) == len(ranks) > 0 else None, rate=_usable(1 / max(means)) if means else None
    )


def whole(value: object) -> int | None:
    """Return a whole number of JSON, None for anything else."""
    return value if type(value) is int and 0 <= value < _TOO_MANY else None


def number(value: object) -> float | None:
    """Return a number of JSON, None for anything else."""
    try:
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
    except OverflowError:
        return None


def _slowed(stragglers: object) -> tuple[int, float] | None:
    """Return the straggler that costs most; the rank with the longest own time alone need be none."""
    records = [one for one in stragglers if isinstance(one, Mapping)] if isinstance(stragglers, list) else []
    pairs = [(number(one.get("share")), whole(one.get("rank"))) for one in records]
    found = [(share, rank) for share, rank in pairs if rank is not None and share is not None and 0 < share <= 1]
    return max(found)[::-1] if found else None


def _loss(value: object) -> float | None:
    return float(value) if isinstance(value, str) and value in _ODD else number(value)


def _usable(figure: float | None) -> float | None:
    return figure if figure is not None and math.isfinite(figure) and figure > 0 else None


def _percent(share: float) -> str:
    return f"{int(share * 100)}%"  # 100% when it is done, not before


def _rate(rate: float) -> str:
    if rate >= 1:
        return f"{rate:.0f} steps/s" if rate >= _FAST else f"{rate:.3g} steps/s"
    return f"{1 / rate:.3g} s/step"


def _age(seconds: float) -> str:
    from k8sddp.plan import statuses

    return statuses.age(seconds)
