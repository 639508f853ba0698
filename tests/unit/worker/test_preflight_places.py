"""What is found of folders, volumes, shared memory and names."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

import pytest

from k8sddp.worker.contract import finding
from k8sddp.worker.preflight import naming, places

BLOCK = 4096
GIB = 1024 * places.MIB


def in_folder(path: Path, *, own: bool = False, node_disk: bool = False) -> list[finding.Finding]:
    """Return what is found of a folder."""
    return list(places.folder(str(path), what="volume data", own=own, node_disk=node_disk, pod="digits-0"))


def sized(monkeypatch: pytest.MonkeyPatch, *, size: int, free: int) -> None:
    """Let every file system have this many bytes."""
    numbers = (BLOCK, BLOCK, size // BLOCK, free // BLOCK, free // BLOCK, 100, 100, 100, 0, 255)
    monkeypatch.setattr("os.statvfs", lambda path: os.statvfs_result(numbers))


@pytest.mark.parametrize("nameless", [True, False], ids=["O_TMPFILE", "without it"])
def test_a_folder_that_can_be_written_is_left_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nameless: bool
) -> None:
    """On NFS, which has no files without a name, one with a name comes and goes."""
    opened = []

    def open_(path: str, flags: int, mode: int = 0o777) -> int:
        opened.append(path)
        if not nameless and flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, "Operation not supported")
        return real(path, flags, mode)

    real = os.open
    sized(monkeypatch, size=10 * GIB, free=5 * GIB)
    monkeypatch.setattr("os.open", open_)
    assert [] == in_folder(tmp_path)
    assert [] == list(tmp_path.iterdir())
    assert (1 if nameless else 2) == len(opened)


@pytest.mark.parametrize(
    ("own", "number", "level"),
    [
        pytest.param(True, errno.EACCES, finding.PROBLEM, id="ours"),
        pytest.param(True, errno.ENOSPC, finding.WARNING, id="ours, full"),
        pytest.param(False, errno.EACCES, finding.WARNING, id="a volume"),
        pytest.param(False, errno.EROFS, finding.WARNING, id="a read-only volume"),
    ],
)
def test_a_folder_that_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: bool, number: int, level: str
) -> None:
    """A problem only where nothing works without it: a volume may be there to be read."""

    def refuse(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("os.open", refuse)
    (found,) = in_folder(tmp_path, own=own)
    assert ("volume data", level) == found[:2]
    assert found.text.startswith(f"{tmp_path} cannot be written ({os.strerror(number).lower()}): ")
    assert ("say readOnly: true" in found.text) is not own


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    """As one that cannot be written."""
    (found,) = in_folder(tmp_path / "none")
    assert "cannot be written (no such file or directory)" in found.text


@pytest.mark.parametrize(
    ("size", "free", "node_disk", "said"),
    [
        pytest.param(1000 * GIB, 50 * GIB, True, "has 5 % free (51200 MiB)", id="the Node's disk is nearly full"),
        pytest.param(1000 * GIB, 150 * GIB, True, "", id="the Node's disk has room"),
        pytest.param(1000 * GIB, 50 * GIB, False, "", id="a large volume with room"),
        pytest.param(1000 * GIB, GIB // 2, False, "has 512 MiB free: make room", id="a large volume without"),
        pytest.param(GIB // 4, GIB // 4, False, "", id="a small volume"),
        pytest.param(0, 0, False, "", id="a file system that does not count"),
    ],
)
def test_little_room_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, free: int, node_disk: bool, said: str
) -> None:
    """By the kubelet's own rule on its disk; elsewhere when hardly a checkpoint fits."""
    sized(monkeypatch, size=size, free=free)
    found = in_folder(tmp_path, node_disk=node_disk)
    assert ([finding.WARNING] if said else []) == [one.level for one in found]
    assert all(said in one.text for one in found)


@pytest.mark.parametrize(
    ("ranks", "fits"), [pytest.param(1, True, id="64 MiB for one rank"), pytest.param(2, False, id="for two")]
)
def test_shared_memory_is_measured_by_the_ranks(monkeypatch: pytest.MonkeyPatch, ranks: int, fits: bool) -> None:
    """64 MiB for each, with what to write into the job file."""
    sized(monkeypatch, size=64 * places.MIB, free=0)
    found = list(places.shared_memory("/dev/shm", nproc_per_node=ranks))
    assert ([] if fits else [finding.WARNING]) == [one.level for one in found]
    assert all("has 64 MiB for 2 ranks" in one.text for one in found)
    assert all("set resources.sharedMemory to 128 MiB or more" in one.text for one in found)


@pytest.mark.parametrize("path", ["", "/none/shm"], ids=["no folder", "a folder that is missing"])
def test_no_shared_memory_is_no_finding(path: str) -> None:
    """A pod without one has nothing in it."""
    assert [] == list(places.shared_memory(path, nproc_per_node=8))


def resolving(monkeypatch: pytest.MonkeyPatch, *, to: str = "", back: bool = True) -> None:
    """Let every name have one address, none where it is empty, and every address a name or none."""

    def forward(*_: object, **__: object) -> list[tuple[int, int, int, str, tuple[str, int]]]:
        if not to:
            raise socket.gaierror(-2, "Name or service not known")
        return [(2, 1, 6, "", (to, 0))]

    def reverse(*_: object) -> tuple[str, str]:
        if not back:
            raise socket.gaierror(-2, "Name or service not known")
        return "digits-0.digits", "0"

    monkeypatch.setattr("socket.getaddrinfo", forward)
    monkeypatch.setattr("socket.getnameinfo", reverse)


@pytest.mark.parametrize(
    ("to", "back", "said"),
    [
        pytest.param("10.0.0.5", True, [], id="well"),
        pytest.param("", True, ["digits-0.digits does not resolve (name or service not known)"], id="no name"),
        pytest.param("10.0.0.9", True, ["digits-0.digits is 10.0.0.9, but this pod's address is 10.0.0.5"], id="other"),
        pytest.param("10.0.0.5", False, ["this pod's address 10.0.0.5 has no name"], id="not back"),
    ],
)
def test_a_name_leads_to_the_pod_and_back(
    monkeypatch: pytest.MonkeyPatch, to: str, back: bool, said: list[str]
) -> None:
    """Anything else is a warning: a name may come a second later."""
    resolving(monkeypatch, to=to, back=back)
    found = list(naming.own_name("digits-0.digits", "10.0.0.5"))
    assert [finding.WARNING] * len(said) == [one.level for one in found]
    assert all(one.text.startswith(text) for one, text in zip(found, said, strict=True))


def test_a_name_server_that_does_not_answer_is_told_with_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """It costs each rank that time when it connects."""
    resolving(monkeypatch, to="10.0.0.5", back=False)
    times = iter([10.0, 12.0])
    (found,) = naming.reverse("10.0.0.7", of="node 1", clock=lambda: next(times))
    assert found.text.startswith("the name of node 1's address 10.0.0.7 took 2.0 s")
