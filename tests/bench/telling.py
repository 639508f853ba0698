"""What node 0 pays for knowing how far all ranks are: bytes and CPU time per second, and the size of /status.

Node 0's worker is real, with ranks that sleep; the other members are played by this process, each over a connection of
its own: they join, beat, and tell of eight training ranks each as a member does, every field of every row changing.
Node 0's CPU time is read from /proc over some seconds with beats alone and over some with progress as well; the
difference is what progress costs. Other work on the machine makes it look dearer (caches, clock), never cheaper.
"""

from __future__ import annotations

import heapq
import os
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from k8sddp.worker.gang import messages, progress, wire
from k8sddp.worker.net import link
from tests.unit.worker import workers

GANGS = (2, 64, 512, 4096)
NPROC = 8
STEP = 0.1  # seconds of a step of the ranks that are played
SLEEP = "import time\nprint('up', flush=True)\ntime.sleep(1000)\n"
TORCH = "2.9.1+fake"  # of the worker's tests
TICKS = os.sysconf("SC_CLK_TCK")
ASKED = ("/status", "/status?ranks=0-511", "/metrics")


class Member:
    """The far end of one connection to node 0."""

    def __init__(self, node_rank: int, nnodes: int, address: tuple[str, int]) -> None:
        self.node_rank = node_rank
        self.bytes = 0
        self._teller = progress.Teller()
        self._session = wire.Session("3f0c6a52-uid", coordinator=False, nonce=os.urandom(wire.NONCE_SIZE))
        self._socket = socket.create_connection(address, timeout=30)
        self._socket.sendall(self._session.greeting())
        while not self._session.greeted:
            self._session.feed(self._socket.recv(4096))
        join = messages.Join(node_rank, f"digits-{node_rank}", "node-b", nnodes, NPROC, "", TORCH, 0, 0, {})
        self._socket.setblocking(False)
        self._send(join)

    def beat(self) -> None:
        """Say that this member lives."""
        self._send(messages.Beat())

    def tell(self, seconds: float) -> None:
        """Tell how far the ranks are after so many seconds of training."""
        ranks = [rank_after(seconds, NPROC * self.node_rank + rank) for rank in range(NPROC)]
        before = self.bytes
        self.bytes = 0
        self._send(messages.Progress(0, self._teller.rows(ranks, seconds)))
        self.bytes += before

    def close(self) -> None:
        """Leave without a word."""
        self._socket.close()

    def _send(self, message: messages.Message) -> None:
        frame = self._session.seal(messages.encode(message))
        self._socket.sendall(frame)
        self.bytes += len(frame)
        try:
            while self._socket.recv(65536):  # node 0's beats
                pass
        except BlockingIOError:
            pass


def rank_after(seconds: float, rank: int) -> progress.Rank:
    """Return a rank that has trained for an hour and so many seconds."""
    step = int((3600 + seconds) / STEP)
    return progress.Rank(
        rank,
        step=step,
        forward_entered=step + 1,
        forward_left=step,
        age=seconds % STEP,
        step_time=step * STEP,
        group=progress.JOINED,
        backward_entered=step,
        backward_left=step,
        collectives=2 * step,
        batches_asked=step + 1,
        batches_got=step + 1,
        own_time=0.3 * STEP * step,
        own_steps=step - 1,
        reported_step=step,
        total_steps=1000000,
        loss=2.0 / (1 + seconds),
    )


def figures() -> Iterator[dict[str, object]]:
    """Yield what progress costs node 0 of gangs of several sizes."""
    for nnodes in GANGS:
        with tempfile.TemporaryDirectory() as folder:
            yield measure(Path(folder), nnodes)


def measure(folder: Path, nnodes: int) -> dict[str, object]:
    """Return node 0's share of a core, with beats alone and with progress, and what its pages take."""
    options = {"nproc_per_node": str(NPROC), "launcher": "direct", "preflight": "skip"}
    with workers.Gang(folder, SLEEP, nnodes=nnodes, **options).start(0) as gang:
        (pod,) = gang.pods
        pod.wait_for("node 0")
        members = [Member(node_rank, nnodes, ("127.0.0.2", gang.port)) for node_rank in range(1, nnodes)]
        for _ in range(NPROC):
            pod.wait_for("] up")
        seconds = 10.0 + 2 * progress.interval(nnodes)
        idle, _ = share(pod, members, seconds, telling=False)
        busy, sent = share(pod, members, seconds, telling=True)
        pages = {path: timed(gang, path) for path in ASKED}
        found = {
            "figure": "telling", "nnodes": nnodes, "nproc_per_node": NPROC,
            "bytes_per_second": round(sent), "cpu_beats": round(idle, 4), "cpu_with_progress": round(busy, 4),
            "pages_bytes_and_seconds": pages, "resident_mb": resident(pod),
        }  # fmt: skip
        for member in members:
            member.close()
    return found


def share(pod: workers.Pod, members: list[Member], seconds: float, *, telling: bool) -> tuple[float, float]:
    """Return node 0's share of a core over some seconds, and the bytes of progress in a second."""
    interval = progress.interval(len(members) + 1)
    due = [(link.BEAT * place / len(members), place, False) for place in range(len(members))]
    if telling:
        due += [(interval * place / len(members), place, True) for place in range(len(members))]
    heapq.heapify(due)
    before, began = cpu(pod), time.monotonic()
    sent = sum(member.bytes for member in members)
    beats = 0
    while due[0][0] < seconds:
        at, place, tells = heapq.heappop(due)
        time.sleep(max(0.0, began + at - time.monotonic()))
        if tells:
            members[place].tell(at)
        else:
            size = members[place].bytes
            members[place].beat()
            beats += members[place].bytes - size
        heapq.heappush(due, (at + (interval if tells else link.BEAT), place, tells))
    passed = time.monotonic() - began
    return (cpu(pod) - before) / passed, (sum(member.bytes for member in members) - sent - beats) / passed


def timed(gang: workers.Gang, path: str) -> tuple[int, float]:
    """Return a page's length, and the shortest of three times that it took."""
    times = []
    for _ in range(3):
        began = time.perf_counter()
        code, text = gang.get(path, timeout=30)
        times.append(time.perf_counter() - began)
        if code != 200:
            raise RuntimeError(f"{path} was answered with {code}: {text[:200]}")
    return len(text), round(min(times), 4)


def cpu(pod: workers.Pod) -> float:
    """Return the seconds of CPU that node 0's worker has used."""
    fields = Path(f"/proc/{pod.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def resident(pod: workers.Pod) -> float:
    """Return its memory in MB."""
    pages = int(Path(f"/proc/{pod.process.pid}/statm").read_text().split()[1])
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 1)
