"""What a script says of itself by `k8sddp_report` (instrument/k8sddp_report.py sends it), as a value. Pure.

A script can write anything into the event pipe, so each field is taken for itself, bounded, and passed over where it
is not what it should be.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Optional

from k8sddp.worker.gang import progress
from k8sddp.worker.instrument import k8sddp_report as words


class Reported(NamedTuple):
    """The newest report of one rank, from the process `pid`."""

    pid: int
    step: Optional[int] = None
    total_steps: Optional[int] = None
    loss: Optional[float] = None
    metrics: tuple[tuple[str, float], ...] = ()

    def added_to(self, rank: progress.Rank) -> progress.Rank:
        """Return a rank with what it has reported, if this process is the one that counts."""
        if rank.pid not in (None, self.pid):
            return rank
        return rank._replace(
            reported_step=self.step, total_steps=self.total_steps, loss=self.loss, metrics=self.metrics
        )


def of(pid: int, record: Mapping[str, object]) -> Reported:
    """Return what an event of the process `pid` reports."""
    step, total_steps = (_whole(record.get(name)) for name in words.WHOLE)
    named = ((str(key)[len(words.METRIC) :], value) for key, value in record.items() if key.startswith(words.METRIC))
    metrics = [(name, _number(value)) for name, value in named if name.isprintable() and len(name) <= words.MAX_NAME]
    known = [(name, value) for name, value in metrics if value is not None]
    return Reported(pid, step, total_steps, _number(record.get(words.LOSS)), tuple(known[: words.MAX_METRICS]))


def _whole(value: object) -> Optional[int]:
    return value if type(value) is int and 0 <= value <= words.LARGEST else None


def _number(value: object) -> Optional[float]:
    try:
        return float(value) if type(value) in (int, float) else None  # type: ignore[arg-type]
    except OverflowError:
        return None
