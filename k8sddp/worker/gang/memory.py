"""What a member knows of the attempts so far, and tells every coordinator that it joins.

Node rank 0 may be lost with all that it knew. The members remember the last attempt's number, how many attempts count,
and how each ended; so a new coordinator goes on where the old one stopped: no number twice, no attempt for nothing.
Values only; `Ledger` in ledger.py is where a coordinator puts the memories of all members together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Optional

HISTORY = 16  # attempts remembered, the newest
MAX_MESSAGE = 160  # characters about each

UNDECIDED = 32  # lost pods remembered

Entry = Mapping[str, object]  # {"attempt": number, "counted": True, False or None (not yet known), "message": text}


def entry(attempt: int, counted: Optional[bool], message: str) -> Entry:
    """Return how an attempt ended, as one element of a history."""
    text = message if len(message) <= MAX_MESSAGE else message[: MAX_MESSAGE - 3] + "..."
    return {"attempt": attempt, "counted": counted, "message": text}


class Undecided(NamedTuple):
    """A pod that may be to blame for an attempt's end: its replacement's failure count tells."""

    node_rank: int
    pod: str
    failure_count: int


class Memory(NamedTuple):
    """The attempts as one member knows them; all defaults: it has seen none."""

    attempt: int = -1  # the last number
    spent: int = 0  # attempts that count, without an open one
    open: bool = False  # nobody has told how the last one ended
    pod: str = ""  # the coordinator of the last one, its Kubernetes Node and its pod's failure count
    kube_node: str = ""
    failure_count: int = 0
    history: tuple[Entry, ...] = ()
    undecided: tuple[Undecided, ...] = ()  # who tells whether the last one counts; nobody: the coordinator's pod

    @property
    def decided(self) -> bool:
        """Return whether it is known that the last attempt counts, or that it does not."""
        last = self.history[-1] if self.history else None
        ended = last is not None and last["attempt"] == self.attempt
        return not self.open and not (ended and last is not None and last["counted"] is None)


def to_record(memory: Memory) -> dict[str, object]:
    """Return a memory as a JSON object."""
    undecided = [pod._asdict() for pod in memory.undecided]
    return {**memory._asdict(), "history": list(memory.history), "undecided": undecided}


def from_record(record: Mapping[str, object]) -> Memory:
    """Return the memory that a member sent; what is not of the right type counts as not remembered."""
    empty = Memory()
    values: dict[str, Any] = {
        name: record[name]
        for name, default in empty._asdict().items()
        if name not in ("history", "undecided") and type(record.get(name)) is type(default)
    }
    return empty._replace(
        **values, history=history(record.get("history")), undecided=undecided(record.get("undecided"))
    )


def undecided(value: object) -> tuple[Undecided, ...]:
    """Return the well-formed ones of undecided pods that came over the wire, at most UNDECIDED."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        return ()
    records = [tuple(one.get(name) for name in Undecided._fields) for one in value if isinstance(one, Mapping)]
    return tuple(Undecided._make(one) for one in records if tuple(map(type, one)) == (int, str, int))[:UNDECIDED]


def history(value: object) -> tuple[Entry, ...]:
    """Return the well-formed entries of a history that came over the wire, at most the newest HISTORY."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        return ()
    found = []
    for one in value:
        if isinstance(one, Mapping) and type(one.get("attempt")) is int and isinstance(one.get("message"), str):
            counted = one.get("counted")
            found.append(entry(one["attempt"], counted if isinstance(counted, bool) else None, one["message"]))
    return tuple(found[-HISTORY:])
