"""What a pod's script leaves behind in its working folder and its /tmp, which on a cluster would end with the pod.

The working folder lies among the user's files from the start, so nothing is copied there: what travelled and is
unchanged goes, with caches and empty folders, and what is left is the script's. From the pod's /tmp its regular files
are moved beside it, without what libraries keep there for themselves. Called when every process of the pod has ended.
"""

from __future__ import annotations

import contextlib
import fnmatch
import io
import os
import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from k8sddp.local import pods
from k8sddp.worker.contract import node_env

MAX_COPIED: Final = 1 << 30  # bytes from /tmp where that is another file system; on the same one nothing is copied
MAX_NAMES: Final = 10_000  # entries that are looked at, of each folder
SHOWN: Final = 3
_CACHES: Final = ("__pycache__", "*.pyc")
# what libraries make in /tmp for themselves, and leave there when they are killed
_TEMPORARY: Final = (
    *_CACHES,
    "k8sddp-*",  # ours: the pipes of the ranks, marks of faults
    "pymp-*",  # multiprocessing
    "torch-shm-dir-*",  # torch.multiprocessing
    "torchelastic_*",  # torchrun's logs
    "torchinductor_*",  # torch.compile's cache
    "tmp????????",  # tempfile
    "tmp????????.*",
    ".*",
)


@dataclass(frozen=True)
class Leftovers:
    """The files that a pod left in one folder: `names` are the first ones, `lost` says why some are not there."""

    folder: Path
    names: tuple[str, ...]
    count: int
    size: int
    lost: str = ""

    def __str__(self) -> str:
        more = f" and {self.count - len(self.names)} more" if self.count > len(self.names) else ""
        return f"{_shown(self.folder)}: {', '.join(self.names)}{more} ({_bytes(self.size)}){self.lost}"


def code_of(pod: pods.LocalPod) -> Mapping[str, int]:
    """Return the checksums of the files that travelled with the job, by name; empty without code."""
    path = Path(pod.env.get(node_env.CODE_ZIP) or "")
    for mount in pod.mounts:
        if path in mount.files:
            with zipfile.ZipFile(io.BytesIO(mount.files[path])) as archive:
                return {member.filename: member.CRC for member in archive.infolist() if not member.is_dir()}
    return {}


def of_pod(pod: pods.LocalPod, code: Mapping[str, int]) -> tuple[Leftovers, ...]:
    """Take away what is no work of the script's, and return what is."""
    found = []
    if code and pod.folders.work.is_dir():
        found.append(_of_work(pod.folders.work, code))
    if pod.folders.temporary.is_dir():
        found.append(_of_temporary(pod.folders.temporary, pod.folders.work.with_name(f"{pod.name}.tmp")))
    return tuple(one for one in found if one.count or one.lost)


def _of_work(folder: Path, code: Mapping[str, int]) -> Leftovers:
    kept = []
    for path in _files(folder, skipped=_CACHES):
        name = path.relative_to(folder).as_posix()
        if name in code and _checksum(path) == code[name]:
            path.unlink(missing_ok=True)
        else:
            kept.append(path)
    for cache in folder.rglob("__pycache__"):
        shutil.rmtree(cache, ignore_errors=True)
    _prune(folder)
    return _listed(folder, folder, kept)


def _of_temporary(folder: Path, target: Path) -> Leftovers:
    """Move the files of a pod's /tmp to `target`, a copy only where it must be."""
    found = [path for path in _files(folder, skipped=_TEMPORARY) if _is_file(path)]
    if not found:
        return _listed(target, folder, ())
    same, room = _same_system(folder, target), MAX_COPIED
    kept, lost = [], []
    for path in found:
        size = path.lstat().st_size
        if not same and size > room:
            lost.append(path)
            continue
        room -= size
        moved = target / path.relative_to(folder)
        try:
            moved.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(path, moved)
            kept.append(moved)
        except OSError:
            lost.append(path)
    listed = _listed(target, target, kept)
    if not lost:
        return listed
    names = ", ".join(path.name for path in lost[:SHOWN])
    why = f"; not kept, {_bytes(MAX_COPIED)} at most are copied from /tmp: {names}"
    return Leftovers(target, listed.names, listed.count, listed.size, why)


def _files(folder: Path, *, skipped: Sequence[str]) -> Iterator[Path]:
    """Yield what is no folder below `folder`, links not followed; `skipped` are patterns of names."""
    looked_at = 0
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not _matches(name, skipped))
        for name in sorted(names):
            looked_at += 1
            if looked_at > MAX_NAMES:
                return
            if not _matches(name, skipped):
                yield Path(root, name)


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _is_file(path: Path) -> bool:
    with contextlib.suppress(OSError):
        return stat.S_ISREG(path.lstat().st_mode)
    return False


def _checksum(path: Path) -> int:
    total = 0
    with contextlib.suppress(OSError):
        if not _is_file(path):
            return -1
        with path.open("rb") as file:
            while data := file.read(1 << 20):
                total = zlib.crc32(data, total)
        return total
    return -1


def _prune(folder: Path) -> None:
    """Remove folders in which nothing is left, `folder` itself too."""
    for root, _, _ in os.walk(folder, topdown=False):
        with contextlib.suppress(OSError):
            os.rmdir(root)  # noqa: PTH106  it is a string


def _same_system(folder: Path, target: Path) -> bool:
    """Return whether a file can be moved from one to the other without being copied."""
    existing = next(one for one in (target, *target.parents) if one.exists())
    return folder.stat().st_dev == existing.stat().st_dev


def _listed(folder: Path, root: Path, paths: Sequence[Path]) -> Leftovers:
    sizes = [path.lstat().st_size for path in paths]
    names = tuple(path.relative_to(root).as_posix() for path in paths[:SHOWN])
    return Leftovers(folder, names, len(paths), sum(sizes))


def _shown(folder: Path) -> str:
    """Return a path as the user would write it."""
    here = Path.cwd()
    return str(folder.relative_to(here)) if folder.is_relative_to(here) else str(folder)


def _bytes(size: float) -> str:
    if size < 1024:
        return "1 byte" if size == 1 else f"{size:.0f} bytes"
    for unit in ("KiB", "MiB", "GiB"):
        size /= 1024
        if size < 1024 or unit == "GiB":
            break
    return f"{size:.1f} {unit}"
