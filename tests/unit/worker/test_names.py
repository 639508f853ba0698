"""Where node 0 is: one spelling, from the pod's own resolv.conf."""

from __future__ import annotations

import pytest

from k8sddp.worker.net import loop, names
from tests.unit.worker import workers

CLUSTER = "nameserver 10.96.0.10\nsearch team-a.svc.corp.example svc.corp.example corp.example\noptions ndots:2\n"


@pytest.mark.parametrize(
    ("host", "resolv_conf", "expected"),
    [
        pytest.param("digits-0.digits", CLUSTER, "digits-0.digits.team-a.svc.corp.example", id="own domain"),
        pytest.param("digits-0.digits", "", "digits-0.digits.team-a.svc.cluster.local", id="no resolv.conf"),
        pytest.param(
            "digits-0.digits", "search other.svc.x\n", "digits-0.digits.team-a.svc.cluster.local", id="foreign"
        ),
        pytest.param("Digits-0.Digits.", "search team-a.svc.X.\n", "digits-0.digits.team-a.svc.x", id="dots and case"),
        pytest.param("127.0.0.2", CLUSTER, "127.0.0.2", id="IPv4"),
        pytest.param("fd00::2", CLUSTER, "fd00::2", id="IPv6"),
    ],
)
def test_the_name_is_completed_once_and_for_all(host: str, resolv_conf: str, expected: str) -> None:
    """Fully qualified, lower case, no final dot; an address stays."""
    assert expected == names.qualify(host, "team-a", resolv_conf)


@pytest.mark.parametrize(
    ("pod_ip", "expected"),
    [
        pytest.param("10.244.0.7", "10.244.0.7", id="IPv4"),
        pytest.param("fd00::7", "digits-0.digits.team-a.svc", id="IPv6"),
        pytest.param("", "digits-0.digits.team-a.svc", id="no address"),
    ],
)
def test_ranks_get_the_address_of_node_0_where_a_url_can_hold_it(pod_ip: str, expected: str) -> None:
    """MASTER_ADDR is an IPv4 address, which no other pod can have at the same time, or else the name."""
    assert expected == names.master_addr("digits-0.digits.team-a.svc", pod_ip)


@pytest.mark.parametrize(
    ("host", "found"),
    [pytest.param("127.0.0.3", True, id="address"), pytest.param("no.such.invalid", False, id="unknown")],
)
def test_resolving_does_not_block_the_loop(host: str, found: bool) -> None:
    """The answer comes as a callback: addresses, or the problem in words."""
    events = loop.Loop()
    answers: list[tuple[names.Addresses, str]] = []

    def done(addresses: names.Addresses, problem: str) -> None:
        answers.append((addresses, problem))
        events.stop(0)

    names.resolve(events, host, 80, done)
    if not answers:
        events.run()
    addresses, problem = answers[0]
    assert (found, "" if found else "no.such.invalid does not resolve") == (bool(addresses), problem.partition(" (")[0])


def test_what_a_worker_does_not_need_is_not_in_its_memory() -> None:
    """Importing all of it and looking a name up leaves out what would be 2 of its 19 MB in every pod."""
    script = """
import sys
heavy = {"ctypes", "encodings.idna", "shutil", "traceback", "unicodedata", "zipfile"} - set(sys.modules)
from k8sddp.worker import main
from k8sddp.worker.net import loop, names
events = loop.Loop()
names.resolve(events, "localhost", 80, lambda *_: events.stop(0))
events.run()
print(sorted(heavy & set(sys.modules)))
"""
    assert "[]\n" == workers.output_of(script)
