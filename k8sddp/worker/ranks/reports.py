"""What the ends of an attempt's processes mean: events and exit codes in, root_cause.Failure values out.

Ranks report through an event pipe (instrument/k8sddp_events.py) before they go down, the kernel tells at once that one
has ended (pidfds.py), torchrun's agent reports exit codes up to 0.1 s later, and the launcher's own end closes the
account. Who failed first in the gang is decided elsewhere. A launcher that has seen a rank fail ends the others: from
then on what happens to them is a consequence.

Under spawn the script starts its ranks as it likes: it may be one itself, start one pool of them after the other, and
end before them. So a process is the rank that it says to be until another one says so, and whoever reaps a rank before
we have seen its exit code tells us.
"""

from __future__ import annotations

import functools
import signal
from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple, Optional

from k8sddp.worker import root_cause
from k8sddp.worker.contract import exit_codes, node_env
from k8sddp.worker.net import loop

from . import channels, pidfds, reported

LATE = 0.3  # seconds in which torchrun tells of a failed rank that it has reaped; it looks every 0.1 s
LOOK = 0.05  # seconds between two looks at ranks that have outlived their script
MAX_WORDS = 4096  # processes whose last exception is remembered
PULLS = (-signal.SIGTERM, -signal.SIGKILL)  # how a launcher ends the other ranks


class Listener(NamedTuple):
    """Who hears what of an attempt: `over` comes once, unless all are `complete`.

    `left`: a rank exited with 0; `back`: those who left have successors.
    """

    failed: Callable[[root_cause.Failure], None]
    left: Callable[[int], None]
    back: Callable[[], None]
    complete: Callable[[], None]
    over: Callable[[], None]


class Reports:
    """The account of one attempt on one node.

    `started` hears of every process that says it is a rank, or will be one; `living` tells which of them live.
    """

    def __init__(
        self,
        events: loop.Loop,
        node: node_env.NodeEnv,
        files: channels.Channels,
        *,
        listener: Listener,
        started: Callable[[int], None],
        living: Callable[[], Collection[int]],
    ) -> None:
        self._events = events
        self._node = node
        self._files = files
        self._listener = listener
        self._on_start = started
        self._living = living
        self._spawned = node.launcher == "spawn"
        self._base = node.ranks.start
        self._program = node.launcher if node.launcher == "torchrun" else "the script"
        self._ranks: dict[int, int] = {}  # pid -> rank, from the ranks' own word
        self.newest: dict[int, int] = {}  # rank -> pid, of the process that is this rank now
        self._starting: dict[int, int] = {}  # pid -> rank that the script wants it to be, before it has joined
        self._unknown: dict[int, int] = {}  # pid -> rank, of ranks that somebody else reaped before we saw their code
        self._gone: set[int] = set()  # pids of ranks whose exit code is known
        self._blamed: set[int] = set()  # pids whose failure has been reported
        self._refusals: set[object] = set()  # sentences
        self._told = False  # a failure has been reported that is not the launcher's doing
        self._last_words: dict[int, Mapping[str, object]] = {}  # pid -> an exception that perhaps ends it
        self._away: set[int] = set()  # ranks that exited with 0
        self._joined = False
        self._launcher_ends_ranks = False  # it has begun to: they do not fail by themselves
        self._failed = False  # some process of the launcher did not end with 0
        self._ending = False  # the attempt is being ended: what its processes do is no news

    @property
    def separate(self) -> bool:
        """Return whether no process group of the job's size has formed; a rank without our hooks would not tell."""
        return not self._joined and (self._spawned or bool(self._ranks))

    @property
    def pids(self) -> Collection[int]:
        """Return the pids of all processes that said they are ranks."""
        return self._ranks.keys() | self._starting.keys()

    def silence(self) -> None:
        """Report nothing from now on."""
        self._ending = True

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
        elif event == "starting":
            self._starts(pid, record.get("local_rank"))
        elif event == "joined":
            self._joined = True
        elif event == "refused":
            self._refused(pid, rank, record.get("detail"))
        elif event == "exception" and isinstance(rank, int):
            self._blame(pid, rank, record, exit_code=1)
        elif event == "exit" and isinstance(rank, int) and isinstance(code, int):
            self._blame(pid, rank, record, exit_code=code)
        elif event in ("exception", "last"):
            if len(self._last_words) < MAX_WORDS:
                self._last_words[pid] = record
            if event == "exception" and self._spawned and pid not in self._starting:
                self._launcher_ends_ranks = True  # the script itself fails: what it does to its ranks is its doing
        elif event in ("process", "child", "ended"):
            self._take_child(event, record)
        elif event == "report" and pid in self._ranks:
            self._files.keep_report(self._ranks[pid], reported.of(pid, record))

    def _take_child(self, event: object, record: Mapping[str, object]) -> None:
        """Take what the launcher tells of a child: never about a rank that it has ended itself, but for `ended`."""
        child, code = record.get("child_pid"), record.get("exit_code")
        place = record.get("local_rank") if event == "process" else record.get("index")
        if not isinstance(child, int):
            return
        if event == "ended" and isinstance(code, int):
            self._take_end(child, code)
            self._launcher_ends_ranks = self._launcher_ends_ranks or (code != 0 and child in self._ranks)
        elif event != "ended" and isinstance(place, int):
            rank = self._ranks.get(child, self._base + place)
            code = code if isinstance(code, int) else 1
            self._blame(child, rank, self._fitting_words(child, code) or record, exit_code=code, forced=False)
            self._launcher_ends_ranks = True

    def _started(self, pid: int, rank: int) -> None:
        if pid in self._gone:  # its number has been given to another process
            self._gone.discard(pid)
            self._blamed.discard(pid)
            self._last_words.pop(pid, None)
            self._ranks.pop(pid, None)
        if pid in self._ranks or len(self._ranks) >= pidfds.MAX_PIDS:
            return
        self._ranks[pid] = rank
        self.newest[rank] = pid
        if rank in self._away:
            self._away.clear()  # a group forms of all ranks or not at all
            self._listener.back()
        self._on_start(pid)

    def _starts(self, pid: int, local_rank: object) -> None:
        """Watch a process that the script has told which rank it will be: it may fail before it has joined."""
        valid = isinstance(local_rank, int) and 0 < local_rank < self._node.nproc_per_node
        if self._spawned and valid and len(self._starting) < pidfds.MAX_PIDS:
            self._starting[pid] = self._base + int(str(local_rank))
            self._on_start(pid)

    def _refused(self, pid: int, rank: object, detail: object) -> None:
        """Report a rank that ended itself because its group is not the job's; the others of the node say the same."""
        known = detail in self._refusals
        if pid in self._blamed or self._ending or not isinstance(detail, str):
            return
        self._blamed.add(pid)
        self._refusals.add(detail)
        self._told = self._launcher_ends_ranks = True
        if known:
            return
        failure = self._failure(rank if isinstance(rank, int) else None, {}, exit_codes.BAD_CONFIGURATION)
        self._listener.failed(failure._replace(kind="configuration", detail=detail, traceback=None))

    def rank_gone(self, pid: int, code: Optional[int]) -> None:
        """Take note that a rank has ended that is no child of ours; `code` is None where its parent was quicker."""
        self.read()
        self._take_end(pid, code)

    def _take_end(self, pid: int, code: Optional[int]) -> None:
        rank = self._ranks.get(pid, self._starting.get(pid))
        if self._ending or rank is None or pid in self._gone:
            return
        if code is not None:
            self._rank_ended(pid, rank, code)
        elif not self._launcher_ends_ranks:
            self._unknown[pid] = rank
            self._events.after(LATE, functools.partial(self._settle, pid))

    def _settle(self, pid: int) -> None:
        """Take a rank that its parent has reaped, and of which it says nothing, for one that exited with 0."""
        self.read()
        rank = self._unknown.pop(pid, None)
        if rank is not None and pid not in self._blamed and pid not in self._gone:
            self._leaves(pid, rank)

    def _leaves(self, pid: int, rank: int) -> None:
        if self.newest.get(rank, pid) == pid and pid not in self._starting.keys() - self._ranks.keys():
            self._away.add(rank)
            if not self._ending:
                self._listener.left(rank)

    def _rank_ended(self, pid: int, rank: int, code: int) -> None:
        self._gone.add(pid)
        if code:
            words = self._fitting_words(pid, code) or (self._files.written(rank) if code == 1 else {})
            forced = self._launcher_ends_ranks and (code > 0 or code in PULLS)
            if not (self._spawned and forced and code == -signal.SIGTERM):
                self._blame(pid, rank, words, exit_code=code, forced=forced)
        elif not self._launcher_ends_ranks:
            self._leaves(pid, rank)

    def process_ended(self, pid: int, rank: Optional[int], code: int, *, last: bool) -> None:
        """Take note of the end of a child of ours, no rank if `rank` is None; the `last` one closes the account."""
        if self._ending:
            return
        if rank is None and self._spawned:
            rank = self._ranks.get(pid)  # the script has become one
        if rank is not None:
            self._rank_ended(pid, rank, code)
        else:
            for one in tuple(self._unknown):
                self._settle(one)
            if code and not self._told:
                self._told = True
                self._listener.failed(self._launcher_failure(pid, code))
        self._failed = self._failed or code != 0
        if last:
            self._close()

    def _close(self) -> None:
        """Close the account, when no rank lives that the script has started and not waited for."""
        if self._ending:
            return
        if self._spawned and not self._failed and self._living():
            self._events.after(LOOK, self._close)
            return
        for one in tuple(self._unknown):
            self._settle(one)
        if self._failed or self._blamed:
            self._listener.over()
            return
        if not self._away:  # a script that is its only rank, or a kernel without pidfds
            self._leaves(self.newest.get(self._base, 0), self._base)
        self._listener.complete()

    def _fitting_words(self, pid: int, code: int) -> Mapping[str, object]:
        """Return the exception that ended a process which left with `code`, so far as it has told one."""
        words = self._last_words.get(pid, {})
        return words if words.get("exit_code", 1) == code else {}

    def _blame(
        self,
        pid: int,
        rank: int,
        record: Mapping[str, object],
        *,
        exit_code: int,
        forced: Optional[bool] = None,
    ) -> None:
        """Report that the rank with `pid` failed, once; what the launcher's end of it `forced` is a consequence."""
        if pid not in self._blamed and not self._ending:
            forced = self._launcher_ends_ranks if forced is None else forced
            self._blamed.add(pid)
            self._told = self._told or not forced
            failure = self._failure(rank, record, exit_code)
            self._listener.failed(failure._replace(weight=root_cause.VICTIM) if forced else failure)

    def _failure(self, rank: Optional[int], record: Mapping[str, object], exit_code: int) -> root_cause.Failure:
        node = self._node
        exception, trace, origin = (record.get(name) for name in ("exception", "traceback", "origin"))
        failure = root_cause.Failure("exception", node.node_rank, node.pod_name, node.kube_node, rank=rank)
        failure = failure._replace(last_step=self._files.step(rank))
        if rank is None:
            failure = failure._replace(detail=self._program)
        if isinstance(exception, str):
            failure = failure._replace(origin=origin if isinstance(origin, str) else None)
            text = trace if isinstance(trace, str) else None
            return failure._replace(exit_code=exit_code, exception=exception, traceback=text)
        output = self._files.tail(rank)
        if exit_code < 0:
            return failure._replace(kind="signal", signal=root_cause.signal_name(-exit_code), traceback=output)
        return failure._replace(kind="exit", exit_code=exit_code, traceback=output)

    def _launcher_failure(self, pid: int, code: int) -> root_cause.Failure:
        single = self._node.launcher == "spawn" and self._node.nproc_per_node == 1
        failure = self._failure(self._base if single else None, self._fitting_words(pid, code), code)
        name = (failure.exception or "").partition(":")[0]
        if failure.rank is None and name in root_cause.INFRASTRUCTURE_TYPES:
            return failure._replace(kind="infrastructure", detail="%s: %s" % (self._program, failure.exception))
        if single and failure.traceback is None:
            return failure._replace(traceback=self._files.tail(None))
        return failure
