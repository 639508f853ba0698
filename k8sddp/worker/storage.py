"""Whether this pod holds more on its volumes than it may: then Kubernetes evicts it, for its own fault.

The kubelet asks such a pod to stop as it would ask one that it drains, with a second of grace and without a word why,
and sets no condition on it. So the worker looks for itself when it is asked to stop: an emptyDir with a sizeLimit that
holds more, or all of them and the log more than a LimitRange allows, makes a failure, which counts and is named. What
the worker cannot see (files that have gone since) it leaves to the kubelet: a pod that has written anything lingers
until that second is over, and is killed, which the Job counts too; a drained pod has time enough.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, Optional

WALK_LIMIT = 0.3  # seconds of the one that there are
LINGER = 2.0  # seconds from SIGTERM on: immediateEvictionGracePeriodSeconds is 1 (pkg/kubelet/eviction)
SAVING = 0.5  # seconds of it for the ranks of a pod that is evicted for its own fault
NOTHING = 1024 * 1024  # bytes on disk that nobody is evicted for
BLOCK = 512  # bytes of st_blocks, whatever the file system's own are (stat(2))


class Volume(NamedTuple):
    """An emptyDir on the Kubernetes Node's disk, where it is, and its sizeLimit in bytes, 0 where it has none."""

    name: str
    path: str
    limit: int


class Leave(NamedTuple):
    """How a pod that was asked to stop leaves: with a fault of its own, if `why` says one; not before `linger` s."""

    why: str
    linger: float


def look(volumes: Sequence[tuple[str, str, int]], written: int, *, grace: float, limit: int = 0) -> Leave:
    """Return how to leave a pod with these volumes that has `written` so many bytes of log; `limit` is for all."""
    known = [Volume(*one) for one in volumes]
    over = full(known)
    if over:
        return Leave(sentence(over), 0.0)
    deadline, sizes = time.monotonic() + WALK_LIMIT, [written]
    for volume in known:
        enough = limit - sum(sizes) if limit else NOTHING
        sizes.append(held(volume.path, enough=enough, late=lambda: time.monotonic() >= deadline))
    if limit and sum(sizes) > limit:
        return Leave(
            "the pod holds more than the %s of ephemeral storage that a LimitRange allows it, so Kubernetes evicts it: "
            "raise that, or use a claim" % size(limit),
            0.0,
        )
    return Leave("", min(LINGER, grace / 2) if max(sizes) > NOTHING else 0.0)


def full(volumes: Iterable[Volume], *, now: Callable[[], float] = time.monotonic) -> Optional[Volume]:
    """Return the first volume over its limit, None where there is none or it was not found in time."""
    deadline = now() + WALK_LIMIT
    for volume in volumes:
        if volume.limit and held(volume.path, enough=volume.limit, late=lambda: now() >= deadline) > volume.limit:
            return volume
    return None


def sentence(volume: Volume) -> str:
    """Return why the pod is evicted and what helps."""
    return (
        "volume %s (%s) holds more than its sizeLimit of %s, so Kubernetes evicts the pod: raise it, or use a claim"
        % (volume.name, volume.path, size(volume.limit))
    )


def size(count: int) -> str:
    """Return bytes as people write them: `64 MiB`, `1.5 GiB`."""
    value, unit = float(count), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 1024 or unit == "TiB":
            break
        value /= 1024
    return "%s %s" % (("%.1f" % value).rstrip("0").rstrip("."), unit)


def held(folder: str, *, enough: int, late: Callable[[], bool]) -> int:
    """Return the bytes on disk of all files below `folder`; stop when it is more than `enough`, or `late`."""
    used, todo = 0, [folder]
    seen: set[tuple[int, int]] = set()  # files with several names
    while todo:
        for entry in _entries(todo.pop()):
            if used > enough or late():
                return used
            try:
                status = entry.stat(follow_symlinks=False)
            except OSError:
                continue  # it has gone
            key = (status.st_dev, status.st_ino)
            if stat.S_ISDIR(status.st_mode):
                todo.append(entry.path)
            elif status.st_nlink > 1 and key in seen:
                continue
            elif status.st_nlink > 1:
                seen.add(key)
            used += status.st_blocks * BLOCK
    return used


def _entries(folder: str) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            yield from entries
    except OSError:
        return  # it has gone, or cannot be read
