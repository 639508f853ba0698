"""How far each rank has come, read from the page that it shares with us (instrument/k8sddp_page.py writes it).

The rank writes whenever it likes and nobody waits: a page read in the middle of a step may show the new time with the
old count, which is right a moment later. What was never seen is None: no step may also mean a script without optimizer.
"""

from __future__ import annotations

import os
import struct
from typing import NamedTuple, Optional

SIZE = 64
_LAYOUT = struct.Struct("=8Q")  # pid, step, forward entered, forward left, last step, step time, started, unused


class Progress(NamedTuple):
    """One rank; seconds since its last step (or start) and for its steps; None for what nobody has counted."""

    rank: int
    pid: Optional[int]
    step: Optional[int]
    forward_entered: int
    forward_left: int
    age: Optional[float]
    mean_step: Optional[float]

    @property
    def phase(self) -> str:
        """Return starting, forward, or between (after forward: backward, optimizer, data, evaluation)."""
        if self.pid is None or not self.forward_entered:
            return "starting" if self.step is None else "between"
        return "forward" if self.forward_entered > self.forward_left else "between"


def create(path: str) -> int:
    """Make an empty page; return its descriptor. Raises OSError."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    os.ftruncate(fd, SIZE)
    return fd


def read(fd: int, rank: int, *, now: float) -> Progress:
    """Return what the page says at `now` (CLOCK_MONOTONIC, seconds)."""
    pid, step, entered, left, last, total, _, _ = _LAYOUT.unpack(os.pread(fd, SIZE, 0))
    return Progress(
        rank,
        pid or None,
        step or None,
        entered,
        left,
        max(0.0, now - last / 1e9) if pid else None,
        total / step / 1e9 if step else None,
    )
