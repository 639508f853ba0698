"""One attempt on one node: the launcher's processes, its ranks' pipes, and what their ends mean.

Ranks report through an event pipe (instrument/k8sddp_rank.py) before they go down, the kernel tells at once that one
has ended (pidfds.py), torchrun's agent reports exit codes up to 0.1 s later, and the launcher's own end closes the
account. From that this module makes root_cause.Failure values; who failed first in the gang is decided elsewhere. A
launcher that has seen a rank fail ends the others: from then on what happens to them is a consequence.

Nothing of an attempt outlives `end`: no process, descriptor, folder or shared memory, and nothing is reported any more
(on a shared machine only torch's cleaner of shared memory, for 2 s).
"""

from __future__ import annotations

import functools
import json
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Optional

from k8sddp.worker import root_cause
from k8sddp.worker.contract import node_env
from k8sddp.worker.gang import messages
from k8sddp.worker.net import loop

from . import launcher, pidfds, process_tree, rank_output, rank_page, shm
from .launcher import direct, rank_env

GRACE_MARGIN = 3.0  # seconds of the pod's grace period kept for killing, the verdict and the log
POLL = 0.02  # seconds between two looks at ranks that were asked to stop
LATE = 0.3  # seconds in which torchrun tells of a failed rank that it has reaped; it looks every 0.1 s
MAX_WORDS = 4096  # processes whose last exception is remembered
MAX_READS = 16  # of the event pipe in one round, so that a script that writes into it cannot hold the loop
MAX_ERROR = 1 << 20  # bytes of an error file
MAX_TEXT = 3000  # characters of what it says
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
        self,
        events: loop.Loop,
        sink: rank_output.Sink,
        node: node_env.NodeEnv,
        *,
        folder: str,
        memory: shm.SharedMemory,
        reports: Reports,
    ) -> None:
        self._events = events
        self._sink = sink
        self._node = node
        self._reports = reports
        self._folder = folder
        self._memory = memory
        self._base = node.node_rank * node.nproc_per_node
        self._pids: dict[int, Optional[int]] = {}  # of the launcher's living processes -> rank, None where it is none
        self._program = node.launcher if node.launcher == "torchrun" else "the script"
        self._others = pidfds.Pidfds(events)  # ranks that are no children of ours
        self._unknown: dict[int, int] = {}  # pid -> rank, of ranks that somebody else reaped before we saw their code
        self._left = False  # some rank exited with 0
        self._pulled = False  # the launcher has begun to end the other ranks
        self._silent = False  # the attempt is being ended: what its processes do is no news
        self._waiting: list[Callable[[tuple[int, ...]], None]] = []  # who wants to hear that it has ended
        self._grace: Optional[loop.Timer] = None  # ranks have been asked, and are looked after until then
        self._killing = False
        self._ended: Optional[tuple[int, ...]] = None  # the pids that would not die
        self._sources: dict[Optional[int], rank_output.Source] = {}  # by rank; None: the launcher's own output
        self._pages: dict[int, int] = {}  # by rank: the descriptor of its page
        self._event_fd = -1
        self._event_lines = rank_output.LineSplitter()
        self._ranks: dict[int, int] = {}  # pid -> rank, from the ranks' own word
        self._blamed: set[int] = set()  # pids whose failure has been reported
        self._last_words: dict[int, Mapping[str, object]] = {}  # pid -> an exception that perhaps ends it
        self._failed = False  # some process of the launcher did not end with 0

    def start(self, attempt: messages.Attempt, words: tuple[str, ...], *, place: rank_env.Place) -> None:
        """Make the pipes and start the launcher.

        Raises OSError when that is not possible.
        """
        os.mkdir(self._folder, 0o700)
        for rank in range(self._base, self._base + self._node.nproc_per_node):
            fd = _fifo(os.path.join(self._folder, "rank-%d.out" % rank))
            self._pages[rank] = rank_page.create(os.path.join(self._folder, "rank-%d.page" % rank))
            self._sources[rank] = rank_output.Source(self._events, self._sink, fd, prefix="[rank %d] " % rank)
        self._event_fd = _fifo(os.path.join(self._folder, EVENTS))
        self._events.watch(self._event_fd, read=self._read_events)
        read, write = os.pipe()
        prefix = "[node %d] " % self._node.node_rank
        self._sources[None] = rank_output.Source(self._events, self._sink, read, prefix=prefix)
        try:
            for command in launcher.commands(self._node, attempt, words, place=place):
                self._spawn(command, write)
        finally:
            os.close(write)

    def _spawn(self, command: rank_env.Command, output: int) -> None:
        own = -1
        if command.rank is not None:
            output = own = os.open(os.path.join(self._folder, "rank-%d.out" % command.rank), os.O_WRONLY)
        try:
            pid = process_tree.spawn(command.argv, command.env, output=output)
        finally:
            if own >= 0:
                os.close(own)
        self._pids[pid] = command.rank
        self._events.on_child(pid, functools.partial(self._process_ended, pid))

    def progress(self) -> tuple[rank_page.Progress, ...]:
        """Return how far each rank of this node has come."""
        now = self._events.now()
        return tuple(rank_page.read(fd, rank, now=now) for rank, fd in sorted(self._pages.items()))

    def end(self, done: Callable[[tuple[int, ...]], None], *, grace: bool) -> None:
        """End every process of this attempt, then call `done` with the pids that would not die.

        With `grace` the ranks get a SIGTERM and time to save. Every call is answered, once; one without grace ends the
        grace of an earlier one.
        """
        self._silent = True
        if self._ended is not None:
            done(self._ended)
            return
        self._waiting.append(done)
        if self._killing or (grace and self._grace):
            return
        if grace and self._ask():
            limit = max(self._node.grace_period / 2, self._node.grace_period - GRACE_MARGIN)
            self._look(self._events.now() + limit)
        else:
            self._kill()

    def _ask(self) -> bool:
        for pid in self._pids:
            process_tree.send(pid, signal.SIGTERM)
        others = self._heirs()
        for pid in others:
            self._others.send(pid, signal.SIGTERM)
        return bool(self._pids or others)

    def _heirs(self) -> tuple[int, ...]:
        """Return the ranks that nobody but we can ask: torchrun hands signals on while it lives, a script need not."""
        hands_on = self._node.launcher == "torchrun" and self._pids
        return () if hands_on else self._others.living()

    def _look(self, deadline: float) -> None:
        if (self._pids or self._heirs()) and self._events.now() < deadline:
            self._grace = self._events.after(POLL, lambda: self._look(deadline))
        else:
            self._kill()

    def _kill(self) -> None:
        self._killing = True
        if self._grace:
            self._grace.cancel()
            self._grace = None
        process_tree.end(self._events, self._close, spare=self._memory.shared)

    def _close(self, sweep: process_tree.Sweep) -> None:
        for source in self._sources.values():
            source.close()
        self._sources.clear()
        self._others.close()
        for fd in self._pages.values():
            os.close(fd)
        self._pages.clear()
        if self._event_fd >= 0:
            self._events.watch(self._event_fd)
            os.close(self._event_fd)
            self._event_fd = -1
        import shutil  # 10 ms that the start need not pay

        shutil.rmtree(self._folder, ignore_errors=True)
        self._clear_memory(sweep)
        if sweep.left:
            pids = ", ".join(map(str, sweep.left[:8]))
            self._sink.say("%d processes cannot be ended: pids %s" % (len(sweep.left), pids))
        self._ended = sweep.left
        waiting, self._waiting = self._waiting, []
        for done in waiting:
            done(sweep.left)

    def _clear_memory(self, sweep: process_tree.Sweep) -> None:
        swept = self._memory.sweep({*sweep.seen, *self._ranks} - set(sweep.left))
        if swept.removed:
            self._sink.say("removed what the ranks left in shared memory: %s" % _listed(swept.removed))
        if swept.left:
            self._sink.say("shared memory cannot be removed: %s" % _listed(swept.left))

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
                except (ValueError, RecursionError):
                    continue  # a script wrote into our pipe
                if isinstance(record, dict):
                    self._take(record)

    def _take(self, record: Mapping[str, object]) -> None:
        event, pid, rank, code = (record.get(name) for name in ("event", "pid", "rank", "exit_code"))
        if type(pid) is not int:  # bool is an int for isinstance
            return
        if event == "start" and isinstance(rank, int):
            self._started(pid, rank)
        elif event == "exception" and isinstance(rank, int):
            self._blame(pid, rank, record, exit_code=1, forced=self._pulled)
        elif event == "exit" and isinstance(rank, int) and isinstance(code, int):
            self._blame(pid, rank, record, exit_code=code, forced=self._pulled)
        elif event in ("exception", "last"):
            if len(self._last_words) < MAX_WORDS:
                self._last_words[pid] = record
        elif event in ("process", "child"):
            child = record.get("child_pid")
            place = record.get("local_rank") if event == "process" else record.get("index")
            if isinstance(child, int) and isinstance(place, int):  # never about a rank that the launcher ended
                rank = self._ranks.get(child, self._base + place)
                known = self._last_words.get(child, record) if code == 1 else record
                self._pulled = True
                self._blame(child, rank, known, exit_code=code if isinstance(code, int) else 1)

    def _started(self, pid: int, rank: int) -> None:
        if pid not in self._ranks and len(self._ranks) < pidfds.MAX_PIDS:
            self._ranks[pid] = rank
            if pid not in self._pids:
                self._others.watch(pid, functools.partial(self._rank_gone, pid, rank))

    def _rank_gone(self, pid: int, rank: int, code: Optional[int]) -> None:
        """Take note that a rank has ended that is no child of ours; `code` is None where its parent was quicker."""
        self._read_events()
        if self._silent:
            return
        spawned = self._node.launcher == "spawn"
        if code is not None and not (spawned and self._pulled and code == -signal.SIGTERM):
            self._rank_ended(pid, rank, code)
        elif code is None and not self._pulled and not spawned:
            self._unknown[pid] = rank
            self._events.after(LATE, functools.partial(self._settle, pid))
        if spawned and code != 0:
            self._pulled = True  # torch.multiprocessing.spawn ends the others before it says why

    def _settle(self, pid: int) -> None:
        """Take a rank that torchrun has reaped, and of which it says nothing, for one that exited with 0."""
        self._read_events()
        rank = self._unknown.pop(pid, None)
        if rank is not None and pid not in self._blamed:
            self._leaves(rank)

    def _leaves(self, rank: int) -> None:
        self._left = True
        if not self._silent:
            self._reports.left(rank)

    def _rank_ended(self, pid: int, rank: int, code: int) -> None:
        if code:
            words = self._last_words.get(pid) or self._written(rank) if code == 1 else {}
            self._blame(pid, rank, words, exit_code=code, forced=self._pulled)
        elif not self._pulled:
            self._leaves(rank)

    def _written(self, rank: int) -> Mapping[str, object]:
        """Return what torch's @record has written about a rank that is not torchrun's, in the shape of an event."""
        path = os.path.join(self._folder, direct.ERROR_FILE % (rank - self._base))
        try:
            with open(path, "rb") as file:
                message = json.loads(file.read(MAX_ERROR))["message"]
            trace = message["extraInfo"]["py_callstack"]
            return {"exception": message["message"][:MAX_TEXT], "traceback": trace[-MAX_TEXT:]}
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return {}

    def _blame(
        self, pid: int, rank: int, record: Mapping[str, object], *, exit_code: int, forced: bool = False
    ) -> None:
        """Report that the rank with `pid` failed, once; what the launcher's end of it `forced` is a consequence."""
        if pid not in self._blamed and not self._silent:
            self._blamed.add(pid)
            failure = self._failure(rank, record, exit_code)
            self._reports.failed(failure._replace(weight=root_cause.VICTIM) if forced else failure)

    def _failure(self, rank: Optional[int], record: Mapping[str, object], exit_code: int) -> root_cause.Failure:
        node = self._node
        exception, trace = record.get("exception"), record.get("traceback")
        failure = root_cause.Failure("exception", node.node_rank, node.pod_name, node.kube_node, rank=rank)
        if rank in self._pages:
            step = rank_page.read(self._pages[rank], rank, now=self._events.now()).step
            failure = failure._replace(last_step=step)
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
        else:
            for one in tuple(self._unknown):
                self._settle(one)
            if code and not self._blamed:
                self._reports.failed(self._launcher_failure(pid, code))
        self._failed = self._failed or code != 0
        if self._pids:
            return
        if self._failed:
            self._reports.over()
            return
        if not self._left:  # a script that is its only rank, or a kernel without pidfds
            self._leaves(self._base)
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


def _listed(paths: Sequence[str]) -> str:
    shown = ", ".join(repr(path)[1:-1] for path in paths[:3])
    return shown if len(paths) <= 3 else "%s and %d more" % (shown, len(paths) - 3)
