"""Shared memory after the ranks: what a killed process left goes, what anybody else has in the same folder stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from k8sddp.worker.ranks import shm

SEGMENT = (
    "import os, sys\n"
    "path = os.path.join(sys.argv[1], 'torch_%d_1_0' % os.getpid())\n"
    "open(path, 'w').close()\n"
    "print('made', flush=True)\n"
    "sys.stdin.read()\n"
)


def make_rank(folder: Path) -> subprocess.Popen[str]:
    """Start a process that makes a segment with its pid in the name, and wait for that."""
    rank = subprocess.Popen(
        [sys.executable, "-c", SEGMENT, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert rank.stdout is not None
    assert "made\n" == rank.stdout.readline()
    return rank


def kill(rank: subprocess.Popen[str]) -> int:
    rank.send_signal(signal.SIGKILL)
    rank.communicate()
    return rank.pid


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_pods_own_folder_is_as_it_was_at_the_start(tmp_path: Path) -> None:
    """Files, folders and links that ranks left go, whatever their names; what was there before stays."""
    (tmp_path / "before").write_text("here first")
    (tmp_path / "elsewhere").mkdir()
    memory = shm.SharedMemory(str(tmp_path), machine=str(tmp_path))
    (tmp_path / "nccl-Ab12Cd").write_text("x")
    (tmp_path / "data" / "deep").mkdir(parents=True)
    (tmp_path / "data" / "deep" / "batch").write_text("x")
    (tmp_path / "data" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "link").symlink_to(tmp_path / "before")
    kill(make_rank(tmp_path))
    assert 4 == len(memory.sweep(()).removed)
    assert ["before", "elsewhere"] == names(tmp_path)


def test_a_file_that_took_the_place_of_an_older_one_goes(tmp_path: Path) -> None:
    """It is the file that was there before, not its name, that is kept."""
    (tmp_path / "before").write_text("here first")
    memory = shm.SharedMemory(str(tmp_path), machine=str(tmp_path))
    (tmp_path / "new").write_text("x")
    (tmp_path / "new").replace(tmp_path / "before")
    memory.sweep(())
    assert [] == names(tmp_path)


def test_on_a_shared_machine_only_our_ended_processes_lose_theirs(tmp_path: Path) -> None:
    """Of two killed and one living process the one that was ours and is dead is cleared away, and no other file."""
    machine = tmp_path / "machine"
    machine.mkdir()
    memory = shm.SharedMemory(str(tmp_path / "pod"), machine=str(machine))
    ours, stranger, alive = (make_rank(machine) for _ in range(3))
    (machine / "psm_0123abcd").write_text("somebody's")
    pids = [kill(ours), alive.pid]
    swept = memory.sweep(pids)
    kill(stranger)
    try:
        assert (str(machine / f"torch_{ours.pid}_1_0"),) == swept.removed
        expected = ["psm_0123abcd", f"torch_{stranger.pid}_1_0", f"torch_{alive.pid}_1_0"]
        assert sorted(expected) == names(machine)
    finally:
        kill(alive)


def test_a_local_pods_own_folder_is_cleared_too(tmp_path: Path) -> None:
    """Beside the machine's: scripts may use the folder that K8SDDP_SHM_DIR names."""
    (tmp_path / "pod").mkdir()
    memory = shm.SharedMemory(str(tmp_path / "pod"), machine=str(tmp_path))
    (tmp_path / "pod" / "cache").write_text("x")
    memory.sweep(())
    assert [] == names(tmp_path / "pod")


@pytest.mark.parametrize(
    ("name", "pid"),
    [
        ("torch_4711_2903984578_0", 4711),
        ("__KMP_REGISTERED_LIB_4711_65532", 4711),
        ("cuda.shm.0.1267.1", 4711),
        ("joblib_memmapping_folder_4711_a1_b2", 4711),
        ("sem.loky-4711-x1", 4711),
        ("psm_4711abcd", None),
        ("nccl-4711ab", None),
        ("sem.mp-4711abcd", None),
        ("my_torch_4711_1_0", None),
    ],
)
def test_the_name_tells_the_maker(name: str, pid: int | None) -> None:
    """Only where a library documents it by its code; a random name says nothing."""
    assert pid == shm.maker(name)


def test_a_sweep_is_bounded(tmp_path: Path) -> None:
    """Out of time, it names what it left, and the next sweep removes that."""
    clock = iter([0.0, 0.0, shm.LIMIT, 10.0, 10.0])
    memory = shm.SharedMemory(str(tmp_path), machine=str(tmp_path), now=lambda: next(clock))
    for name in "ab":
        (tmp_path / name).write_text("x")
    first = memory.sweep(())
    assert (1, 1) == (len(first.removed), len(first.left))
    assert first.left == memory.sweep(()).removed


def test_a_folder_that_is_not_there_is_no_problem() -> None:
    """Neither an unset variable nor a machine without /dev/shm."""
    assert shm.Sweep() == shm.SharedMemory("", machine="/nowhere").sweep((1, os.getpid()))
