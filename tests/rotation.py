"""Which of the tests that run on request only run this time all the same: two, others with every commit.

`@pytest.mark.on_request` marks a test that is too long for every run. K8SDDP_TEST_REPEATS=1 or more runs all of them;
without it each run takes the next two, counted in commits, so that none is forgotten. K8SDDP_TEST_ROTATION=N repeats
the choice that a run has named.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

SIZE = 2


def chosen(names: Sequence[str], number: int, *, size: int = SIZE) -> frozenset[str]:
    """Return `size` of `names`: with growing `number` all of them in turn."""
    ordered = sorted(set(names))
    return frozenset(ordered[(number * size + step) % len(ordered)] for step in range(min(size, len(ordered))))


def number() -> int:
    """Return the number of this run's turn: as named, else the commits so far, 0 outside a clone."""
    named = os.environ.get("K8SDDP_TEST_ROTATION", "")
    if named:
        return int(named)
    asked = ["git", "-C", str(Path(__file__).parent), "rev-list", "--count", "HEAD"]
    counted = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
    return int(counted or "0")


def skip_the_others(items: Sequence[pytest.Item]) -> None:
    """Mark those to skip that run on request and whose turn it is not."""
    asked = [item for item in items if item.get_closest_marker("on_request")]
    if not asked or int(os.environ.get("K8SDDP_TEST_REPEATS", "0")):
        return
    turn = number()
    names = chosen([item.nodeid for item in asked], turn)
    reason = f"on request: K8SDDP_TEST_REPEATS=1 or more runs it; two run each time (K8SDDP_TEST_ROTATION={turn})"
    for item in asked:
        if item.nodeid not in names:
            item.add_marker(pytest.mark.skip(reason=reason))
