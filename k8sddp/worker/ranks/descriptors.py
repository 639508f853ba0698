"""The soft limit of open files: the worker takes all that it may have, its ranks get what it was started with.

Node 0 holds a connection for each node of the gang, and a container's soft limit is often 1,024. A rank must not see
the raised one: with a million, libraries that use select(2) or close every descriptor up to the limit go wrong or slow.
posix_spawn cannot set limits, and prlimit(2) on the child would come too late for what it starts at once. So the worker
lowers its own limit for the moment of the start: descriptors above it stay open, and nothing else runs meanwhile but
perhaps a look-up of a name, which is made again.
"""

from __future__ import annotations

import os
import resource
from typing import NamedTuple, Optional


class _Given(NamedTuple):
    """The soft limit that the worker was started with, and two descriptors below it, both of /dev/null."""

    soft: int
    null: int
    low: int


_given: list[_Given] = []  # once the limit has been raised


def raise_limit() -> None:
    """Raise this process's soft limit to the hard one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if _given or soft == hard:
        return
    try:
        null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        low = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return
    if _set(hard):
        _given.append(_Given(soft, null, low))


class GivenBack:
    """While it is entered the limit is as it was before `raise_limit`; gives a descriptor below it for `fd`."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def __enter__(self) -> int:
        if not _given:
            return self._fd
        (given,) = _given
        os.dup2(self._fd, given.low, inheritable=False)  # glibc refuses to hand on what lies above the limit
        _set(given.soft)
        return given.low

    def __exit__(self, *_: object) -> None:
        if _given:
            _set(None)
            os.dup2(_given[0].null, _given[0].low, inheritable=False)  # a pipe held open would never end


def _set(soft: Optional[int]) -> bool:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard if soft is None else soft, hard))
    except (OSError, ValueError):  # a sandbox that forbids it
        return False
    return True
