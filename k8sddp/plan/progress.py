"""What node 0's worker says about the whole gang (`/status`, worker/status.py), in our words.

Kubernetes knows that processes run; only the worker knows the attempt, its budget and the steps. Reading is tolerant:
the pod may have been made by another version of k8sddp, so what is missing or of another type is not said.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from k8sddp.plan import pace as paces
from k8sddp.plan.pace import Pace, number, whole
from k8sddp.worker.contract import wording

MAX_MESSAGE: Final = 200
MAX_DIGITS: Final = 10  # of the number of a node
SLOW: Final = 60.0  # seconds without a step that are worth telling, where they are also many times the mean
MANY: Final = 10.0

TRAINING: Final = "training"
# State of the worker -> what the gang does
_STATES: Final[Mapping[str, str]] = {
    "joining": "the nodes are joining",
    "waiting": "the nodes are joining",
    "restarting": "its ranks are being ended, and the gang starts anew",
    "ending": "it is ending",
}
# What a rank does before its first step (worker/ranks/rank_page.py)
_BEFORE: Final[Mapping[str, str]] = {
    "starting": "has not reached init_process_group yet",
    "joining": "is in init_process_group",
    "joined": "has joined the process group",
}
_PHASES: Final = tuple(_BEFORE)  # in their order
# Class of an end (worker/gang/memory.py, root_cause.py) -> what is said where its sentence is not told
_CLASSES: Final[Mapping[str, str]] = {
    "disrupted": "was stopped, or lost without a fault of its own",
    "exception": "raised an exception",
    "signal": "was killed by a signal",
    "early-exit": "exited with code 0 while other ranks still trained",
    "lost": "was lost",
    "evicted": "was evicted",
    "hang": "made no progress",
    "infrastructure": "could not go on",
}


@dataclass(frozen=True)
class Rank:
    """One rank of node 0; None for what nobody has counted."""

    rank: int
    step: int | None = None  # 0 before the first
    mean_step: float | None = None  # seconds
    age: float | None = None  # seconds since the last step, or the start
    phase: str = ""


@dataclass(frozen=True)
class Progress:
    """The gang at one moment."""

    state: str = ""
    attempt: int | None = None  # None before the first
    spent: int = 0
    max_attempts: int = 0
    nodes: Mapping[int, str] = field(default_factory=dict)  # node rank -> waiting, training, ending, missing, complete
    ranks: tuple[Rank, ...] = ()
    history: tuple[str, ...] = ()  # how earlier attempts ended, one sentence each
    gang: Pace | None = None  # of all ranks, where node 0 knows it
    hang: str = ""  # who holds up the others, where node 0 has found out

    @property
    def pace(self) -> Pace:
        """Return how far the gang is: as it says itself, else as the ranks of node 0 are."""
        return self.gang or paces.of_ranks(self.ranks)

    @property
    def sentence(self) -> str:
        """Return what runs: the attempt, and how far node 0's ranks are."""
        what = self._ranks() if self.trains else _STATES.get(self.state, self.state)
        what = f"{what}; {self.hang}" if self.hang and self.trains else what
        return f"attempt {self.attempt}, {what}" if self.attempt is not None else what

    @property
    def trains(self) -> bool:
        """Return whether ranks run."""
        return self.state == TRAINING

    @property
    def account(self) -> str:
        """Return how many attempts are used, empty where that is not known yet, or one is all."""
        is_known = self.attempt is not None and self.max_attempts > 1  # a new node 0 learns it from the others
        return f"{self.spent} of {self.max_attempts} attempts used" if is_known else ""

    @property
    def figures(self) -> str:
        """Return how far the gang is and how fast: `step 1200/5000 24%, 12.3 steps/s, ETA 5m7s`."""
        return ", ".join((self.pace.cell, *self.pace.figures()))

    @property
    def doing(self) -> tuple[str, float | None]:
        """Return what a gang does that makes no steps, and for how many seconds, None where nobody says."""
        if not self.trains or not self.ranks:
            return self.sentence, None
        what = _BEFORE.get(self._last.phase, "has made no step yet") if self._last.age is not None else "is starting"
        attempt = "" if self.attempt is None else f"attempt {self.attempt}, "
        return f"{attempt}{self._who} {what}", self._last.age

    @property
    def _last(self) -> Rank:
        """Return the rank that is least far on, of several the one that node 0 names."""
        named = self.gang.last if self.gang else None
        return min(self.ranks, key=lambda one: (one.step or 0, _place(one.phase), one.rank != named, one.rank))

    @property
    def _who(self) -> str:
        """Return the name of that rank; an older worker tells of its own node's alone."""
        where = " on node 0" if self.gang is None else ""
        count = self.gang.ranks if self.gang else len(self.ranks)
        return f"rank {self._last.rank}" + (f" of {count}{where}" if count > 1 else "")

    def _ranks(self) -> str:
        if self.pace.step:
            last = self._last if self.ranks else Rank(0)
            slow = last.age is not None and last.age > max(SLOW, MANY * (last.mean_step or 0.0))
            return self.figures + (f"; {self._who} made its last one {last.age:.0f} s ago" if slow else "")
        return f"{self._who} {_before(self._last)}" if self.ranks else "its ranks run"


def parse(text: str | bytes) -> Progress | None:
    """Return the answer of /status as a value, None where it is none."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, Mapping) or not isinstance(found.get("state"), str):
        return None
    nodes, records = found.get("nodes"), found.get("ranks")
    ranks = tuple(_rank(one) for one in records if isinstance(one, Mapping)) if isinstance(records, list) else ()
    return Progress(
        state=found["state"],
        attempt=whole(found.get("attempt")),
        spent=whole(found.get("spent")) or 0,
        max_attempts=whole(found.get("max_attempts")) or 0,
        nodes={int(key): str(one) for key, one in nodes.items() if _is_number(key)}
        if isinstance(nodes, Mapping)
        else {},
        ranks=ranks,
        history=history(found.get("history")),
        gang=paces.parse(found.get("progress"), found.get("stragglers")),
        hang=_hang(found.get("hang")),
    )


def _hang(record: object) -> str:
    """Return who holds up the others, empty where nobody is known to."""
    if not isinstance(record, Mapping) or not isinstance(record.get("ranks"), list):
        return ""
    ranks = [rank for rank in record["ranks"] if whole(rank) is not None]
    who = f"rank {ranks[0]} holds" if ranks else "some rank holds"
    if len(ranks) > 1:
        who = f"rank {ranks[0]} and {len(ranks) - 1} more hold"
    still = ", and still works" if record.get("works") is True else ""
    return f"{who} up the others{still}: node 0's log says where it is"


def history(entries: object) -> tuple[str, ...]:
    """Return one sentence for each attempt that ended; what is no entry is passed over."""
    if not isinstance(entries, Sequence) or isinstance(entries, str):
        return ()
    return tuple(ended(one) for one in entries if isinstance(one, Mapping) and whole(one.get("attempt")) is not None)


def ended(entry: Mapping[str, Any]) -> str:
    """Return how an attempt ended, in one sentence; /status may tell the class of the failure only."""
    free = " (a disruption, not counted)" if entry.get("counted") is False else ""
    return f"attempt {entry.get('attempt')} ended: {wording.shorten(_cause(entry), MAX_MESSAGE)}{free}"


def _cause(entry: Mapping[str, Any]) -> str:
    message = entry.get("message")
    if isinstance(message, str) and message:
        return message
    rank, node, kind, code = (entry.get(key) for key in ("rank", "node_rank", "class", "exit_code"))
    who = f"rank {rank}" if rank is not None else f"node {node}" if node is not None else "a node"
    if kind == "exit" and code is not None:
        return f"{who} exited with code {code}"
    return f"{who} {_CLASSES.get(str(kind), f'failed ({kind})' if kind else 'failed')}"


def _place(phase: str) -> int:
    """Return how far on a phase is, 0 where nobody says; forward and between are beyond those before the first step."""
    return _PHASES.index(phase) if phase in _PHASES else len(_PHASES) if phase else 0


def _before(rank: Rank) -> str:
    """Return what a rank does that has made no step."""
    if rank.age is None:
        return "is starting"
    return f"started {rank.age:.0f} s ago and {_BEFORE.get(rank.phase, 'has made no step yet')}"


def _rank(record: Mapping[str, Any]) -> Rank:
    mean, age = (record.get(key) for key in ("mean_step", "age"))
    return Rank(
        rank=whole(record.get("rank")) or 0,
        step=whole(record.get("step")),
        mean_step=number(mean),
        age=number(age),
        phase=str(record.get("phase") or ""),
    )


def _is_number(key: str) -> bool:
    return key.isascii() and key.isdigit() and len(key) < MAX_DIGITS
