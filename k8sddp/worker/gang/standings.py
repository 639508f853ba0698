"""How far each rank of the gang is, as node 0 has last been told: what /status tells and hangs are judged by. Pure.

Each row stands until its member tells of a newer one, and is as old as the member's last word: a member that speaks
every interval and tells of no change says that nothing has changed. Ages are those of that moment and do not grow by
themselves: what a rank has done since then nobody knows. Whether a member's word is fresh enough to decide by, `fresh`
tells; one that is not has lost its connection, is stopped, or has more to send than its network takes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Optional

from . import progress

FRESH = 3  # intervals


class Standing(NamedTuple):
    """One rank at the moment `heard` when its member spoke last, unchanged for `still` seconds by then."""

    node_rank: int
    heard: float
    still: float
    rank: progress.Rank


class Standings:
    """The ranks of the attempt that runs, or ran last."""

    def __init__(self, nnodes: int, nproc_per_node: int) -> None:
        self._nproc = nproc_per_node
        self._ranks = nnodes * nproc_per_node
        self._fresh = FRESH * progress.interval(nnodes)
        self._told: dict[int, tuple[progress.Told, float]] = {}  # by rank: its row, and when it came
        self._heard: dict[int, float] = {}  # by node rank

    def begin(self) -> None:
        """Forget all: another attempt starts."""
        self._told.clear()
        self._heard.clear()

    def take(self, node_rank: int, rows: Sequence[object], now: float) -> None:
        """Take what a member tells; of what is not about its own ranks nothing is believed."""
        self._heard[node_rank] = now
        for row in rows:
            told = progress.decode(row)
            if told is not None and told.rank.rank // self._nproc == node_rank and told.rank.rank < self._ranks:
                self._told[told.rank.rank] = told, now

    def fresh(self, standing: Standing, now: float) -> bool:
        """Return whether its member has spoken within the last FRESH intervals."""
        return now - standing.heard <= self._fresh

    def of(self, rank: int) -> Optional[Standing]:
        """Return how far a rank is, None where nobody has told."""
        known = self._told.get(rank)
        if known is None:
            return None
        (one, still), came = known
        node_rank = rank // self._nproc
        heard = self._heard[node_rank]
        since = heard - came
        if since > 0.0:
            age, waiting = one.age, one.waiting
            one = one._replace(
                age=None if age is None else age + since, waiting=None if waiting is None else waiting + since
            )
        return Standing(node_rank, heard, still + since, one)

    def __iter__(self) -> Iterator[Standing]:
        """Yield all that is known, by rank."""
        for rank in sorted(self._told):
            standing = self.of(rank)
            if standing is not None:
                yield standing

    def rows(self, first: int = 0) -> Sequence[progress.Rank]:
        """Return the ranks from `first` on as they were when they changed last, with ages that have not grown since."""
        return [self._told[rank][0].rank for rank in sorted(self._told) if rank >= first]
