"""A fresh MASTER_PORT for every attempt: the fence between them. Pure.

A rank of an earlier attempt may live on, on a Kubernetes Node that is lost to everybody but the network. It dials the
port that it was given, so no attempt may be given a port that an earlier one had. The attempt's number tells them
apart, and because nobody may remember it, each pod that node 0 has had moves the ports on by PORTS_PER_POD.
"""

from __future__ import annotations

from collections.abc import Callable

PORTS_PER_POD = 256
PORTS = 3200  # of a job, then from the first again; from the default port on this stays below the ephemeral ones


class Ports:
    """The ports of one coordinator; `earlier_pods` is how many pods node 0 has had before."""

    def __init__(self, first: int, *, earlier_pods: int, usable: Callable[[int], bool]) -> None:
        self._first = first
        self._base = earlier_pods * PORTS_PER_POD
        self._next = 0
        self._usable = usable

    def next(self, attempt: int) -> int:
        """Return the next port that is usable, the last one looked at where none is: torch will say so."""
        port = self._first
        self._next = max(self._next, self._base + attempt)
        for _ in range(PORTS_PER_POD):
            port = self._first + self._next % min(PORTS, 65536 - self._first)
            self._next += 1
            if self._usable(port):
                break
        return port
