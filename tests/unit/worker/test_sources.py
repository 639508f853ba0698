"""A line of the program is read while something hangs: nothing that is read may hang the worker too."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from k8sddp.worker.contract.stacks import Frame
from k8sddp.worker.ranks import sources

MOUNTS = [
    "22 1 0:21 / / rw,relatime - overlay overlay rw",
    "30 22 0:40 / /data rw,relatime shared:1 - nfs4 server:/data rw",
    "31 30 0:41 / /data/local rw - ext4 /dev/sdb rw",
    "32 22 0:42 / /with\\040space rw - fuse.sshfs host: rw",
    "33 22 0:43 / /covered rw - nfs server:/x rw",
    "34 33 0:44 / /covered rw - tmpfs tmpfs rw",
    "nothing that could be read",
]


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/app/train.py", "overlay"),
        ("/data/train.py", "nfs4"),
        ("/data", "nfs4"),
        ("/database/train.py", "overlay"),
        ("/data/local/train.py", "ext4"),
        ("/data/local/../train.py", "nfs4"),
        ("/with space/train.py", "fuse.sshfs"),
        ("/covered/train.py", "tmpfs"),
    ],
)
def test_the_file_system_of_a_path_is_known_without_touching_it(path: str, kind: str) -> None:
    """By the longest mount point above it, the one on top of two."""
    assert kind == sources.kind_of(path, MOUNTS)


def test_a_line_is_read_from_where_the_rank_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative paths are those of its folder; a line that is not there is empty."""
    (tmp_path / "train.py").write_text("first\n    second\n")
    monkeypatch.chdir(tmp_path)
    own = os.getpid()
    assert ["", "first", "second", ""] == [sources.line(own, Frame("train.py", number, "f")) for number in range(4)]
    assert "second" == sources.line(0, Frame(str(tmp_path / "train.py"), 2, "f"))
    for nothing in ("<string>", "none.py", str(tmp_path), "a\0b"):
        assert "" == sources.line(own, Frame(nothing, 1, "f"))


def test_a_pipe_under_the_name_of_a_file_stops_nobody(tmp_path: Path) -> None:
    """As with `python <(make_script)`: whoever opened it would wait for a writer, or take its words away."""
    os.mkfifo(tmp_path / "train.py")
    assert "" == sources.line(os.getpid(), Frame(str(tmp_path / "train.py"), 1, "f"))


def test_a_file_of_another_machine_is_not_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its server may be what hangs; and without mountinfo nobody can say."""
    (tmp_path / "train.py").write_text("first\n")
    frame = Frame(str(tmp_path / "train.py"), 1, "f")
    assert "first" == sources.line(os.getpid(), frame)
    monkeypatch.setattr(sources, "is_remote", lambda _: True)
    assert "" == sources.line(os.getpid(), frame)
