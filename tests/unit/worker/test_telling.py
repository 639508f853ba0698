"""Telling never kills: each system call of what only tells fails, the worker goes on, and says so once."""

from __future__ import annotations

import _thread
import builtins
import errno
import json
import os
import select
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from k8sddp.worker.contract import node_env
from k8sddp.worker.net import dialer, loop, names, telling
from k8sddp.worker.ranks import channels, process_tree, rank_output, reports
from tests.unit.worker import attempts, workers
from tests.unit.worker.faulty_calls import ERRORS, failing


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


def test_processes_of_others_may_be_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a shared machine whose /proc is mounted with hidepid=1 their files cannot be read (fs/proc/base.c: EPERM)."""
    monkeypatch.setattr(builtins, "open", failing(errno.EPERM, only=lambda path, *_: path == "/proc/1/stat")(open))
    monkeypatch.setattr(os, "geteuid", lambda: os.stat("/proc/1").st_uid + 1)  # noqa: PTH116
    child = subprocess.Popen(["sleep", "100"])
    assert child.pid in process_tree.descendants(os.getpid())
    child.kill()
    child.wait()


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
