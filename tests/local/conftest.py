"""What tests of `local.run` ask for by name."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.local import pods


@pytest.fixture
def nothing_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The test ends with an empty temporary folder and without new folders in memory."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    before = set(Path("/dev/shm").glob("k8sddp-*"))
    yield
    pods.until(lambda: not list(temporary.iterdir()))
    assert before >= {path for path in Path("/dev/shm").glob("k8sddp-*") if path.stat().st_uid == os.getuid()}
