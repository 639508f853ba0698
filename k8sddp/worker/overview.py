"""How far the ranks are: read on every node, told to node 0, and put together there for whoever asks.

While ranks run, every `progress.interval` this node reads its ranks' pages and tells node 0 what has changed. Node 0
looks for stragglers then. Nothing is decided here, and nothing here may end a training or stand in the way of what
decides: what goes wrong is said once (net/telling.py), and a connection that has more to send than its network takes is
not given this as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Optional

from . import status
from .contract import node_env
from .gang import messages, progress, standings, stragglers, summary
from .net import loop, telling

SHOWN = 128  # ranks that are told unasked: 70 kB; of a larger gang node 0's own, and those worth a look
REUSED = 16384  # ranks for which a summary may be a second old: making one takes some 1 us for each


class Overview:
    """The ranks of the attempt that runs: this node's own, and on node 0, which has `gang`, all."""

    def __init__(
        self,
        events: loop.Loop,
        node: node_env.NodeEnv,
        *,
        gang: Optional[standings.Standings],
        clear: Callable[[], bool],
        tell: Callable[[messages.Message], None],
        say: Callable[[str], None],
    ) -> None:
        self._events = events
        self._node = node
        self._gang = gang
        self._clear = clear  # whether node 0 takes a message now
        self._tell = tell
        self._say = say
        self._faults = telling.Teller(say)
        self._interval = progress.interval(node.nnodes)
        self._timer: Optional[loop.Timer] = None
        self._attempt: Optional[int] = None
        self._read: Callable[[], Sequence[progress.Rank]] = tuple
        self._begin()

    def _begin(self) -> None:
        self._teller = progress.Teller()
        self._paces = summary.Paces()
        self._watch = stragglers.Watch(self._node.nproc_per_node)
        self._summary: Optional[tuple[summary.Summary, float]] = None  # the last one, and when it was made

    def begin(self, attempt: int, read: Callable[[], Sequence[progress.Rank]]) -> None:
        """Tell of the ranks that `read` returns from now on; the nodes of a gang take turns within the interval."""
        self.end()
        self._begin()
        self._attempt, self._read = attempt, read
        node = self._node
        self._timer = self._events.after(self._interval * (node.node_rank + 1) / node.nnodes, self._beat)

    def end(self) -> None:
        """Tell of no rank any more."""
        if self._timer:
            self._timer.cancel()
        self._timer, self._read = None, tuple

    def _beat(self) -> None:
        self._timer = self._events.after(self._interval, self._beat)
        self._tell_now()

    def first(self, then: Callable[[Sequence[object]], None]) -> Callable[[Sequence[object]], None]:
        """Return `then`, before which node 0 hears what has changed: it must not judge new stacks by old counts."""

        def call(rows: Sequence[object]) -> None:
            self._tell_now()
            then(rows)

        return call

    def _tell_now(self) -> None:
        found: list[messages.Message] = []
        self._faults.guarded("telling how far the ranks are", lambda: found.extend(self._look()))()
        for message in found:
            self._tell(message)

    def _look(self) -> Iterator[messages.Message]:
        ranks, now = self._read(), self._events.now()
        self._paces.take(ranks, now)
        if self._gang is not None:
            for line in self._watch.look(self._gang.rows(), now):
                self._say(line)
        if self._attempt is not None and self._clear():
            rows = self._teller.rows(ranks, now)
            for first in range(0, max(1, len(rows)), progress.MAX_ROWS):
                yield messages.Progress(self._attempt, rows[first : first + progress.MAX_ROWS])

    # What is told of them -----------------------------------------------------------------------------------------

    @property
    def stragglers(self) -> Sequence[stragglers.Straggler]:
        """Return the ranks that hold the others up, the costliest first; on node 0 alone."""
        return self._watch.found if self._timer is not None else ()

    @property
    def world_size(self) -> int:
        """Return the number of ranks, known or not."""
        return self._node.nnodes * self._node.nproc_per_node

    def summary(self) -> Optional[summary.Summary]:
        """Return how far the gang is (on other nodes than node 0 this node), None while no ranks run."""
        if self._timer is None:
            return None
        now = self._events.now()
        if self._summary is None or now - self._summary[1] > self.world_size / REUSED:
            own, last = self._read(), self._watch.last
            self._paces.take(own, now)  # else the steps since the last beat would look like none
            ranks = [*own, *(self._gang.rows(self._node.nproc_per_node) if self._gang else ())]
            found = summary.summarize(
                ranks, self._paces, attempt=self._attempt, slowest_rank=last.slowest if last else None, now=now
            )
            self._summary = found, now
        return self._summary[0]

    def ranks(self, chosen: Optional[range] = None) -> Sequence[status.Seen]:
        """Return the ranks that are known among those chosen, or if none are the ones that are told unasked."""
        own, now = self._read(), self._events.now()
        found = {one.rank: status.Seen(self._node.node_rank, 0.0, one) for one in own}
        if self._gang is not None and self._timer is not None:
            for rank in self._unasked() if chosen is None else chosen:
                standing = self._gang.of(rank)
                if standing is not None:
                    found.setdefault(rank, status.Seen(standing.node_rank, now - standing.heard, standing.rank))
        return [found[rank] for rank in sorted(found) if chosen is None or rank in chosen]

    def _unasked(self) -> Sequence[int]:
        if self.world_size <= SHOWN:
            return range(self.world_size)
        told = self.summary()
        notable = [told.last_rank, told.slowest_rank] if told else []
        return [*(one.rank for one in self.stragglers[:SHOWN]), *(rank for rank in notable if rank is not None)]
