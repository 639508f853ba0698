"""What the ends of an attempt's processes mean: events and exit codes in, root_cause.Failure values out.

Ranks report through an event pipe (instrument/k8sddp_rank.py) before they go down, the kernel tells at once that one
has ended (pidfds.py), torchrun's agent reports exit codes up to 0.1 s later, and the launcher's own end closes the
account. Who failed first in the gang is decided elsewhere. A launcher that has seen a rank fail ends the others: from
then on what happens to them is a consequence.
"""

from __future__ import annotations

import functools
import signal
from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple, Optional

from k8sddp.worker import root_cause
from k8sddp.worker.contract import node_env
from k8sddp.worker.net import loop

from . import channels, pidfds

LATE = 0.3  # seconds in which torchrun tells of a failed rank that it has reaped; it looks every 0.1 s
MAX_WORDS = 4096  # processes whose last exception is remembered


class Listener(NamedTuple):
    """Who hears what of an attempt: `left`: a rank exited with 0; `over` comes once, unless all are `complete`."""

    failed: Callable[[root_cause.Failure], None]
    left: Callable[[int], None]
    complete: Callable[[], None]
    over: Callable[[], None]


class Reports:
    """The account of one attempt on one node; `started` hears of every process that says it is a rank."""

    def __init__(
        self,
        events: loop.Loop,
        node: node_env.NodeEnv,
        files: channels.Channels,
        *,
        listener: Listener,
        started: Callable[[int, int], None],
    ) -> None:
        self._events = events
        self._node = node
        self._files = files
        self._listener = listener
        self._on_start = started
        self._base = node.node_rank * node.nproc_per_node
        self._program = node.launcher if node.launcher == "torchrun" else "the script"
        self._ranks: dict[int, int] = {}  # pid -> rank, from the ranks' own word
        self._unknown: dict[int, int] = {}  # pid -> rank, of ranks that somebody else reaped before we saw their code
        self._blamed: set[int] = set()  # pids whose failure has been reported
        self._last_words: dict[int, Mapping[str, object]] = {}  # pid -> an exception that perhaps ends it
        self._left = False  # some rank exited with 0
        self._pulled = False  # the launcher has begun to end the other ranks
        self._failed = False  # some process of the launcher did not end with 0
        self._silent = False  # the attempt is being ended: what its processes do is no news

    @property
    def pids(self) -> Collection[int]:
        """Return the pids of all processes that said they are ranks."""
        return self._ranks.keys()

    def silence(self) -> None:
        """Report nothing from now on."""
        self._silent = True

    def read(self) -> None:
        """Take what has come through the event pipe."""
        for record in self._files.records():
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
            self._on_start(pid, rank)

    def rank_gone(self, pid: int, rank: int, code: Optional[int]) -> None:
        """Take note that a rank has ended that is no child of ours; `code` is None where its parent was quicker."""
        self.read()
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
        self.read()
        rank = self._unknown.pop(pid, None)
        if rank is not None and pid not in self._blamed:
            self._leaves(rank)

    def _leaves(self, rank: int) -> None:
        self._left = True
        if not self._silent:
            self._listener.left(rank)

    def _rank_ended(self, pid: int, rank: int, code: int) -> None:
        if code:
            words = self._last_words.get(pid) or self._files.written(rank) if code == 1 else {}
            self._blame(pid, rank, words, exit_code=code, forced=self._pulled)
        elif not self._pulled:
            self._leaves(rank)

    def process_ended(self, pid: int, rank: Optional[int], code: int, *, last: bool) -> None:
        """Take note of the end of a child of ours, no rank if `rank` is None; the `last` one closes the account."""
        if self._silent:
            return
        if rank is not None:
            self._rank_ended(pid, rank, code)
        else:
            for one in tuple(self._unknown):
                self._settle(one)
            if code and not self._blamed:
                self._listener.failed(self._launcher_failure(pid, code))
        self._failed = self._failed or code != 0
        if not last:
            return
        if self._failed:
            self._listener.over()
            return
        if not self._left:  # a script that is its only rank, or a kernel without pidfds
            self._leaves(self._base)
        self._listener.complete()

    def _blame(
        self, pid: int, rank: int, record: Mapping[str, object], *, exit_code: int, forced: bool = False
    ) -> None:
        """Report that the rank with `pid` failed, once; what the launcher's end of it `forced` is a consequence."""
        if pid not in self._blamed and not self._silent:
            self._blamed.add(pid)
            failure = self._failure(rank, record, exit_code)
            self._listener.failed(failure._replace(weight=root_cause.VICTIM) if forced else failure)

    def _failure(self, rank: Optional[int], record: Mapping[str, object], exit_code: int) -> root_cause.Failure:
        node = self._node
        exception, trace = record.get("exception"), record.get("traceback")
        failure = root_cause.Failure("exception", node.node_rank, node.pod_name, node.kube_node, rank=rank)
        failure = failure._replace(last_step=self._files.step(rank))
        if rank is None:
            failure = failure._replace(detail=self._program)
        if isinstance(exception, str):
            text = trace if isinstance(trace, str) else None
            return failure._replace(exit_code=exit_code, exception=exception, traceback=text)
        output = self._files.tail(rank)
        if exit_code < 0:
            return failure._replace(kind="signal", signal=root_cause.signal_name(-exit_code), traceback=output)
        return failure._replace(kind="exit", exit_code=exit_code, traceback=output)

    def _launcher_failure(self, pid: int, code: int) -> root_cause.Failure:
        single = self._node.launcher == "spawn" and self._node.nproc_per_node == 1
        words = self._last_words.get(pid, {}) if code == 1 else {}
        failure = self._failure(self._base if single else None, words, code)
        name = (failure.exception or "").partition(":")[0]
        if failure.rank is None and name in root_cause.INFRASTRUCTURE_TYPES:
            return failure._replace(kind="infrastructure", detail="%s: %s" % (self._program, failure.exception))
        if single and failure.traceback is None:
            return failure._replace(traceback=self._files.tail(None))
        return failure
