"""A visit to a peer's probe port: reached, refused or silent, who answers, and how far its clock is off."""

from __future__ import annotations

import errno
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from k8sddp.worker.contract import finding, node_env
from k8sddp.worker.contract.finding import OK, PROBLEM, WARNING
from k8sddp.worker.gang import messages
from k8sddp.worker.net import loop, probing
from k8sddp.worker.preflight import peers
from tests.unit.worker import serving, workers

POD = "digits-1"


@pytest.fixture
def events() -> loop.Loop:
    """Serve visits and doors in the test's own process."""
    return loop.Loop()


def visit(
    events: loop.Loop, port: int, *, pod: str = POD, patience: float = 60.0, clock: Callable[[], float] = time.time
) -> probing.Visit:
    """Return how a visit to a port of this machine went."""
    went: list[probing.Visit] = []
    target = probing.Target(1, pod, "127.0.0.1", port)
    probing.Visitor(events, target, patience=patience, done=went.append, clock=clock)
    serving.until(events, lambda: bool(went), limit=60, said=lambda: "the visit goes on")
    return went[0]


@pytest.fixture
def sock() -> Iterator[socket.socket]:
    """Listen on a port of this machine."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


def door(events: loop.Loop, sock: socket.socket, pod: str = POD) -> int:
    """Return the port of a peer's door, served by the same loop."""
    return probing.Door(events, sock, pod, say=print).port


def closed_port() -> int:
    """Return a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def test_a_peer_is_reached_and_its_clock_is_ours(events: loop.Loop, sock: socket.socket) -> None:
    """On one machine the difference is within the round trip."""
    went = visit(events, door(events, sock))
    assert probing.REACHED == went.outcome
    assert abs(went.offset) <= went.error + 0.01


@pytest.mark.parametrize("ahead", [7.5, -3600.0], ids=["ahead", "behind"])
def test_a_clock_that_is_off_is_measured(events: loop.Loop, sock: socket.socket, ahead: float) -> None:
    """To within half of the round trip."""
    went = visit(events, door(events, sock), clock=lambda: time.time() + ahead)
    assert abs(went.offset - ahead) <= went.error + 0.01


def test_a_closed_port_is_refused_after_three_tries(events: loop.Loop) -> None:
    """With the reason in the system's words."""
    assert probing.Visit(probing.REFUSED, "connection refused") == visit(events, closed_port())


def test_a_peer_that_is_only_late_is_reached(events: loop.Loop) -> None:
    """Refused twice, then there: a network policy takes a moment until it knows a new pod."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        events.after(1.2, lambda: (sock.listen(), door(events, sock)))
        assert probing.REACHED == visit(events, sock.getsockname()[1]).outcome


@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        pytest.param(errno.EHOSTUNREACH, probing.SILENT, id="no route to host"),
        pytest.param(errno.ENETUNREACH, probing.REFUSED, id="network is unreachable"),
    ],
)
def test_a_host_without_a_route_is_not_certain(
    events: loop.Loop, monkeypatch: pytest.MonkeyPatch, code: int, outcome: str
) -> None:
    """Routes to a Kubernetes Node that has just come may be a while in coming; a pod without any network gets none."""
    monkeypatch.setattr(socket.socket, "connect_ex", lambda _sock, _address: code)
    assert probing.Visit(outcome, os.strerror(code).lower()) == visit(events, closed_port())


def test_a_port_that_swallows_what_it_gets_is_silent(events: loop.Loop) -> None:
    """Accepted by the kernel, answered by nobody: not refused, so not certain."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        went = visit(events, listener.getsockname()[1], patience=0.05)
    assert probing.SILENT == went.outcome


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        pytest.param(b"HTTP/1.1 400 Bad Request\r\n\r\n", "another program answers", id="a stranger"),
        pytest.param(b"", "closed without an answer", id="nothing"),
        pytest.param(b"k8sddp-probe digits-9 12.5\n", "pod digits-9 answers", id="another pod"),
    ],
)
def test_who_answers_in_its_place_is_no_peer(events: loop.Loop, answer: bytes, why: str) -> None:
    """An address may have got another owner, and a mesh may answer for anybody."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            for _ in range(probing.TRIES):
                peer, _ = listener.accept()
                peer.sendall(answer)
                peer.close()

        thread = threading.Thread(target=serve)
        thread.start()
        went = visit(events, listener.getsockname()[1])
        thread.join()
    assert probing.Visit(probing.REFUSED, why) == went


TARGET = probing.Target(0, "digits-0", "10.0.0.5", 40001)


@pytest.mark.parametrize(
    ("went", "only", "levels"),
    [
        pytest.param(probing.Visit(probing.REACHED), False, [OK, OK], id="reached"),
        pytest.param(probing.Visit(probing.REACHED, "", 3.0, 0.5), False, [OK, WARNING], id="clock"),
        pytest.param(probing.Visit(probing.REACHED, "", -3.0, 1.5), False, [OK, OK], id="a clock that may be right"),
        pytest.param(probing.Visit(probing.REFUSED, "no route to host"), False, [PROBLEM], id="refused"),
        pytest.param(probing.Visit(probing.SILENT, "no answer within 3 s"), False, [WARNING], id="silent"),
        pytest.param(probing.Visit(probing.SILENT, "no answer within 9 s"), True, [PROBLEM], id="silent, long"),
    ],
)
def test_what_a_visit_means(went: probing.Visit, only: bool, levels: list[str]) -> None:
    """Silence may be slowness, so it ends no job; a clock counts when it is off for certain."""
    found = peers.of_visit(TARGET, went, only=only)
    assert levels == [one.level for one in found]
    for one in found:
        assert one.level == OK or "node 0 (pod digits-0)" in one.text or "node 0's (pod digits-0)" in one.text


def test_a_refused_peer_is_named_with_its_address_and_the_remedy() -> None:
    """Both ends: the line begins with the node that visits."""
    (found,) = peers.of_visit(TARGET, probing.Visit(probing.REFUSED, "connection refused"), only=False)
    assert found.text.startswith(
        "node 0 (pod digits-0) is not reached at 10.0.0.5 port 40001 (connection refused, 3 times): all pods of a job"
    )
    assert "spec.network.policy" in found.text


def test_all_visits_are_made_and_told_together(events: loop.Loop, sock: socket.socket) -> None:
    """What is not well is said in the node's own log, too; a target that is none is passed over."""
    said: list[str] = []
    node = node_env.parse(workers.make_env(1, Path("/x"), 29400, K8SDDP_NNODES="3"))
    told: list[Sequence[finding.Finding]] = []
    with socket.create_server(("127.0.0.1", 0)) as another:
        open_, closed = door(events, sock, "digits-2"), closed_port()
        targets = [[2, "digits-2", "127.0.0.1", open_], [0, "digits-0", "127.0.0.1", closed], ["x"]]
        peers.Peers(events, node, another, say=said.append).look(messages.Check(1, targets), told.append)
        serving.until(events, lambda: bool(told), limit=60, said=lambda: "the visits go on")
    assert [sorted([OK, PROBLEM])] == [sorted(one.level for one in found) for found in told]
    assert 1 == len(said)
    assert said[0].startswith(
        "preflight of node 1 (pod digits-1): problem: ports: node 0 (pod digits-0) is not reached"
    )


def test_nobody_to_visit_is_answered_at_once(events: loop.Loop, sock: socket.socket) -> None:
    """Node 0 waits for the answer."""
    node = node_env.parse(workers.make_env(0, Path("/x"), 29400))
    told: list[object] = []
    peers.Peers(events, node, sock, say=print).look(messages.Check(1, []), told.append)
    assert [()] == told
