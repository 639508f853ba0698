"""Unpacking the code folder: what was packed arrives, what was forged does not."""

from __future__ import annotations

import os
import signal
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from k8sddp.render import bundle
from k8sddp.worker import code_zip
from tests.unit.worker import workers


def make_zip(path: Path, *members: tuple[str, bytes, int]) -> str:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data, mode in members:
            info = zipfile.ZipInfo("x")
            info.filename = name
            info.external_attr = mode << 16
            archive.writestr(info, data)
    return str(path)


def test_files_arrive_with_their_executable_bit(tmp_path: Path) -> None:
    """Twice the same, as when a container starts again."""
    packed = make_zip(tmp_path / "c.zip", ("train.py", b"print()", 0o100644), ("lib/run.sh", b"#!", 0o100755))
    for _ in range(2):
        code_zip.unpack(packed, str(tmp_path / "work"))
    found = {str(p.relative_to(tmp_path / "work")): p for p in (tmp_path / "work").rglob("*") if p.is_file()}
    assert ["lib/run.sh", "train.py"] == sorted(found)
    assert [True, False] == [bool(found[name].stat().st_mode & stat.S_IXUSR) for name in sorted(found)]


def test_the_digest_is_of_what_is_unpacked_and_the_one_of_the_manifest(tmp_path: Path) -> None:
    """Whoever packed it, in whatever order, with whatever dates: names, contents and the executable bit count."""
    files = [bundle.CodeFile("train.py", b"print()"), bundle.CodeFile("lib/l\u00e4uf.sh", b"#!", executable=True)]
    packed = tmp_path / "ours.zip"
    packed.write_bytes(bundle.pack(files).zip)
    theirs = [("lib/l\u00e4uf.sh", b"#!", 0o100755), ("train.py", b"print()", 0o100664)]
    digests = [
        code_zip.unpack(str(packed), str(tmp_path / "a")),
        code_zip.unpack(make_zip(tmp_path / "b.zip", *theirs), str(tmp_path / "b")),
    ]
    assert [bundle.digest(files)] * 2 == digests
    for number, change in enumerate([("train.py", b"print(1)", 0o100644), ("train.py", b"print()", 0o100755)]):
        other = make_zip(tmp_path / f"{number}.zip", theirs[0], change)
        assert bundle.digest(files) != code_zip.unpack(other, str(tmp_path / "c"))


def test_a_config_map_without_its_key_is_named(tmp_path: Path) -> None:
    """It is mounted all the same: the folder is there and the file is not."""
    with pytest.raises(code_zip.CodeZipError) as caught:
        code_zip.unpack(str(tmp_path / "code.zip"), str(tmp_path / "work"), "team-code")
    said = "ConfigMap team-code has no key code.zip: it must hold the code folder, as a zip file, under that key"
    assert said == str(caught.value)


def test_a_name_may_begin_with_dots(tmp_path: Path) -> None:
    """`..cache` and `...` are ordinary names."""
    packed = make_zip(tmp_path / "c.zip", ("..cache", b"1", 0o100644), ("a/...", b"2", 0o100644))
    code_zip.unpack(packed, str(tmp_path / "work"))
    assert b"1" == (tmp_path / "work/..cache").read_bytes()


@pytest.mark.parametrize(
    ("members", "said"),
    [
        pytest.param([("../evil", b"", 0o100644)], "not a plain relative name", id="parent"),
        pytest.param([("/etc/evil", b"", 0o100644)], "not a plain relative name", id="absolute"),
        pytest.param([("a/../../evil", b"", 0o100644)], "not a plain relative name", id="hidden parent"),
        pytest.param([("a//b", b"", 0o100644)], "not a plain relative name", id="not normal"),
        pytest.param([("link", b"/etc/passwd", 0o120777)], "'link' in the code is not a regular file", id="link"),
        pytest.param([("pipe", b"", 0o010644)], "'pipe' in the code is not a regular file", id="fifo"),
        pytest.param(
            [("a", b"1", 0o100644), ("a/b", b"2", 0o100644)], "'a' in the code is a file and a folder", id="both"
        ),
    ],
)
def test_a_forged_member_is_refused(tmp_path: Path, members: list[tuple[str, bytes, int]], said: str) -> None:
    """Nothing is written, not even the good members."""
    packed = make_zip(tmp_path / "c.zip", ("good.py", b"", 0o100644), *members)
    with pytest.raises(code_zip.CodeZipError, match=said):
        code_zip.unpack(packed, str(tmp_path / "work"))
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize(
    ("place", "change"),
    [
        pytest.param(b"PK\x03\x04", (40, 0xFF), id="data"),  # behind header and name: zlib cannot inflate it
        pytest.param(b"PK\x01\x02", (46, 0xFF), id="name"),  # of the directory entry: no longer UTF-8
    ],
)
def test_a_damaged_zip_is_refused(tmp_path: Path, place: bytes, change: tuple[int, int]) -> None:
    """Whatever the zip module raises, the user gets one sentence."""
    path = tmp_path / "c.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("träin.py", b"print(1)\n" * 100)
    data = bytearray(path.read_bytes())
    data[data.index(place) + change[0]] = change[1]
    path.write_bytes(data)
    with pytest.raises(code_zip.CodeZipError, match="cannot be unpacked"):
        code_zip.unpack(str(path), str(tmp_path / "work"))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_comes_once(tmp_path: Path) -> None:
    """Two members of one name would make it a matter of order what runs."""
    packed = make_zip(tmp_path / "c.zip", ("a", b"1", 0o100644), ("a", b"2", 0o100644))
    with pytest.raises(code_zip.CodeZipError, match="'a' is twice in the code"):
        code_zip.unpack(packed, str(tmp_path / "work"))


@pytest.mark.parametrize(
    ("limit", "said"),
    [
        pytest.param(("MAX_FILES", 1), "the code has 2 files, the limit is 1", id="count"),
        pytest.param(("MAX_BYTES", 9), "the code unpacks to 10 bytes, the limit is 9", id="size"),
    ],
)
def test_count_and_size_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: tuple[str, int], said: str
) -> None:
    """Before anything is written."""
    monkeypatch.setattr(code_zip, *limit)  # the real limits would take minutes
    packed = make_zip(tmp_path / "c.zip", ("a", b"12345", 0o100644), ("b", b"12345", 0o100644))
    with pytest.raises(code_zip.CodeZipError, match=said):
        code_zip.unpack(packed, str(tmp_path / "work"))
    assert not (tmp_path / "work").exists()


def test_what_is_no_zip_is_named(tmp_path: Path) -> None:
    """With its path."""
    (tmp_path / "c.zip").write_bytes(b"not a zip")
    with pytest.raises(code_zip.CodeZipError, match=r"c\.zip cannot be unpacked"):
        code_zip.unpack(str(tmp_path / "c.zip"), str(tmp_path / "work"))


@pytest.mark.parametrize(
    ("end", "said"),
    [
        pytest.param(lambda: os.kill(os.getpid(), signal.SIGKILL), "was ended by SIGKILL", id="killed"),
        pytest.param(lambda: 1 // 0, "failed", id="our own fault"),
    ],
)
def test_an_end_that_is_not_the_zips_fault_is_no_error_of_the_zip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: Callable[[], object], said: str
) -> None:
    """Out of memory, for one: to be tried again, so it must not look like a configuration error, nor like success."""
    packed = make_zip(tmp_path / "c.zip", ("a", b"1", 0o100644))
    here = os.getpid()
    monkeypatch.setattr(code_zip, "_write", lambda *_: os.getpid() != here and end())
    with pytest.raises(RuntimeError, match=rf"unpacks .*c\.zip into .*/work {said}"):
        code_zip.unpack(packed, str(tmp_path / "work"))


def test_unpacking_leaves_nothing_in_the_worker(tmp_path: Path) -> None:
    """Neither zipfile, which with what it imports takes 1 MB, nor a descriptor or a child."""
    packed = make_zip(tmp_path / "c.zip", ("a", b"1", 0o100644))
    script = """
import os, sys
from k8sddp.worker import code_zip
from tests.unit.worker import workers
before = (sorted(os.listdir("/proc/self/fd")), set(sys.modules))
code_zip.unpack(*sys.argv[1:])
assert before == (sorted(os.listdir("/proc/self/fd")), set(sys.modules))
try:
    os.wait()
except ChildProcessError:
    print("nothing is left")
"""
    assert "nothing is left\n" == workers.output_of(script, packed, str(tmp_path / "work"))
