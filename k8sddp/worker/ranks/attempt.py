"""One attempt on one node: starts the launcher, owns its processes, and ends all that grew from them.

What the ranks' events and ends mean is told by reports.py, what they write into is made by channels.py, and stopping.py
gives them time to save.

Nothing of an attempt outlives `end`: no process, descriptor, folder or shared memory, and nothing is reported any more
(on a shared machine only torch's cleaner of shared memory, for 2 s).
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Optional

from k8sddp.worker.contract import node_env
from k8sddp.worker.contract.stacks import RankStack
from k8sddp.worker.gang import messages
from k8sddp.worker.gang.progress import Rank
from k8sddp.worker.net import loop

from . import (
    channels,
    flight_records,
    launcher,
    looking,
    pidfds,
    process_tree,
    rank_output,
    reports,
    shm,
    stacks,
    stopping,
)
from .launcher import rank_env


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
        listener: reports.Listener,
    ) -> None:
        self._events = events
        self._sink = sink
        self._node = node
        self._memory = memory
        self._pids: dict[int, Optional[int]] = {}  # of the launcher's living processes -> rank, None where it is none
        self._others = pidfds.Pidfds(events)  # ranks that are no children of ours
        self._files = channels.Channels(events, sink, folder)
        self._reports = reports.Reports(
            events, node, self._files, listener=listener, started=self._rank_started, living=self._others.living
        )
        processes = stopping.Processes(self._pids, self._others, lambda: self._reports.pids)
        self._stopping = stopping.Stopping(events, node, processes, announce=self._files.announce_stop)
        self._looker = stacks.Looker(events, pids=self._by_rank, path=self._files.stack_path, send=processes.send)
        self.looking = looking.Looking(events, self.look, say=sink.say)  # for node 0
        self._waiting: list[Callable[[tuple[int, ...]], None]] = []  # who wants to hear that it has ended
        self._killing = False
        self._ended: Optional[tuple[int, ...]] = None  # the pids that would not die
        self._number = 0  # of the attempt

    def start(self, attempt: messages.Attempt, words: tuple[str, ...], *, place: rank_env.Place) -> None:
        """Make the pipes and start the launcher.

        Raises OSError when that is not possible.
        """
        node, self._number = self._node, attempt.number
        write = self._files.open(node.node_rank, node.ranks, on_event=self._reports.read)
        try:
            for command in launcher.commands(node, attempt, words, place=place):
                self._spawn(command, write)
        finally:
            os.close(write)

    def _spawn(self, command: rank_env.Command, output: int) -> None:
        own = -1
        if command.rank is not None:
            output = own = self._files.open_output(command.rank)
        try:
            pid = process_tree.spawn(command.argv, command.env, output=output)
        finally:
            if own >= 0:
                os.close(own)
        self._pids[pid] = command.rank
        self._events.on_child(pid, functools.partial(self._process_ended, pid))

    def progress(self) -> tuple[Rank, ...]:
        """Return how far each rank of this node has come."""
        return self._files.progress()

    def look(
        self, done: Callable[[tuple[RankStack, ...]], None], ranks: Optional[Collection[int]] = None
    ) -> Callable[[], None]:
        """Call `done` once with what these ranks of this node (None: all) do, as stacks.Looker does."""

        def seen(found: tuple[RankStack, ...]) -> None:
            known = {one.rank: one for one in self.progress()}
            done(
                tuple(
                    one._replace(phase=known[one.rank].phase, step=known[one.rank].step) if one.rank in known else one
                    for one in found
                )
            )

        return self._looker.look(seen, ranks)

    @property
    def over(self) -> bool:
        """Return whether nothing of it runs any more."""
        return self._ended is not None

    @property
    def separate(self) -> bool:
        """Return whether the ranks of this node have never been in a process group, as far as they could tell us."""
        return self._reports.separate

    def end(self, done: Callable[[tuple[int, ...]], None], *, grace: bool) -> None:
        """End every process of this attempt, then call `done` with the pids that would not die.

        With `grace` the ranks get a SIGTERM and time to save. Every call is answered, once; one without grace ends the
        grace of an earlier one.
        """
        self._reports.silence()
        self._reports.read()  # who is a rank
        if self._ended is not None:
            done(self._ended)
            return
        self._waiting.append(done)
        if self._killing or (grace and self._stopping.begun):
            return
        if grace:
            self._stopping.begin(self._kill)
        else:
            self._kill()

    def _by_rank(self) -> Mapping[int, Optional[int]]:
        """Return the process of each rank of this node, None where it has not started."""
        self._reports.read()
        started = {rank: pid for pid, rank in self._pids.items() if rank is not None}
        return {rank: self._reports.newest.get(rank, started.get(rank)) for rank in self._node.ranks}

    def _kill(self) -> None:
        self._killing = True
        self._stopping.cancel()
        process_tree.end(self._events, self._close, spare=self._memory.shared)

    def _close(self, sweep: process_tree.Sweep) -> None:
        self._sink.teller.guarded("keeping torch's flight records", self._keep_flight_records)()
        self._files.close()
        self._others.close()
        for pid in self._reports.pids:
            self._events.forget_child(pid)
        self._sink.teller.guarded("removing what the ranks left in shared memory", self._clear_memory)(sweep)
        if sweep.left:
            pids = ", ".join(map(str, sweep.left[:8]))
            self._sink.say("%d processes cannot be ended: pids %s" % (len(sweep.left), pids))
        self._ended = sweep.left
        waiting, self._waiting = self._waiting, []
        for done in waiting:
            done(sweep.left)

    def _keep_flight_records(self) -> None:
        ranks, scratch = self._files.ranks, self._node.scratch_dir
        for line in flight_records.keep(self._files.folder, scratch, ranks, self._number):
            self._sink.say(line)

    def _clear_memory(self, sweep: process_tree.Sweep) -> None:
        swept = self._memory.sweep({*sweep.seen, *self._reports.pids} - set(sweep.left))
        if swept.removed:
            self._sink.say("removed what the ranks left in shared memory: %s" % _listed(swept.removed))
        if swept.left:
            self._sink.say("shared memory cannot be removed: %s" % _listed(swept.left))

    def _rank_started(self, pid: int) -> None:
        if pid not in self._pids:
            gone = functools.partial(self._rank_gone, pid)
            self._others.watch(pid, gone)
            self._events.on_child(pid, gone)  # which it becomes when its parent ends
        self._stopping.rank_started(pid)

    def _rank_gone(self, pid: int, code: Optional[int]) -> None:
        self._events.forget_child(pid)
        self._reports.rank_gone(pid, code)

    def _process_ended(self, pid: int, code: int) -> None:
        self._reports.read()
        rank = self._pids.pop(pid)
        self._reports.process_ended(pid, rank, code, last=not self._pids)


def _listed(paths: Sequence[str]) -> str:
    shown = ", ".join(repr(path)[1:-1] for path in paths[:3])
    return shown if len(paths) <= 3 else "%s and %d more" % (shown, len(paths) - 3)
