"""When the gang is looked at because somebody has waited too long, and what follows. Pure: rows, looks and time in.

Evidence by the counters comes first (hanging.waited). Then every member is asked for three looks at its ranks, PAUSE
apart. All must answer: a member that says nothing is a pod that is lost, which its link finds out, and no hang. If the
evidence still stands, hanging.judge names who holds up the others. Who still works is told and looked at again until it
has gone on, has stopped moving, or has been waited for twice as long. A hang is told with a last look, for which the
members show their ranks' stacks in their own logs; only when that is done, and the evidence stands even then, it ends
something. If it shall end nothing it is told again every AGAIN seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple, Optional, Union

from . import hanging
from .hanging import Finding, Row
from .looks import Seen

LOOKS = 3
PAUSE = 1.5  # seconds from the answers to one look to the next
PATIENCE = 5.0  # seconds for all answers; of a member that is silent its link tells after 20 to 25 s
SOON = 1.0  # seconds between two questions at the counters, at least
AGAIN = 1800.0  # seconds until what ends nothing is told once more
QUARTER, LEAST = 0.25, 5.0  # of the limit, and seconds at least, until who works is looked at again


class Ask(NamedTuple):
    """Ask every member for look `number`; `show`: let it print its ranks' stacks, too."""

    number: int
    show: bool


class Tell(NamedTuple):
    """Say what was found: somebody works, or it shall end nothing."""

    finding: Finding


class Relax(NamedTuple):
    """Say that nobody waits any more for whom the last Tell was about."""

    finding: Finding


class End(NamedTuple):
    """End what a hang ends."""

    finding: Finding


Step = Union[Ask, Tell, Relax, End]
Rows = Callable[[], Sequence[Row]]  # of all ranks, as they are now; asked only when they are needed


class Suspicion:
    """What is suspected in one attempt."""

    def __init__(self, limit: float, nodes: Collection[int], *, blocking: bool, ends: bool, now: float) -> None:
        self._limit = limit
        self._nodes = frozenset(nodes)  # whose answers are awaited
        self._blocking = blocking
        self._ends = ends
        self._awake = now
        self._number = 0  # of the last look
        self._looks: list[dict[int, Seen]] = []
        self._missing: set[int] = set()  # nodes that have not answered the last look
        self._asking = False
        self._final: Optional[Finding] = None  # decided, while the stacks are shown
        self._told: Optional[Finding] = None
        self._quiet = now  # until when what was told is not told again
        self.due = now + limit

    @property
    def told(self) -> Optional[Finding]:
        """Return what was told last and still holds."""
        return self._told

    def slept(self, now: float) -> None:
        """Take note that node 0 itself did not run: it has not seen what the others did meanwhile."""
        self._awake = now
        self._drop(now + self._limit)

    def answered(self, node_rank: int, number: int, seen: Sequence[Seen], rows: Rows, now: float) -> list[Step]:
        """Take a member's answer to a look."""
        if not self._asking or number != self._number or node_rank not in self._missing:
            return []
        self._looks[-1].update({one.rank: one for one in seen})
        self._missing.discard(node_rank)
        if self._missing:
            return []
        self._asking = False
        if self._final is not None:
            return self._decided(rows, now)
        if len(self._looks) < LOOKS:
            self.due = now + PAUSE
            return []
        return self._judge(rows, now)

    def tick(self, rows: Rows, now: float) -> list[Step]:
        """Do what is due by `now`."""
        if now < self.due:
            return []
        if self._asking and self._final is None:
            self._drop(now + PATIENCE)  # somebody is silent; its link tells whether it is lost
            return []
        if self._asking:
            return self._decided(rows, now)  # what could be shown has been
        if self._looks:
            return self._ask(now)
        if self._waited(rows(), now) is None:
            return self._relax(rows, now)
        if self._told is not None and not self._told.works and now < self._quiet:
            self.due = now + self._pause
            return []
        return self._ask(now)

    @property
    def _pause(self) -> float:
        return max(LEAST, QUARTER * self._limit)

    def _waited(self, rows: Sequence[Row], now: float) -> Optional[float]:
        return hanging.waited(rows, self._limit, now, blocking=self._blocking, awake=self._awake)

    def _ask(self, now: float, *, show: bool = False) -> list[Step]:
        self._number += 1
        self._asking = True
        self._missing = set(self._nodes)
        self._looks.append({})
        self.due = now + PATIENCE
        return [Ask(self._number, show)]

    def _drop(self, due: float) -> None:
        self._asking, self._final = False, None
        self._looks.clear()
        self._missing.clear()
        self.due = due

    def _relax(self, rows: Rows, now: float) -> list[Step]:
        told, self._told = self._told, None
        due = hanging.next_evidence(rows(), self._limit, now, blocking=self._blocking)
        self._drop(max(now + SOON, due))
        return [Relax(told)] if told is not None else []

    def _judge(self, rows: Rows, now: float) -> list[Step]:
        known = rows()
        long = self._waited(hanging.living(known, self._looks), now)
        if long is None:
            steps = self._relax(rows, now)
            if self._waited(known, now) is not None:
                self.due = now + self._pause  # who has exited stays where it was
            return steps
        found = hanging.judge(known, self._looks, self._limit, now, long=long, blocking=self._blocking)
        if found is None:
            self._drop(now + self._pause)
            return []
        if found.works and long < 2 * self._limit:
            due = min(now + self._pause, now + 2 * self._limit - long)
            soon = found.again is not None and found.again < due
            self._drop(max(now + SOON, found.again) if soon and found.again is not None else due)
            return [] if soon else self._tell(found, now)
        self._final = found
        return self._ask(now, show=True)

    def _decided(self, rows: Rows, now: float) -> list[Step]:
        found = self._final
        if found is None or self._waited(rows(), now) is None:
            return self._relax(rows, now)
        self._drop(now + self._pause)
        return [End(found)] if self._ends else self._tell(found, now)

    def _tell(self, found: Finding, now: float) -> list[Step]:
        """Tell what has not been told for a while."""
        before, self._told = self._told, found
        same = before is not None and (before.ranks, before.works) == (found.ranks, found.works)
        if same and now < self._quiet:
            return []
        self._quiet = now + AGAIN
        return [Tell(found)]
