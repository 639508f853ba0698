"""Run two ways in turn and compare them, so that whatever else the machine does falls on both alike."""

from __future__ import annotations

import random
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence


def seconds_of(argv: Sequence[str]) -> float:
    """Return the wall time of a whole process that must succeed."""
    started = time.perf_counter()
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def in_turn(ways: Sequence[Callable[[], float]], *, rounds: int) -> list[list[float]]:
    """Return each way's figures; a round runs every way once, after one round that is thrown away."""
    for way in ways:
        way()
    figures: list[list[float]] = [[] for _ in ways]
    for _ in range(rounds):
        for kept, way in zip(figures, ways, strict=True):
            kept.append(way())
    return figures


def median(figures: Sequence[float]) -> float:
    """Return the median, to the millisecond."""
    return round(statistics.median(figures), 3)


def interval_95(differences: Sequence[float]) -> tuple[float, float]:
    """Return the bootstrap 95 % interval of the median of paired differences."""
    chance = random.Random(0)
    medians = sorted(statistics.median(chance.choices(differences, k=len(differences))) for _ in range(2000))
    return round(medians[50], 3), round(medians[1949], 3)
