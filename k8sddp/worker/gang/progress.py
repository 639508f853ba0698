"""How far ranks are, as a value, and as the short rows in which a member tells node 0 of its own. Pure.

Every `interval` a member sends the rows that have changed since it sent them last, all of them at the start of an
attempt and every FULL_EVERY-th time, and none where nothing has changed: the message alone says that they still hold. A
row is whole numbers (-1: not known), the name of what the rank is inside, and its loss. Times are ages at the moment of
sending, so no two machines' clocks are compared. Node 0 puts the rows together (standings.py) and believes a member
only what it says of its own ranks: what is no row is passed over.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple, Optional, Union

INTERVAL = 1.0  # seconds between two messages of a member
PER_SECOND = 256  # messages that node 0 takes in a second; more members speak less often. docs/protocol.md measures it
FULL_EVERY = 10
MAX_ROWS = 256  # in a message: 400 bytes each at most, so that it fits wire.MAX_FRAME
MAX_NAME = 64  # characters of what a rank is inside
LARGEST = 2**53  # what every reader of JSON can hold

NO_GROUP, JOINING, JOINED = range(3)  # the default process group: not asked for, inside init_process_group, formed
BEFORE = {JOINING: "joining", JOINED: "joined"}  # the first forward or step

# Losses that are no number in JSON, which has no word for them
_ODD: Mapping[str, float] = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


class Rank(NamedTuple):
    """One rank; seconds since its last step (or start) and for its steps; None for what nobody has counted."""

    rank: int
    pid: Optional[int] = None
    step: Optional[int] = None
    forward_entered: int = 0
    forward_left: int = 0
    age: Optional[float] = None
    step_time: Optional[float] = None  # of all steps but the first, which begins with the start-up
    group: int = NO_GROUP
    backward_entered: int = 0
    backward_left: int = 0
    collective: str = ""  # the entry point of torch.distributed that it is inside
    collectives: int = 0  # entered so far
    waiting: Optional[float] = None  # since it entered what it may wait in for others; None outside
    batches_asked: int = 0
    batches_got: int = 0
    own_time: float = 0.0  # from the end of each step to the end of the next forward: its own work
    own_steps: int = 0
    reported_step: Optional[int] = None  # the script's own word, by k8sddp_report
    total_steps: Optional[int] = None
    loss: Optional[float] = None
    metrics: tuple[tuple[str, float], ...] = ()  # what else it reports, of this node's ranks only

    @property
    def mean_step(self) -> Optional[float]:
        """Return the mean time of a step, None before the second."""
        if self.step is None or self.step_time is None or self.step < 2:
            return None
        return self.step_time / (self.step - 1)

    @property
    def phase(self) -> str:
        """Return the innermost thing that the rank is known to be in, `between` where that is none of them.

        It is one of starting, joining, joined, collective, backward, forward, data and between.
        """
        if self.collective:
            return "collective"
        if self.backward_entered > self.backward_left:
            return "backward"
        if self.forward_entered > self.forward_left:
            return "forward"
        if self.batches_asked > self.batches_got:
            return "data"
        if self.group == JOINING:
            return BEFORE[JOINING]
        return "between" if self.step or self.forward_entered else BEFORE.get(self.group, "starting")


# Whole numbers of a row, in its order: counts, and milliseconds of the fields in _TIMES
_COUNTS = (
    "rank",
    "group",
    "step",
    "forward_entered",
    "forward_left",
    "backward_entered",
    "backward_left",
    "collectives",
    "batches_asked",
    "batches_got",
    "own_steps",
    "reported_step",
    "total_steps",
)
_TIMES = ("age", "step_time", "own_time", "waiting")
_WIDTH = len(_COUNTS) + len(_TIMES) + 3  # and since when nothing has changed, the name, the loss


def interval(nnodes: int) -> float:
    """Return the seconds between two messages of a member in a gang of so many."""
    return max(INTERVAL, nnodes / PER_SECOND)


class Told(NamedTuple):
    """What a row says: a rank, and for how many seconds nothing of it has changed."""

    rank: Rank
    still: float


class Teller:
    """What one member has told of its ranks in one attempt."""

    def __init__(self) -> None:
        self._told: dict[int, Rank] = {}  # without their ages, and what is not told
        self._changed: dict[int, float] = {}  # when that was seen
        self._count = 0

    def rows(self, ranks: Iterable[Rank], now: float) -> list[list[object]]:
        """Return the rows to send; they count as sent."""
        full = self._count % FULL_EVERY == 0
        self._count += 1
        found = []
        for one in ranks:
            known = one._replace(age=None, waiting=None if one.waiting is None else 0.0, metrics=())
            new = self._told.get(one.rank) != known
            if new:
                self._told[one.rank], self._changed[one.rank] = known, now
            if new or full:
                found.append(encode(one, still=now - self._changed[one.rank]))
        return found


def encode(one: Rank, *, still: float) -> list[object]:
    """Return the row of a rank of which nothing has changed for `still` seconds."""
    counts = [_whole(getattr(one, name)) for name in _COUNTS]
    times = [_milliseconds(getattr(one, name)) for name in _TIMES]
    name = one.collective[:MAX_NAME] if one.collective.isascii() else ""
    return [*counts, *times, _milliseconds(still), name, to_json(one.loss)]


def decode(row: object) -> Optional[Told]:
    """Return what a row says, None where it is none."""
    if type(row) is not list or len(row) != _WIDTH:
        return None
    numbers, name, loss = row[:-2], row[-2], row[-1]
    if set(map(type, numbers)) != {int} or min(numbers) < -1 or max(numbers) > LARGEST:
        return None
    if type(name) is not str or len(name) > MAX_NAME or not (name.isascii() and name.isprintable()):
        return None
    rank, group, step, in_forward, out_forward, in_backward, out_backward, collectives, asked, got, own = numbers[:11]
    reported, total, age, step_time, own_time, waiting, still = numbers[11:]
    found = Rank(  # written out: this is what node 0 spends its time on where there are thousands of ranks
        rank,
        None,
        None if step < 0 else step,
        in_forward,
        out_forward,
        None if age < 0 else age / 1e3,
        None if step_time < 0 else step_time / 1e3,
        group,
        in_backward,
        out_backward,
        name,
        collectives,
        None if waiting < 0 else waiting / 1e3,
        asked,
        got,
        own_time / 1e3,
        own,
        None if reported < 0 else reported,
        None if total < 0 else total,
        None if loss is None else from_json(loss),
    )
    return Told(found, still / 1e3)


def to_json(loss: Optional[float]) -> Union[float, str, None]:
    """Return a loss as JSON can say it, to seven digits: a number, or `nan`, `inf`, `-inf` as text."""
    if loss is None:
        return None
    return float("%.7g" % loss) if math.isfinite(loss) else "%s" % loss


def from_json(loss: object) -> Optional[float]:
    """Return the loss that `to_json` made, None for anything else."""
    if isinstance(loss, str):
        return _ODD.get(loss)
    try:
        return float(loss) if isinstance(loss, (int, float)) and not isinstance(loss, bool) else None
    except OverflowError:
        return None


def _whole(value: Optional[int]) -> int:
    return -1 if value is None else max(-1, min(value, LARGEST))  # a script may report anything


def _milliseconds(value: Optional[float]) -> int:
    return -1 if value is None else min(round(1e3 * value), LARGEST)
