"""How far each rank has come, read from the page that it shares with us (instrument/k8sddp_page.py writes it).

The rank writes whenever it likes and nobody waits: a page read in the middle of a step may show the new time with the
old count, which is right a moment later. Before a rank begins to count all is None; from then on no step is 0.
"""

from __future__ import annotations

import errno
import os
import struct

from k8sddp.worker.gang import progress
from k8sddp.worker.instrument import k8sddp_words as words

_LAYOUT = struct.Struct("=%dQ" % words.WORDS)


def create(path: str) -> int:
    """Make an empty page that is on the disk already, so that no full disk can kill a rank; return its descriptor.

    A sparse file gets its blocks when it is first written to, and the rank that does so through its mapping would be
    killed by SIGBUS where there are none left. Raises OSError, and leaves no file behind, where it cannot be had.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        _allocate(fd)
    except OSError:
        os.close(fd)
        os.unlink(path)
        raise
    return fd


def _allocate(fd: int) -> None:
    try:
        os.posix_fallocate(fd, 0, words.SIZE)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
            raise
        os.pwrite(fd, bytes(words.SIZE), 0)  # a file system or C library that cannot do it otherwise


def read(fd: int, rank: int, *, now: float) -> progress.Rank:
    """Return what the page says at `now` (CLOCK_MONOTONIC, seconds); a page that cannot be read says nothing."""
    try:
        page = _LAYOUT.unpack(os.pread(fd, words.SIZE, 0))
    except (OSError, struct.error):
        return progress.Rank(rank)
    if not page[words.PID] or page[words.LAYOUT] != words.VERSION:
        return progress.Rank(rank)
    since = page[words.SINCE]
    return progress.Rank(
        rank,
        pid=page[words.PID],
        step=page[words.STEP],
        forward_entered=page[words.FORWARD_ENTERED],
        forward_left=page[words.FORWARD_LEFT],
        age=max(0.0, now - page[words.LAST_STEP] / 1e9),
        step_time=page[words.STEP_TIME] / 1e9,
        group=page[words.GROUP],
        backward_entered=page[words.BACKWARD_ENTERED],
        backward_left=page[words.BACKWARD_LEFT],
        collective=_call(page[words.COLLECTIVE]),
        collectives=page[words.COLLECTIVES],
        waiting=max(0.0, now - since / 1e9) if since else None,
        batches_asked=page[words.BATCHES_ASKED],
        batches_got=page[words.BATCHES_GOT],
        own_time=page[words.OWN_TIME] / 1e9,
        own_steps=page[words.OWN_STEPS],
    )


def _call(number: int) -> str:
    """Return the name of what a rank is inside, empty where it is outside."""
    return words.CALLS[number] if number < len(words.CALLS) else "collective"
