"""MASTER_PORT is free on every address, and no other gang of this machine was promised it."""

from __future__ import annotations

import socket

from k8sddp.worker.net import master_ports
from tests import ports


def test_a_port_is_promised_to_one_gang() -> None:
    """Nobody listens on it yet: torch does so seconds later."""
    port, gang, other = ports.free(), master_ports.MasterPorts(), master_ports.MasterPorts()
    assert gang.usable(port)
    assert not other.usable(port)


def test_the_next_port_frees_the_last() -> None:
    """Of a thousand attempts one port is held."""
    first, second = ports.free(), ports.free()
    gang, other = master_ports.MasterPorts(), master_ports.MasterPorts()
    assert gang.usable(first)
    assert gang.usable(second)
    assert other.usable(first)


def test_a_port_that_is_listened_on_anywhere_is_not_usable() -> None:
    """torch's store listens on every address."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        assert not master_ports.MasterPorts().usable(server.getsockname()[1])
