"""What ends with a pod although the job is complete is said, and nothing else is."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from k8sddp.worker import leftovers


def unpacked(tmp_path: Path) -> tuple[Path, Path]:
    """Return a working folder with code, and the zip that it came from."""
    folder, code = tmp_path / "work", tmp_path / "code.zip"
    with zipfile.ZipFile(code, "w") as archive:
        archive.writestr("train.py", "print(1)")
        archive.writestr("conf/a.json", "{}")
        archive.extractall(folder)
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__/x.pyc").touch()
    return folder, code


def test_code_and_caches_are_not_news(tmp_path: Path) -> None:
    """Nothing is said where nothing is lost."""
    folder, code = unpacked(tmp_path)
    assert "" == leftovers.sentence(str(folder), str(code))


def test_new_and_changed_files_are_named(tmp_path: Path) -> None:
    """The first ones, how many there are, how big they are, and what to do."""
    folder, code = unpacked(tmp_path)
    (folder / "model.pt").write_bytes(b"x" * 2**20)
    (folder / "conf/a.json").write_text("{'changed': 1}")
    (folder / "runs/1").mkdir(parents=True)
    for number in range(3):
        (folder / f"runs/1/{number}").touch()
    (folder / "last").symlink_to("runs/1")
    assert (
        f"new files in {folder} end with the pod: model.pt, runs/1/0, runs/1/1 and 2 more (1.0 MiB); to keep such "
        "files, write them to a volume"
    ) == leftovers.sentence(str(folder), str(code))


def test_a_million_files_are_not_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last thing that a worker does is bounded."""
    folder, code = unpacked(tmp_path)
    for number in range(20):
        (folder / f"d{number}").mkdir()
        (folder / f"d{number}/f").touch()
    monkeypatch.setattr(leftovers, "MAX_ENTRIES", 30)
    assert ": d" in leftovers.sentence(str(folder), str(code))
    assert len(leftovers._files(str(folder))) < 20


def test_one_folder_with_a_million_files_is_not_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its list alone would take the memory that the pod of a complete job may not have."""
    for number in range(50):
        (tmp_path / f"{number}").touch()
    monkeypatch.setattr(leftovers, "MAX_ENTRIES", 30)
    assert 30 == len(leftovers._files(str(tmp_path)))
