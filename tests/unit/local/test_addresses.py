"""Each run has a block of loopback addresses to itself, in which its ports are free."""

from __future__ import annotations

import socket

import pytest

from k8sddp import errors
from k8sddp.local import addresses


def listener(address: str) -> socket.socket:
    """Return a socket that listens on a free port of `address`."""
    server = socket.socket()
    server.bind((address, 0))
    server.listen()
    return server


def ports(number: int) -> list[addresses.Port]:
    """Return what two pods listen on."""
    return [
        addresses.Port(index, number + offset, what) for index in (0, 1) for offset, what in ((0, "gang"), (1, "HTTP"))
    ]


def test_two_runs_of_one_port_have_blocks_of_their_own() -> None:
    """Also before either of them listens, and a block is free again after its run."""
    with listener("127.0.0.1") as server:
        free = server.getsockname()[1]
        with addresses.block(ports(free)) as first, addresses.block(ports(free)) as second:
            assert first != second
        with addresses.block(ports(free)) as third:
            assert first == third


def test_a_block_with_a_listener_of_anyone_is_passed_over() -> None:
    """A program that is no run of ours holds one of the ports there."""
    with addresses.block([]) as own, listener(addresses.of_pod(1, block=own + 1)) as server:
        taken = server.getsockname()[1]
        with addresses.block(ports(taken - 1)) as block:
            assert block > own + 1


def test_a_listener_on_every_address_is_refused() -> None:
    """The refusal names port, address, purpose and the field to change."""
    with listener("0.0.0.0") as server:
        taken = server.getsockname()[1]
        words = rf"port {taken} on 127.0.\d+.2 \(gang\) cannot be used: it is in use; .*rendezvous.port"
        with pytest.raises(errors.LocalError, match=words), addresses.block(ports(taken)):
            pass


def test_a_port_beyond_the_last_is_refused() -> None:
    """HTTP is one above the gang's port and must exist."""
    with pytest.raises(errors.LocalError, match=r"port 65536 .*there is no such port"), addresses.block(ports(65535)):
        pass


def test_addresses_are_loopback_ones() -> None:
    """127.0.0.1 is nobody's, and the first run's are the ones that the README shows."""
    assert ["127.0.0.2", "127.0.7.254"] == [
        addresses.of_pod(0),
        addresses.of_pod(addresses.MAX_PODS - 1, block=7),
    ]
