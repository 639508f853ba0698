"""One attempt on one node: the launcher's processes, its ranks' pipes, and what their ends mean.

Ranks report through an event pipe (instrument/k8sddp_rank.py) before they go down, the kernel tells at once that one
has ended (pidfd), torchrun's agent reports exit codes up to 0.1 s later, and the launcher's own end closes the account.
From that this module makes root_cause.Failure values; who failed first in the gang is decided elsewhere. Everything
lives in one folder of its own, removed at the end; after `end` nothing is reported any more.
"""

from __future__ import annotations

import functools
import json
import os
import signal
from collections.abc import Callable, Mapping
from typing import NamedTuple, Optional

from . import launcher, loop, node_env, process_tree, rank_output, root_cause
from .gang import messages
from .launcher import rank_env

GRACE_MARGIN = 3.0  # seconds of the pod's grace period kept for killing, the verdict and the log
POLL = 0.02  # seconds between two looks at ranks that were asked to stop
MAX_PIDS = 4096
MAX_READS = 16  # of the event pipe in one round, so that a script that writes into it cannot hold the loop
EVENTS = "events"  # the same name as in instrument/k8sddp_rank.py


class Reports(NamedTuple):
    """Who hears what of an attempt: `left`: a rank exited with 0; `over` comes once, unless all are `complete`."""

    failed: Callable[[root_cause.Failure], None]
    left: Callable[[int], None]
    complete: Callable[[], None]
    over: Callable[[], None]


class NodeAttempt:
    """The ranks of this node in one attempt."""

    def __init__(
        self, events: loop.Loop, sink: rank_output.Sink, node: node_env.NodeEnv, *, folder: str, reports: Reports
    ) -> None:
        self._events = events
        self._sink = sink
        self._node = node
        self._reports = reports
        self._folder = folder
        self._base = node.node_rank * node.nproc_per_node
        self._pids: dict[int, Optional[int]] = {}  # of the launcher's living processes -> rank, None where it is none
        self._program = node.launcher if node.launcher == "torchrun" else "the script"
        self._pidfds: dict[int, int] = {}  # pid of a rank -> descriptor that becomes readable when it ends
        self._silent = False  # the attempt is being ended: what its processes do is no news
        self._sources: dict[Optional[int], rank_output.Source] = {}  # by rank; None: the launcher's own output
        self._event_fd = -1
        self._event_lines = rank_output.LineSplitter()
        self._ranks: dict[int, int] = {}  # pid -> rank, from the ranks' own word
        self._blamed: set[int] = set()  # pids whose failure has been reported
        self._last_words: dict[int, Mapping[str, object]] = {}  # pid -> an exception that perhaps ends it
        self._failed = False  # some process of the launcher did not end with 0
        self._some_ended = False  # torchrun has begun to end the other ranks

    def start(self, attempt: messages.Attempt, words: tuple[str, ...], *, place: rank_env.Place) -> None:
        """Make the pipes and start the launcher.

        Raises OSError when that is not possible.
        """
        os.mkdir(self._folder, 0o700)
        for rank in range(self._base, self._base + self._node.nproc_per_node):
            fd = _fifo(os.path.join(self._folder, "rank-%d.out" % rank))
            self._sources[rank] = rank_output.Source(self._events, self._sink, fd, prefix="[rank %d] " % rank)
        self._event_fd = _fifo(os.path.join(self._folder, EVENTS))
        self._events.watch(self._event_fd, read=self._read_events)
        read, write = os.pipe()
        prefix = "[node %d] " % self._node.node_rank
        self._sources[None] = rank_output.Source(self._events, self._sink, read, prefix=prefix)
        try:
            for command in launcher.commands(self._node, attempt, words, place=place):
                pid = process_tree.spawn(command.argv, command.env, output=write)
                self._pids[pid] = command.rank
                self._events.on_child(pid, functools.partial(self._process_ended, pid))
        finally:
            os.close(write)

    def end(self, done: Callable[[tuple[int, ...]], None], *, grace: bool) -> None:
        """End every process of this attempt, then call `done` with the pids that would not die.

        With `grace` the ranks get a SIGTERM and time to save. A second call, with another `grace`, is answered too.
        """
        self._silent = True
        if not grace or not self._ask():
            self._kill(done)
            return
        limit = max(self._node.grace_period / 2, self._node.grace_period - GRACE_MARGIN)
        deadline = self._events.now() + limit

        def look() -> None:
            if self._alive() and self._events.now() < deadline:
                self._events.after(POLL, look)
            else:
                self._kill(done)

        look()

    def _ask(self) -> bool:
        pids = list(self._pids)
        if self._node.launcher == "spawn":  # torchrun hands the signal on, a script need not
            pids += [pid for pid in self._ranks if pid not in self._pids]
        for pid in pids:
            _signal(pid, signal.SIGTERM)
        return bool(pids)

    def _alive(self) -> bool:
        if self._pids:
            return True
        return self._node.launcher == "spawn" and any(_signal(pid, 0) for pid in self._ranks)

    def _kill(self, done: Callable[[tuple[int, ...]], None]) -> None:
        def ended(left: tuple[int, ...]) -> None:
            if left:
                self._sink.say("%d processes cannot be ended: pids %s" % (len(left), ", ".join(map(str, left[:8]))))
            self._close()
            done(left)

        process_tree.end(self._events, ended)

    def _close(self) -> None:
        for source in self._sources.values():
            source.close()
        self._sources.clear()
        for pid in tuple(self._pidfds):
            self._forget(pid)
        if self._event_fd >= 0:
            self._events.watch(self._event_fd)
            os.close(self._event_fd)
            self._event_fd = -1
        import shutil  # 10 ms that the start need not pay

        shutil.rmtree(self._folder, ignore_errors=True)

    def _read_events(self) -> None:
        for _ in range(MAX_READS):
            if self._event_fd < 0:
                return
            try:
                data = os.read(self._event_fd, 64 * 1024)
            except BlockingIOError:
                return
            for line in self._event_lines.feed(data):
                try:
                    record = json.loads(line)
                except ValueError:
                    continue  # a script wrote into our pipe
                if isinstance(record, dict):
                    self._take(record)

    def _take(self, record: Mapping[str, object]) -> None:
        event, pid, rank, code = (record.get(name) for name in ("event", "pid", "rank", "exit_code"))
        if not isinstance(pid, int):
            return
        if event == "start" and isinstance(rank, int):
            self._ranks[pid] = rank
            self._watch(pid, rank)
        elif event == "exception" and isinstance(rank, int):
            self._blame(pid, rank, record, exit_code=1)
        elif event == "exit" and isinstance(rank, int) and isinstance(code, int):
            self._blame(pid, rank, record, exit_code=code)
        elif event in ("exception", "last"):
            if len(self._last_words) < MAX_PIDS:
                self._last_words[pid] = record
        elif event in ("process", "child"):
            child = record.get("child_pid")
            place = record.get("local_rank") if event == "process" else record.get("index")
            if isinstance(child, int) and isinstance(place, int):
                rank = self._ranks.get(child, self._base + place)
                known = self._last_words.get(child, record) if code == 1 else record
                self._blame(child, rank, known, exit_code=code if isinstance(code, int) else 1)

    def _watch(self, pid: int, rank: int) -> None:
        """Hear at once when a rank that is no child of ours ends."""
        if pid in self._pids or pid in self._pidfds or len(self._pidfds) >= MAX_PIDS:
            return

        def gone() -> None:
            self._forget(pid)
            code = process_tree.exit_code(pid)  # its parent has not reaped it yet, if we are quick
            self._read_events()
            if code is not None:
                self._rank_ended(pid, rank, code)

        try:
            self._pidfds[pid] = os.pidfd_open(pid)
        except (AttributeError, OSError):
            return  # an old kernel: the launcher will tell
        self._events.watch(self._pidfds[pid], read=gone)

    def _forget(self, pid: int) -> None:
        fd = self._pidfds.pop(pid)
        self._events.watch(fd)
        os.close(fd)

    def _rank_ended(self, pid: int, rank: int, code: int) -> None:
        if code:
            self._blame(pid, rank, self._last_words.get(pid, {}) if code == 1 else {}, exit_code=code)
        elif not self._silent:
            self._reports.left(rank)

    def _blame(self, pid: int, rank: int, record: Mapping[str, object], *, exit_code: int) -> None:
        """Report that the rank with `pid` failed, once; a rank that torchrun ended after another one is a victim."""
        forced = self._some_ended and exit_code in (-signal.SIGTERM, -signal.SIGKILL)
        self._some_ended = self._node.launcher != "direct"  # there nobody ends the others
        if pid not in self._blamed and not self._silent:
            self._blamed.add(pid)
            failure = self._failure(rank, record, exit_code)
            self._reports.failed(failure._replace(weight=root_cause.VICTIM) if forced else failure)

    def _failure(self, rank: Optional[int], record: Mapping[str, object], exit_code: int) -> root_cause.Failure:
        node = self._node
        exception, trace = record.get("exception"), record.get("traceback")
        failure = root_cause.Failure("exception", node.node_rank, node.pod_name, node.kube_node, rank=rank)
        if rank is None:
            failure = failure._replace(detail=self._program)
        if isinstance(exception, str):
            text = trace if isinstance(trace, str) else None
            return failure._replace(exit_code=exit_code, exception=exception, traceback=text)
        output = self._tail(rank)
        if exit_code < 0:
            return failure._replace(kind="signal", signal=root_cause.signal_name(-exit_code), traceback=output)
        return failure._replace(kind="exit", exit_code=exit_code, traceback=output)

    def _tail(self, rank: Optional[int]) -> Optional[str]:
        source = self._sources.get(rank)
        if source is None:
            return None
        source.read_now()
        return source.tail() or None

    def _process_ended(self, pid: int, code: int) -> None:
        """Take note of the end of one of the launcher's processes; the last one closes the account."""
        self._read_events()
        rank = self._pids.pop(pid)
        if self._silent:
            return
        if rank is not None:
            self._rank_ended(pid, rank, code)
        elif code and not self._blamed:
            self._reports.failed(self._launcher_failure(pid, code))
        self._failed = self._failed or code != 0
        if self._pids:
            return
        if self._failed:
            self._reports.over()
        else:
            self._reports.complete()

    def _launcher_failure(self, pid: int, code: int) -> root_cause.Failure:
        single = self._node.launcher == "spawn" and self._node.nproc_per_node == 1
        words = self._last_words.get(pid, {}) if code == 1 else {}
        failure = self._failure(self._base if single else None, words, code)
        name = (failure.exception or "").partition(":")[0]
        if failure.rank is None and name in root_cause.INFRASTRUCTURE_TYPES:
            return failure._replace(kind="infrastructure", detail="%s: %s" % (self._program, failure.exception))
        if single and failure.traceback is None:
            return failure._replace(traceback=self._tail(None))
        return failure


def _fifo(path: str) -> int:
    """Make a named pipe; open for reading and writing, it never ends and opening it never blocks a rank."""
    os.mkfifo(path, 0o600)
    return os.open(path, os.O_RDWR | os.O_NONBLOCK)


def _signal(pid: int, number: int) -> bool:
    try:
        os.kill(pid, number)
    except OSError:
        return False
    return True
