"""Descriptors: a worker that has none left goes on, and its ranks get the limit that it was started with."""

from __future__ import annotations

import errno
import os
import resource
import socket
from pathlib import Path
from typing import Any

import pytest

from k8sddp.worker.net import listening, loop
from tests.unit.worker import attempts, workers
from tests.unit.worker.faulty_calls import ERRORS


class Failing(socket.socket):
    """A listening socket whose next calls of accept fail."""

    number = 0
    left = 0
    calls = 0

    def accept(self) -> tuple[socket.socket, Any]:
        self.calls += 1
        if self.left:
            self.left -= 1
            raise OSError(self.number, os.strerror(self.number))
        return super().accept()


@pytest.mark.parametrize("number", [*ERRORS, pytest.param(errno.ECONNABORTED, id="ECONNABORTED")])
def test_a_port_whose_accept_fails_goes_on(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """At most said once, and tried again after a pause where the connection is still there."""
    monkeypatch.setattr(listening, "PAUSE", 0.01)
    events = loop.Loop()
    said: list[str] = []

    def accepted(sock: socket.socket, address: str) -> None:
        sock.close()
        events.stop(0)

    with Failing() as port, socket.socket() as client:
        port.number, port.left = number, 5
        port.bind(("127.0.0.1", 0))
        port.listen()
        listening.Listener(events, port, purpose="the port", say=said.append, accepted=accepted)
        client.connect(port.getsockname())
        events.after(attempts.LIMIT, lambda: events.stop(1))
        assert 0 == events.run()
        assert 5 + 1 + 1 == port.calls  # the last one finds nothing more
        events.watch(port.fileno())
    what = os.strerror(number).lower()
    expected = (
        []
        if number in listening.GONE
        else [f"connections to the port wait: {what} (see `ulimit -n` and the pod's limits)"]
    )
    assert expected == said


TRAINS = """
import os, resource, time
print("limit", resource.getrlimit(resource.RLIMIT_NOFILE)[0], flush=True)
while not os.path.exists("go"):
    time.sleep(0.01)
"""


def test_a_worker_without_descriptors_trains_on(tmp_path: Path) -> None:
    """It may open nothing while it trains; then its port answers again, and the job completes."""
    with workers.Gang(tmp_path, TRAINS, launcher="direct").start() as gang:
        (pod,) = gang.pods
        pod.wait_for("limit")
        limits = resource.prlimit(pod.process.pid, resource.RLIMIT_NOFILE, (5, 20000))
        with pytest.raises(OSError, match="timed out"):
            gang.get("/status", timeout=0.5)
        pod.wait_for("connections to the HTTP port wait: too many open files")
        resource.prlimit(pod.process.pid, resource.RLIMIT_NOFILE, limits)
        assert 200 == gang.get("/status")[0]
        (tmp_path / "go").touch()
        assert 0 == pod.wait(), pod.log
        assert 1 == pod.log.count("too many open files")


def test_the_ranks_get_the_limit_that_the_worker_was_started_with(tmp_path: Path) -> None:
    """The worker itself takes the hard one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1000, hard))
    try:
        with workers.Gang(tmp_path, TRAINS, launcher="direct").start() as gang:
            (pod,) = gang.pods
            pod.wait_for("limit 1000")
            assert (hard, hard) == resource.prlimit(pod.process.pid, resource.RLIMIT_NOFILE)
            (tmp_path / "go").touch()
            assert 0 == pod.wait(), pod.log
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


SPAWN = """
import os, resource, signal
from k8sddp.worker.ranks import descriptors, process_tree
resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
descriptors.raise_limit()
held = [os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC) for _ in range(200)]
read, write = os.pipe()
pid = process_tree.spawn(("sh", "-c", "ulimit -Sn; cat"), dict(os.environ), output=write)
os.close(write)
signal.alarm(30)
while os.read(read, 99) != b"64\\n":
    pass
print("end", os.read(read, 99), os.waitpid(pid, 0)[1], resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 64)
"""


def test_a_rank_starts_though_the_worker_holds_more_descriptors_than_it_may_have() -> None:
    """With its own low limit and stdin from /dev/null; its output ends with it, since the worker holds on to none."""
    assert "end b'' 0 True\n" == workers.output_of(SPAWN)


JOINS = """
import resource, socket
from k8sddp.worker.gang import messages
from k8sddp.worker.net import link, loop, server
from k8sddp.worker.ranks import descriptors
resource.setrlimit(resource.RLIMIT_NOFILE, (1024, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
descriptors.raise_limit()
events, said, joined = loop.Loop(), [], set()
def on_message(peer, join):
    joined.add(join.node_rank)
    if len(joined) == 1024:
        events.stop(0)
listener = server.listen("127.0.0.1", 0)
gang = server.Server(events, listener, "key", nnodes=1024, say=said.append, on_message=on_message, on_lost=print)
def join(node_rank):
    terms = messages.Join(node_rank, "digits-%d" % node_rank, "node", 1024, 1, "sha", "2.9.1", 0, 0, {})
    sock = socket.create_connection(listener.getsockname()[:2])
    up = lambda one: one.send(terms)
    link.Link(events, sock, "key", coordinator=False, on_up=up, on_message=print, on_lost=print)
    if node_rank < 1023:
        events.soon(lambda: join(node_rank + 1))
join(0)
events.after(60, lambda: events.stop(1))
print(events.run(), len(joined), said)
"""


@pytest.mark.skipif(resource.getrlimit(resource.RLIMIT_NOFILE)[1] < 2200, reason="2,200 open files: raise ulimit -Hn")
def test_1024_members_join_with_a_soft_limit_of_1024() -> None:
    """Real connections, both ends of which this process holds."""
    assert "0 1024 []\n" == workers.output_of(JOINS)
