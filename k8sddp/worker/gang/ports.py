"""A fresh MASTER_PORT for every attempt: the fence between them. Pure.

A rank of an earlier attempt may live on, on a Kubernetes Node that is lost to everybody but the network. It dials the
port that it was given, so no attempt may be given a port that an earlier one had. A coordinator counts its own; its
successors, which may know nothing of it, begin PORTS_PER_LIFE further on for each pod that node 0 has had.
"""

from __future__ import annotations

from collections.abc import Callable

PORTS_PER_LIFE = 256
PORTS = 3200  # of a job, then from the first again; from the default port on this stays below the ephemeral ones


class Ports:
    """The ports of one coordinator; `lives` is how many pods node 0 has had before."""

    def __init__(self, first: int, *, lives: int, usable: Callable[[int], bool]) -> None:
        self._first = first
        self._next = lives * PORTS_PER_LIFE
        self._usable = usable

    def next(self) -> int:
        """Return the next port that is usable, the last one looked at where none is: torch will say so."""
        port = self._first
        for _ in range(PORTS_PER_LIFE):
            port = self._first + self._next % min(PORTS, 65536 - self._first)
            self._next += 1
            if self._usable(port):
                break
        return port
