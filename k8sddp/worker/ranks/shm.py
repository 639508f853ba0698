"""Shared memory that ended ranks left behind: removed between attempts, because nobody else would.

A rank that is killed unlinks nothing, so a gang that restarts would fill the memory that its ranks need. In a pod the
folder in K8SDDP_SHM_DIR is the pod's own /dev/shm: everything of ours that was not there when the worker started goes,
a data set that a script has copied there included, because an attempt that was killed may have written half of it.
In `run --local` the ranks use the machine's /dev/shm, which belongs to everybody: there only that goes which carries in
its name the pid of a process of this pod that has ended. A rank's helper that ended before its attempt is known to
nobody but torch's own cleaner, which is left alone there (process_tree.CLEANER). What has no pid in its name (NCCL's
and Python's own segments) stays.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Collection
from typing import NamedTuple, Optional

MACHINE = "/dev/shm"  # where shm_open(3) and sem_open(3) work, in a pod and anywhere
LIMIT = 2.0  # seconds for one sweep; what is left then goes with the next one

# Names with the pid of their maker: pattern, base of the number
_NAMES = (
    (re.compile(r"torch_(\d+)_\d+_\d+"), 10),  # torch/csrc/StorageSharing, sharing strategy file_system
    (re.compile(r"__KMP_REGISTERED_LIB_(\d+)(?:_\d+)?"), 10),  # LLVM's and Intel's OpenMP: kmp_runtime.cpp
    (re.compile(r"cuda\.shm\.[0-9a-f]+\.([0-9a-f]+)\.[0-9a-f]+"), 16),  # the CUDA driver
    (re.compile(r"joblib_memmapping_folder_(\d+)_.+"), 10),  # joblib/_memmapping_reducer.py
    (re.compile(r"sem\.loky-(\d+)-.+"), 10),  # joblib/externals/loky/backend/synchronize.py
)


class Sweep(NamedTuple):
    """What a sweep did: the paths removed, and those that could not be."""

    removed: tuple[str, ...] = ()
    left: tuple[str, ...] = ()


class SharedMemory:
    """The shared memory that the ranks of this pod can leave something in."""

    def __init__(self, folder: str, *, machine: str = MACHINE, now: Callable[[], float] = time.monotonic) -> None:
        self._folder = folder
        self._machine = machine
        self._now = now
        self._before = {(entry.name, entry.inode()) for entry in _entries(folder)}
        self.shared = not _same(folder, machine)  # with all that runs on this machine

    def sweep(self, ended: Collection[int]) -> Sweep:
        """Remove what the processes `ended` left; to be called when no rank of this pod lives."""
        deadline = self._now() + LIMIT
        found = [entry for entry in _entries(self._folder) if (entry.name, entry.inode()) not in self._before]
        if self.shared:
            pids = {pid for pid in ended if not os.path.exists("/proc/%d" % pid)}
            found += [entry for entry in _entries(self._machine) if maker(entry.name) in pids]
        removed: list[str] = []
        left: list[str] = []
        for entry in found:
            try:
                if entry.stat(follow_symlinks=False).st_uid == os.geteuid():
                    _remove(entry, lambda: self._now() >= deadline)
                    removed.append(entry.path)
            except FileNotFoundError:
                continue  # somebody else was quicker
            except (OSError, RecursionError):
                left.append(entry.path)
        return Sweep(tuple(removed), tuple(left))


def maker(name: str) -> Optional[int]:
    """Return the pid of the process that made the segment `name`, None where the name does not tell."""
    for pattern, base in _NAMES:
        found = pattern.fullmatch(name)
        if found:
            return int(found[1], base)
    return None


def _remove(entry: os.DirEntry[str], late: Callable[[], bool]) -> None:
    if not entry.is_dir(follow_symlinks=False):
        _unlink(entry.path, late)
        return
    for folder, folders, files in os.walk(entry.path, topdown=False):
        for name in files:
            _unlink(os.path.join(folder, name), late)
        for name in folders:
            path = os.path.join(folder, name)
            if os.path.islink(path):
                _unlink(path, late)
        os.rmdir(folder)


def _unlink(path: str, late: Callable[[], bool]) -> None:
    if late():
        raise TimeoutError("no time left for %s" % path)
    os.unlink(path)


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder or os.devnull) as entries:
            return list(entries)
    except OSError:
        return []


def _same(one: str, other: str) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False
