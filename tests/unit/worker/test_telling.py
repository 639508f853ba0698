"""Telling never kills: each system call of what only tells fails, the worker goes on, and says so once."""

from __future__ import annotations

import _thread
import builtins
import errno
import json
import os
import resource
import select
import signal
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from k8sddp.worker.contract import node_env
from k8sddp.worker.net import dialer, listening, loop, names, telling
from k8sddp.worker.ranks import channels, process_tree, rank_output, reports
from tests.unit.worker import attempts, workers

ERRORS = [
    pytest.param(getattr(errno, name), id=name) for name in ("EMFILE", "ENFILE", "ENOMEM", "ENOSPC", "EIO", "EPERM")
]


def failing(number: int, *, only: Callable[..., bool] = lambda *_: True, times: int = 10**9) -> Callable[[Any], Any]:
    """Return what wraps a function so that its first calls fail with the error `number`."""
    left = [times]

    def wrap(function: Any) -> Any:
        def call(*values: Any, **options: Any) -> Any:
            if left[0] and only(*values):
                left[0] -= 1
                raise OSError(number, os.strerror(number))
            return function(*values, **options)

        return call

    return wrap


class Pipe:
    """A rank's output pipe, with what the sink has written of it."""

    def __init__(self, folder: Path) -> None:
        self.events = loop.Loop()
        self.log = folder / "log"
        fd = os.open(self.log, os.O_CREAT | os.O_RDWR)
        self.sink = rank_output.Sink(self.events, fd)
        read, self.write = os.pipe()
        self.source = rank_output.Source(self.events, self.sink, read, prefix="[rank 0] ")

    def lines(self, *, until: str) -> list[str]:
        """Serve the loop until the log holds `until`; return all of it."""

        def look() -> None:
            if until in self.log.read_text():
                self.events.stop(0)
            else:
                self.events.after(0.005, look)

        self.events.after(attempts.LIMIT, lambda: self.events.stop(1))
        look()
        assert 0 == self.events.run()
        return self.log.read_text().splitlines()


@pytest.mark.parametrize("number", ERRORS)
def test_output_that_cannot_be_read_is_read_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """No line is lost, or the rank would wait for ever as soon as its pipe is full."""
    pipe = Pipe(tmp_path)
    monkeypatch.setattr(os, "read", failing(number, only=lambda fd, _: fd == pipe.source._fd, times=3)(os.read))
    os.write(pipe.write, b"a line\n")
    said, line = pipe.lines(until="a line")
    assert f"[k8sddp] reading output failed, and will not be told again: {os.strerror(number).lower()}" == said
    assert "[rank 0] a line" == line


@pytest.mark.parametrize("number", ERRORS)
def test_a_stdout_that_cannot_be_polled_is_written_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Short of memory for a moment."""

    class Poll:
        left = 3

        def register(self, *_: int) -> None:
            pass

        def poll(self, _: int) -> list[int]:
            Poll.left -= 1
            if Poll.left >= 0:
                raise OSError(number, os.strerror(number))
            return [1]

    monkeypatch.setattr(select, "poll", Poll)
    pipe = Pipe(tmp_path)
    pipe.sink._always_ready = False
    monkeypatch.setattr(pipe.events, "watch", failing(number, only=lambda fd: True, times=1)(pipe.events.watch))
    pipe.sink.say("a line")
    assert ["[k8sddp] a line"] == pipe.lines(until="a line")


@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), MemoryError()], ids=["thread", "memory"])
def test_a_name_that_cannot_be_looked_up_for_want_of_a_thread_is_looked_up_later(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """The dialer hears a problem, as of a name that is unknown, and dials again."""

    def none(*_: object) -> None:
        raise error

    monkeypatch.setattr(_thread, "start_new_thread", none)
    events = loop.Loop()
    lost: list[str] = []

    def on_lost(problem: str) -> None:
        lost.append(problem)
        if len(lost) == 3:
            events.stop(0)
        else:
            found.dial()

    found = dialer.Dialer(
        events,
        "digits-0.digits",
        17999,
        key="k",
        nnodes=2,
        on_up=lambda: None,
        on_message=lambda message: None,
        on_lost=on_lost,
    )
    found.dial()
    assert 0 == events.run()
    assert {f"digits-0.digits cannot be looked up ({error})"} == set(lost)


def test_a_look_up_that_fails_in_any_way_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else nobody would ever dial again."""

    def fails(*_: object, **__: object) -> None:
        raise MemoryError("none left")

    monkeypatch.setattr(names.socket, "getaddrinfo", fails)
    events = loop.Loop()
    answers: list[str] = []

    def done(_: names.Addresses, problem: str) -> None:
        answers.append(problem)
        events.stop(0)

    names.resolve(events, "digits-0.digits", 80, done)
    events.run()
    assert ["digits-0.digits does not resolve (none left)"] == answers


def is_proc(path: object, *_: object) -> bool:
    return str(path).startswith("/proc/")


@pytest.mark.parametrize("number", ERRORS)
@attempts.apart
def test_nothing_is_taken_for_ended_that_cannot_be_seen(number: int) -> None:
    """With no descriptor for /proc the walk is made again, until it shows what lives, and ends it."""
    process_tree.become_subreaper()
    pid = os.fork()
    if pid == 0:
        signal.pause()
    events = loop.Loop()
    events.handle_signals(lambda signum: None)
    found: list[process_tree.Sweep] = []
    builtins.open = failing(number, only=is_proc, times=20)(open)
    os.listdir = failing(number, only=is_proc, times=3)(os.listdir)
    process_tree.end(events, lambda sweep: (found.append(sweep), events.stop(0)))
    events.run()
    assert [((), frozenset({pid}))] == found


@pytest.mark.parametrize("number", ERRORS)
def test_a_worker_that_sees_nothing_for_too_long_says_that_something_is_left(
    monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Then it leaves with its container, which ends what it could not see."""
    monkeypatch.setattr(builtins, "open", failing(number, only=is_proc)(open))
    monkeypatch.setattr(process_tree, "LIMIT", 0.05)
    events = loop.Loop()
    found: list[process_tree.Sweep] = []
    process_tree.end(events, lambda sweep: (found.append(sweep), events.stop(0)), root=1)
    events.run()
    assert [(process_tree.UNSEEN,)] == [sweep.left for sweep in found]
    assert process_tree.resident_bytes() is None
    assert not process_tree.is_below(os.getpid(), 1)


@pytest.mark.parametrize("number", ERRORS)
@attempts.apart
def test_a_rank_without_a_page_goes_on_uncounted(tmp_path: Path, number: int) -> None:
    """A full disk: said once, and the rank ends as it would have."""
    os.posix_fallocate = failing(number)(os.posix_fallocate)
    node = attempts.Node(tmp_path, "print('trained')", launcher="direct", nproc_per_node="2")
    ranks = node.start()
    node.run_until(lambda: ("complete", None) in node.told)
    assert [None, None] == [one.step for one in ranks.progress()]
    node.end(ranks)
    assert 2 == node.text().count("] trained")
    assert 1 == node.text().count("not counted: no page in")


@attempts.apart
def test_a_sweep_of_shared_memory_that_fails_ends_nothing(tmp_path: Path) -> None:
    """Whatever goes wrong there: said once, and the next attempt starts."""

    def fails(_: object) -> None:
        raise RuntimeError("broken")

    node = attempts.Node(tmp_path, "print('trained')", launcher="direct")
    node.memory.sweep = fails  # type: ignore[assignment, method-assign]
    for count in (1, 2):
        ranks = node.start()
        node.run_until(lambda count=count: node.told.count(("complete", None)) == count)  # type: ignore[misc]
        node.end(ranks)
    assert 1 == node.text().count("removing what the ranks left in shared memory failed")


def test_each_kind_of_fault_is_said_once_and_not_without_end() -> None:
    """By what failed and how; a log that cannot be written ends nothing either."""
    said: list[str] = []
    teller = telling.Teller(said.append)
    for _ in range(3):
        teller.failed("this", OSError(errno.EIO, "Input/output error"))
        teller.failed("this", OSError(errno.EMFILE, "Too many open files"))
        teller.failed("that", KeyError("x"))
    assert 3 == len(said)
    for number in range(1000):
        teller.failed(str(number), KeyError("x"))
    assert telling.MAX_KINDS == len(said)

    def broken(_: str) -> None:
        raise OSError(errno.EIO, "Input/output error")

    telling.Teller(broken).failed("this", KeyError("x"))


EVENT_LOOP = loop.Loop()  # of which nothing is ever served
EVENTS = ("start", "starting", "joined", "refused", "exception", "exit", "last", "process", "child", "ended", "x")
NAMES = ("rank", "exit_code", "local_rank", "index", "child_pid", "detail", "exception", "traceback", "origin")
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.integers(0, 3) | st.floats() | st.text(max_size=5),
    lambda one: st.lists(one, max_size=2) | st.dictionaries(st.text(max_size=3), one, max_size=2),
    max_leaves=4,
)
RECORDS = st.builds(
    lambda event, pid, more: {"event": event, "pid": pid, **more},
    st.sampled_from(EVENTS) | ANYTHING,
    st.integers(2**23, 2**23 + 2) | ANYTHING,  # more than there can be
    st.dictionaries(st.sampled_from(NAMES), st.integers(2**23, 2**23 + 2) | ANYTHING),
)


@pytest.mark.parametrize("launcher", ["torchrun", "direct", "spawn"])
@example(told=[({"event": "refused", "pid": 2**23, "detail": [1]}, None)])
@example(
    told=[({"event": "starting", "pid": 2**23, "local_rank": 1}, 3), ({"event": "start", "pid": 2**23, "rank": 1}, 0)]
)
@given(told=st.lists(st.tuples(RECORDS, st.none() | st.integers(-70, 255)), max_size=8))
def test_whatever_is_written_into_the_event_pipe_ends_nothing(launcher: str, told: Any) -> None:
    """Every process below the worker may write there; each of them may end, with any code, at any time."""
    with tempfile.TemporaryDirectory() as folder, Path(os.devnull).open("wb") as log:
        events = EVENT_LOOP
        node = node_env.parse(
            workers.make_env(0, Path(folder), 29400, K8SDDP_LAUNCHER=launcher, K8SDDP_NPROC_PER_NODE="2")
        )
        files = channels.Channels(events, rank_output.Sink(events, log.fileno()), folder + "/ranks")
        heard: list[object] = []
        listener = reports.Listener(heard.append, heard.append, lambda: None, lambda: None, lambda: None)
        account = reports.Reports(events, node, files, listener=listener, started=heard.append, living=lambda: ())
        os.close(files.open(0, range(2), on_event=account.read))
        pipe = os.open(folder + "/ranks/events", os.O_WRONLY)
        for record, code in told:
            os.write(pipe, json.dumps(record).encode() + b"\n")
            account.read()
            for pid in list(account.pids):
                account.rank_gone(pid, code)
        account.process_ended(1, None, 1, last=True)
        os.close(pipe)
        files.close()


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
