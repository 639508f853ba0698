"""What the ranks of one node write into during an attempt: output, pages, stacks, and the event pipe.

All of it lies in one folder, made for the attempt and removed with it. The pipes are named, because a process becomes a
rank only when it says so, and are held open for reading and writing: they never end, and opening one never blocks.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from typing import Optional

from k8sddp.worker.gang.progress import Rank
from k8sddp.worker.net import loop

from . import rank_output, rank_page, reported
from .launcher import direct

MAX_READS = 16  # of the event pipe in one round, so that a script that writes into it cannot hold the loop
MAX_ERROR = 1 << 20  # bytes of an error file
MAX_TEXT = 3000  # characters of what it says
EVENTS = "events"  # the same name as in instrument/k8sddp_events.py
ASKED, SAVING = "asked", "saving"  # the same names as in instrument/k8sddp_stop.py


class Channels:
    """The files of one attempt on one node; every descriptor is closed by `close`."""

    def __init__(self, events: loop.Loop, sink: rank_output.Sink, folder: str) -> None:
        self._events = events
        self._sink = sink
        self.folder = folder
        self._base = 0
        self.ranks = range(0)
        self._sources: dict[Optional[int], rank_output.Source] = {}  # by rank; None: the launcher's own output
        self._pages: dict[int, int] = {}  # by rank: the descriptor of its page
        self._reported: dict[int, reported.Reported] = {}  # by rank
        self._event_fd = -1
        self._event_lines = rank_output.LineSplitter()

    def open(self, node_rank: int, ranks: range, *, on_event: loop.Callback) -> int:
        """Make folder, pipes and pages; return where the launcher writes, which is the caller's to close.

        `on_event` is called whenever `records` has something. Raises OSError.
        """
        os.mkdir(self.folder, 0o700)
        self._base = ranks.start
        self.ranks = ranks
        for rank in ranks:
            fd = _fifo(self._output(rank))
            self._sources[rank] = rank_output.Source(self._events, self._sink, fd, prefix="[rank %d] " % rank)
        self._event_fd = _fifo(os.path.join(self.folder, EVENTS))
        self._events.watch(self._event_fd, read=on_event)
        read, write = os.pipe()
        self._sources[None] = rank_output.Source(self._events, self._sink, read, prefix="[node %d] " % node_rank)
        self._make_pages()
        return write

    def open_output(self, rank: int) -> int:
        """Return a descriptor that writes into the output of `rank`. Raises OSError."""
        return os.open(self._output(rank), os.O_WRONLY)

    def announce_stop(self, *, saving: bool) -> None:
        """Tell the launcher that this pod was asked to stop, and while ranks are `saving`, that it must not end them.

        By folders, which take no descriptor; where no disk is left the ranks must be asked all the same.
        """
        for name, change in ((ASKED, os.mkdir), (SAVING, os.mkdir if saving else os.rmdir)):
            with contextlib.suppress(OSError):
                change(os.path.join(self.folder, name))

    def records(self) -> Iterator[Mapping[str, object]]:
        """Yield the events that have come; what is no flat JSON object was written by a script and is left out."""
        for _ in range(MAX_READS):
            if self._event_fd < 0:
                return
            try:
                data = os.read(self._event_fd, 64 * 1024)
            except OSError:  # nothing is there, or it cannot be read now: the next event or end looks again
                return
            for line in self._event_lines.feed(data):
                try:
                    record = json.loads(line)
                except (ValueError, RecursionError):
                    continue
                if isinstance(record, dict) and not any(isinstance(one, (dict, list)) for one in record.values()):
                    yield record

    def progress(self) -> tuple[Rank, ...]:
        """Return how far each rank of this node has come."""
        now = self._events.now()
        found = (rank_page.read(self._pages.get(rank, -1), rank, now=now) for rank in self.ranks)
        told = self._reported
        return tuple(told[one.rank].added_to(one) if one.rank in told else one for one in found)

    def keep_report(self, rank: int, report: reported.Reported) -> None:
        """Keep the newest word of a rank's script, for `progress`."""
        if rank in self.ranks:
            self._reported[rank] = report

    def step(self, rank: Optional[int]) -> Optional[int]:
        """Return the last step of `rank`, None where nobody has counted."""
        return None if rank is None else rank_page.read(self._pages.get(rank, -1), rank, now=self._events.now()).step

    def stack_path(self, rank: int) -> str:
        """Return the file into which `rank` writes its stack when it is asked."""
        return os.path.join(self.folder, "rank-%d.stack" % rank)

    def tail(self, rank: Optional[int]) -> Optional[str]:
        """Return the last lines that `rank` (None: the launcher) has written."""
        source = self._sources.get(rank)
        if source is None:
            return None
        source.read_now()
        return source.tail() or None

    def written(self, rank: int) -> Mapping[str, object]:
        """Return what torch's @record has written about a rank that is not torchrun's, in the shape of an event."""
        path = os.path.join(self.folder, direct.ERROR_FILE % (rank - self._base))
        try:
            with open(path, "rb") as file:
                message = json.loads(file.read(MAX_ERROR))["message"]
            trace = message["extraInfo"]["py_callstack"]
            return {"exception": message["message"][:MAX_TEXT], "traceback": trace[-MAX_TEXT:]}
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return {}

    def close(self) -> None:
        """Show what is left of the output, close everything and remove the folder."""
        for source in self._sources.values():
            source.close()
        self._sources.clear()
        for fd in self._pages.values():
            os.close(fd)
        self._pages.clear()
        if self._event_fd >= 0:
            self._events.watch(self._event_fd)
            os.close(self._event_fd)
            self._event_fd = -1
        self._sink.teller.guarded("removing %s" % self.folder, self._remove_folder)()

    def _remove_folder(self) -> None:
        import shutil  # 10 ms that the start need not pay

        shutil.rmtree(self.folder, ignore_errors=True)

    def _make_pages(self) -> None:
        """Make the page of each rank; a rank whose page cannot be had goes on uncounted."""
        for rank in self.ranks:
            try:
                os.close(os.open(self.stack_path(rank), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
                self._pages[rank] = rank_page.create(os.path.join(self.folder, "rank-%d.page" % rank))
            except OSError as error:
                self._sink.say(
                    "steps of rank %d and those after it are not counted: no page in %s (%s)"
                    % (rank, self.folder, (error.strerror or str(error)).lower())
                )
                return

    def _output(self, rank: int) -> str:
        return os.path.join(self.folder, "rank-%d.out" % rank)


def _fifo(path: str) -> int:
    os.mkfifo(path, 0o600)
    return os.open(path, os.O_RDWR | os.O_NONBLOCK)
