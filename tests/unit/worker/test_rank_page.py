"""The page of a rank as the worker reads it."""

from __future__ import annotations

import os
import struct
from pathlib import Path

from k8sddp.worker.ranks import rank_page


def test_an_empty_page_knows_nothing(tmp_path: Path) -> None:
    """No step may also mean a script without optimizer: it is unknown, not none."""
    fd = rank_page.create(str(tmp_path / "page"))
    assert rank_page.Progress(3, None, None, 0, 0, None, None) == rank_page.read(fd, 3, now=5.0)
    assert "starting" == rank_page.read(fd, 3, now=5.0).phase
    os.close(fd)


def test_a_page_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Step, forward counters, the age of the last step and the mean time of a step."""
    fd = rank_page.create(str(tmp_path / "page"))
    os.pwrite(fd, struct.pack("=8Q", 17, 4, 5, 4, 10_500_000_000, 2_000_000_000, 8_500_000_000, 0), 0)
    progress = rank_page.read(fd, 0, now=11.0)
    assert rank_page.Progress(0, 17, 4, 5, 4, 0.5, 0.5) == progress
    assert "forward" == progress.phase
    os.close(fd)
