"""Who holds up the gang: the rule by which a rank is called hung, over counters and looks. Pure.

First the evidence: somebody has waited for the others for `limit` seconds. Where nobody waits there is no hang, however
long an evaluation, a save or a compiler takes. Only then it is asked who is waited for. The first of these that is true
of some rank names it:

1. its process is gone, stopped (T), dead (Z), or in an uninterruptible system call (D) in every look; who writes
   meanwhile is on a slow disk, and spared as below;
2. it is behind: the smallest (group, forward entered, forward left, step, backward, collectives), and does not wait;
3. it does not wait while others do: its innermost frames are neither torch.distributed's nor a backward's;
4. it is behind all others and waits itself: the ranks do not call the same collectives.

Else all wait, and it cannot be told for whom. 3 stands before 4 because counters of ranks with different work (rank 0
evaluates alone) may differ for good. Who is in code of its own and still moves is spared until it has been waited for
twice as long. CPU time and what the kernel waits in are no evidence: a rank that waits on a GPU may spin.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Optional

from k8sddp.worker.contract import wording

from .looks import GONE, UNKNOWN, UNSEEN, Seen

WRITES = 4096  # bytes between two looks: more than a few lines of a log
COLLECTIVES = -1  # of Row.order: the count of collectives, in which ranks may differ for good

FRAMELESS = "Work.wait"  # C++: the innermost frame is its caller's

_DISK = "D"

# States of /proc/PID/stat (proc_pid_stat(5)) in which a process does nothing
_STILL: Mapping[str, str] = {
    "T": "its process is stopped (SIGSTOP)",
    "t": "its process is held by a debugger",
    "Z": "its process has ended and is not reaped",
    "X": "its process has ended",
    _DISK: "its process is in an uninterruptible system call",
    GONE: "its process is gone",
}
_ENDED = ("Z", "X", GONE)


class Row(NamedTuple):
    """How far a rank is, as node 0 knows it; times are node 0's own."""

    rank: int
    order: tuple[int, ...] = ()  # what grows with its work; empty where nobody counts
    inside: str = ""  # the collective, `backward` or `init_process_group` in which it is
    since: Optional[float] = None  # when it entered that
    changed: float = 0.0  # when anything of the above, its batches or its own reports has changed last
    step: Optional[int] = None


class Finding(NamedTuple):
    """Who holds up the gang: `ranks` are none where that cannot be told, else the first is named, and the rest alike.

    `works`: it moves, and is spared for a while; `again` is when to look again if only a change of late speaks for it.
    """

    ranks: tuple[int, ...]
    detail: str  # what it does, and what the others do meanwhile
    waited: float  # seconds, by who has waited longest
    step: Optional[int] = None
    works: bool = False
    again: Optional[float] = None


def waited(rows: Sequence[Row], limit: float, now: float, *, blocking: bool, awake: float) -> Optional[float]:
    """Return for how long a rank has waited for others, None where that is no evidence of a hang.

    `blocking`: whoever waits is inside something that its row names, as under gloo. Under NCCL a rank enqueues its
    collectives and waits later, anywhere; there it is evidence too that nobody moves while some are ahead of others.
    What was before `awake`, when node 0 itself did not run or the attempt had not begun, counts for nothing.
    """
    longest = max((now - max(row.since, awake) for row in rows if row.since is not None), default=0.0)
    if longest < limit and not blocking:
        counted = [row for row in rows if row.order]
        still = all(now - max(row.changed, awake) >= limit for row in counted)
        if still and len({row.order for row in counted}) > 1:
            longest = now - max(max(counted, key=lambda row: row.order).changed, awake)
    return longest if longest >= limit else None


def next_evidence(rows: Sequence[Row], limit: float, now: float, *, blocking: bool) -> float:
    """Return until when there is no evidence, where there is none now."""
    since = [row.since for row in rows if row.since is not None]
    if rows and not blocking:
        since.append(max(row.changed for row in rows))
    return min(since, default=now) + limit


def living(rows: Sequence[Row], looks: Sequence[Mapping[int, Seen]]) -> Sequence[Row]:
    """Return the rows of processes that are there: who has left, its work being done, waits for nobody."""
    return [row for row in rows if not all(row.rank in look and look[row.rank].state in _ENDED for look in looks)]


def judge(
    rows: Sequence[Row], looks: Sequence[Mapping[int, Seen]], limit: float, now: float, *, long: float, blocking: bool
) -> Optional[Finding]:
    """Return who holds up the gang that has waited for `long` seconds; `looks` are at least two, in their order.

    None: nobody waits as the stacks show, so there is nothing to be told; a backward may run code of the user's.
    """
    gang = _Gang(rows, looks, limit, now, long)
    dead = gang.dead()
    if dead:
        return gang.named(dead, gang.death(dead[0]), spare=all(map(gang.on_disk, dead)))
    if blocking and not gang.waiting:
        return None
    ranks = gang.waited_for(blocking=blocking)
    if ranks:
        return gang.named(ranks, gang.place(ranks[0]), spare=True)
    last = gang.smallest(gang.rows)
    if len(last) == 1 and gang.apart(last[0]):
        return gang.desync(last[0])
    moves = any(map(gang.moves, gang.rows))  # a slow start: they meet for the first time
    return Finding((), "%s, the longest for %.0f s" % (gang.others(()), long), long, works=moves)


class _Gang:
    """Rows and looks of one moment, asked from several sides."""

    def __init__(
        self, rows: Sequence[Row], looks: Sequence[Mapping[int, Seen]], limit: float, now: float, long: float
    ) -> None:
        self.rows = {row.rank: row for row in sorted(rows)}
        self._looks = looks
        self._limit = limit
        self._now = now
        self._long = long
        self.waiting = [rank for rank in self.rows if self._waits(rank)]

    def dead(self) -> list[int]:
        """Return the ranks whose process does nothing."""
        return [rank for rank in self.rows if all(rank in look and look[rank].state in _STILL for look in self._looks)]

    def on_disk(self, rank: int) -> bool:
        """Return whether a rank that does nothing may be waiting for a disk."""
        return self._looks[-1][rank].state == _DISK

    def waited_for(self, *, blocking: bool) -> list[int]:
        """Return the ranks that are waited for and do not wait themselves."""
        outside = {rank: row for rank, row in self.rows.items() if rank not in self.waiting}
        last = self.smallest(self.rows)
        if outside.keys() >= set(last):
            return last if len(last) < len(self.rows) else []
        # ahead of one that waits: under NCCL perhaps a waiter, too, unless it moves
        return self.smallest(outside) if blocking or any(map(self.moves, outside)) else []

    def smallest(self, rows: Mapping[int, Row]) -> list[int]:
        """Return the ranks that have come least far."""
        least = min((row.order for row in rows.values()), default=())
        return [rank for rank, row in rows.items() if row.order == least]

    def apart(self, rank: int) -> bool:
        """Return whether a rank is where no other is, by more than a count in which they may differ for good."""
        own, others = self.rows[rank], [row for row in self.rows.values() if row.rank != rank]
        counted = all(row.order for row in self.rows.values())
        return counted and all(
            own.inside != row.inside or own.order[:COLLECTIVES] != row.order[:COLLECTIVES] for row in others
        )

    def named(self, ranks: Sequence[int], detail: str, *, spare: bool = False) -> Finding:
        """Return the finding about `ranks`; those that may be spared are, if they move."""
        row = self.rows[ranks[0]]
        moves = spare and any(map(self.moves, ranks))
        lately = spare and self._lately(row)
        alike = "; so %s %s" % ("do" if len(ranks) > 2 else "does", wording.ranks(ranks[1:])) if len(ranks) > 1 else ""
        return Finding(
            tuple(ranks),
            "%s%s; %s" % (detail, alike, self.others(ranks)),
            self._long,
            row.step,
            works=moves or lately,
            again=row.changed + self._limit if lately and not moves else None,
        )

    def death(self, rank: int) -> str:
        """Return why a rank does nothing, for how long, and where."""
        why = _STILL[self._looks[-1][rank].state]
        return "%s, %s%s%s" % (why, self._for_how_long(rank), self._at(rank, ", in %s"), self._step(rank))

    def place(self, rank: int) -> str:
        """Return for how long a rank has been where."""
        at = self._at(rank, "in %s") or ("inside nothing that waits" if self.rows[rank].order else "on its way to them")
        return "%s it has been %s%s" % (self._for_how_long(rank), at, self._step(rank))

    def desync(self, rank: int) -> Finding:
        """Return the finding about a rank that waits in another collective than the others."""
        inside = self.rows[rank].inside or "torch.distributed"
        where = "inside %s%s%s" % (inside, self._at(rank, ", in %s"), self._step(rank))
        text = "%s it has been %s, behind the others; %s" % (self._for_how_long(rank), where, self.others((rank,)))
        if any(row.inside != inside for row in self.rows.values()):
            text += ": they do not call the same collectives"
        return Finding((rank,), text, self._long, self.rows[rank].step, works=self.moves(rank))

    def others(self, but: Sequence[int]) -> str:
        """Return what the other ranks wait in."""
        waits = [rank for rank in self.waiting if rank not in but]
        rest = len(self.rows) - len(but)
        places = Counter(self.rows[rank].inside or "torch.distributed" for rank in waits).most_common()
        if not waits:
            return "%s not seen to wait" % ("the others are" if but else "the ranks are")
        if len(places) > 1:
            return "%d ranks wait: %s" % (len(waits), ", ".join("%d in %s" % (n, at) for at, n in places))
        count = "%d ranks wait" % len(waits) if len(waits) > 1 else "rank waits"
        who = "%s %s" % ("the other" if but else "all", count)
        if len(waits) < rest:
            who = "%s %s" % (wording.ranks(waits), "wait" if len(waits) > 1 else "waits")
        return "%s in %s" % (who, places[0][0])

    def _waits(self, rank: int) -> bool:
        """Return whether a rank waits for others: by its stack, where there is one, else by its counters."""
        inside, seen = self.rows[rank].inside, self._looks[-1].get(rank)
        if seen is None or not seen.stack or inside == FRAMELESS:
            return bool(inside)
        return seen.waits  # code of the user's may run in a backward, and DDP's constructor may import for seconds

    def moves(self, rank: int) -> bool:
        """Return whether a rank does something between the looks, or may, because nobody can look at it."""
        seen = [look[rank] for look in self._looks if rank in look]
        if seen and all(one.state == UNSEEN for one in seen):
            return True
        written = [one.written for one in seen if one.written != UNKNOWN]
        steps = zip(written, written[1:])  # noqa: B905, RUF007  itertools.pairwise is newer than Python 3.9
        writes = any(after - before > WRITES for before, after in steps)
        return writes or len({one.stack for one in seen if one.stack}) > 1

    def _lately(self, row: Row) -> bool:
        return bool(row.order) and self._now - row.changed < self._limit

    def _for_how_long(self, rank: int) -> str:
        row = self.rows[rank]
        return "for %.0f s" % (min(self._now - row.changed, self._long) if row.order else self._long)

    def _step(self, rank: int) -> str:
        step = self.rows[rank].step
        return "" if step is None else ", step %d" % step

    def _at(self, rank: int, words: str) -> str:
        """Return the last place at which a rank was seen in its code, within these words, empty where there is none."""
        seen = next((look[rank] for look in reversed(self._looks) if rank in look and look[rank].where), None)
        if seen is None:
            return ""
        return words % (seen.where + (" (`%s`)" % seen.source if seen.source else ""))
