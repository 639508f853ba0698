"""Loopback addresses of a run: 127.0.BLOCK.(2 + index), in a block that no other run has and whose ports are free.

A block is held by an abstract Unix socket for as long as the run lasts: the kernel drops it with its process. Two runs
of one port side by side so get blocks of their own. MASTER_PORT is another matter, because torch listens on every
address: the workers pass over ports that are taken or promised (worker/net/master_ports.py). A port that is taken
between the look at it and the worker's own bind is the worker's to report.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from k8sddp import errors

FIRST: Final = 2  # in a block; 127.0.0.1 is what everything else on the machine listens on
MAX_PODS: Final = 253  # 127.0.0.2 to 127.0.0.254
BLOCKS: Final = 256


class Port(NamedTuple):
    """A port that the pod of an index will listen on, and what for."""

    pod: int
    port: int
    purpose: str


def of_pod(index: int, *, block: int = 0) -> str:
    """Return the address of a pod."""
    return f"127.0.{block}.{FIRST + index}"


@contextlib.contextmanager
def block(ports: Sequence[Port]) -> Iterator[int]:
    """Give the first block that is nobody's and in which `ports` are free, and hold it.

    Raises LocalError naming the port of the first block that cannot be used where there is no such block.
    """
    problem = ""
    for number in range(BLOCKS):
        held = _hold(number)
        if held is None:
            continue
        with held:
            taken = _first_taken(ports, number)
            if not taken:
                yield number
                return
            problem = problem or taken
    raise errors.LocalError(problem or f"{BLOCKS} local runs hold all loopback addresses; wait for one, or end one")


def _hold(number: int) -> socket.socket | None:
    lock = socket.socket(socket.AF_UNIX)
    try:
        lock.bind(f"\0k8sddp-addresses-{number}")
    except OSError:
        lock.close()
        return None
    return lock


def _first_taken(ports: Sequence[Port], number: int) -> str:
    for one in ports:
        address = of_pod(one.pod, block=number)
        reason = _taken(address, one.port)
        if reason:
            return (
                f"port {one.port} on {address} ({one.purpose}) cannot be used: {reason}; end the program that "
                "holds it (ss -ltnp shows it) or choose another rendezvous.port"
            )
    return ""


def _taken(address: str, port: int) -> str:
    """Return why the port cannot be bound, the empty string where it can."""
    if port > 65535:
        return "there is no such port"
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # as a server does: what is left of closed connections (TIME_WAIT) is no obstacle, a listener is
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            return "it is in use" if error.errno == errno.EADDRINUSE else str(error.strerror)
    return ""
