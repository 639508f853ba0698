"""Ports for tests: nobody listened on them when they were looked for. No test has a port of its own."""

from __future__ import annotations

import random
import socket

# What a job takes beside its rendezvous.port: HTTP, and MASTER_PORT of its first attempts
_OF_A_JOB = (0, 1, 10, 11, 12)


def free() -> int:
    """Return a port that is free on every address."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


def free_for_a_job() -> int:
    """Return a rendezvous.port such that a job's other ports are free too.

    By chance, so that two runs side by side hardly ever choose the same, and below the ports that Linux gives to
    outgoing connections.
    """
    while True:
        base = random.randrange(20000, 32000, 20)
        try:
            for offset in _OF_A_JOB:
                socket.create_server(("", base + offset)).close()
        except OSError:
            continue
        return base
