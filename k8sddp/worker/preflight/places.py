"""Can be written where the ranks will write, and is there room: folders, volumes, shared memory.

A file without a name (O_TMPFILE) proves it and leaves nothing, whatever happens; where the file system has none (NFS,
some FUSE), one with this pod's name is made and removed. Any of this may hang on a dead NFS server: who calls it bounds
it.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator

from k8sddp.worker.contract.finding import PROBLEM, WARNING, Finding

MIB = 1024 * 1024
SHM_PER_RANK = 64 * MIB  # what Docker gives a whole container, and what one rank's DataLoader workers use up
MIN_FREE = 1024 * MIB  # of a volume that is not small itself: hardly a checkpoint
# A kubelet evicts pods when less than this part of its disk is free (evictionHard's default for nodefs.available,
# https://kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction)
MIN_SHARE = 0.10

_NO_NAMELESS = (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL)  # open(2), O_TMPFILE


def folder(path: str, *, what: str, own: bool, node_disk: bool, pod: str) -> Iterator[Finding]:
    """Find a folder that cannot be written, or is nearly full.

    `own` is one of ours, without which nothing works; a volume may be there only to be read. `node_disk` asks for the
    kubelet's rule about the disk of its Kubernetes Node.
    """
    try:
        _write(path, ".k8sddp-preflight-%s" % pod)
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        if own:
            remedy = "it must be writable for the user of the pod (spec.securityContext)"
        else:
            remedy = "give the pod's user (spec.securityContext) the right to, or say readOnly: true"
        level = PROBLEM if own and error.errno != errno.ENOSPC else WARNING
        yield Finding(what, level, "%s cannot be written (%s): %s" % (path, why, remedy))
        return
    with contextlib.suppress(OSError):
        yield from _room(path, what=what, node_disk=node_disk)


def shared_memory(path: str, *, nproc_per_node: int) -> Iterator[Finding]:
    """Find a /dev/shm in which DataLoader workers and NCCL would run out of space."""
    if not path:
        return
    try:
        found = os.statvfs(path)
    except OSError:
        return  # without one, nothing is kept there
    size, wanted = found.f_blocks * found.f_frsize, SHM_PER_RANK * nproc_per_node
    if 0 < size < wanted:
        text = "%s has %d MiB for %d rank%s, and DataLoader workers die of a bus error when it is full: set "
        text += "resources.sharedMemory to %d MiB or more"
        plural = "" if nproc_per_node == 1 else "s"
        numbers = (path, size // MIB, nproc_per_node, plural, wanted // MIB)
        yield Finding("shared memory", WARNING, text % numbers)


def _write(path: str, name: str) -> None:
    try:
        os.close(os.open(path, os.O_TMPFILE | os.O_WRONLY, 0o600))
    except OSError as error:
        if error.errno not in _NO_NAMELESS:
            raise
        named = os.path.join(path, name)
        os.close(os.open(named, os.O_CREAT | os.O_WRONLY, 0o600))
        os.unlink(named)


def _room(path: str, *, what: str, node_disk: bool) -> Iterator[Finding]:
    found = os.statvfs(path)
    if not found.f_blocks:
        return  # a file system that does not count
    free, size = found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
    if node_disk and free < MIN_SHARE * size:
        text = "the Kubernetes Node's disk at %s has %.0f %% free (%d MiB), and pods are evicted below %.0f %%: make "
        text += "room there, or write to a volume"
        yield Finding(what, WARNING, text % (path, 100 * free / size, free // MIB, 100 * MIN_SHARE))
    elif free < min(MIN_FREE, MIN_SHARE * size):
        yield Finding(what, WARNING, "%s has %d MiB free: make room, or use another volume" % (path, free // MIB))
