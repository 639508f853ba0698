"""What a member knows of the attempts so far, and tells every coordinator that it joins.

Node rank 0 may be lost with all that it knew. The members remember the last attempt's number, how many attempts count,
and how each ended; so a new coordinator goes on where the old one stopped: no number twice, no attempt for nothing.
Values only; `Ledger` in ledger.py is where a coordinator puts the memories of all members together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Optional

from k8sddp.worker.contract import wording

HISTORY = 16  # attempts remembered, the newest
MAX_MESSAGE = 160  # characters about each
MAX_KIND = 16
MAX_SUSPECTS = 32

OPEN, UNDECIDED, DECIDED = range(3)  # what was heard of an attempt's end: nothing; not whether it counts; everything

DISRUPTED = "disrupted"  # class of an attempt that ended through nobody's failure

# {"attempt": number, "counted": True, False or None (not yet known), "message": text, and of the failure that ended it
# "class": root_cause.Failure.kind, or DISRUPTED, "rank", "node_rank" and "exit_code": numbers or None}
Entry = Mapping[str, object]


def entry(
    attempt: int,
    counted: Optional[bool],
    message: str,
    *,
    kind: str = "",
    rank: Optional[int] = None,
    node_rank: Optional[int] = None,
    exit_code: Optional[int] = None,
) -> Entry:
    """Return how an attempt ended, as one element of a history."""
    text = wording.shorten(message, MAX_MESSAGE)
    found = {"attempt": attempt, "counted": counted, "message": text}
    return {**found, "class": kind[:MAX_KIND], "rank": rank, "node_rank": node_rank, "exit_code": exit_code}


class Suspect(NamedTuple):
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
    suspects: tuple[Suspect, ...] = ()  # who tells whether the last one counts; nobody: the coordinator's pod
    offers: int = 0  # how often this member has offered itself since: each time an attempt may have begun unheard

    @property
    def heard(self) -> int:
        """Return how much this member has heard of the last attempt's end."""
        if self.open:
            return OPEN
        return UNDECIDED if self.history and self.history[-1]["counted"] is None else DECIDED


def to_record(memory: Memory) -> dict[str, object]:
    """Return a memory as a JSON object."""
    return {
        **memory._asdict(),
        "history": list(memory.history),
        "suspects": [pod._asdict() for pod in memory.suspects],
    }


def from_record(record: Mapping[str, object]) -> Memory:
    """Return the memory that a member sent; what is not of the right type counts as not remembered."""
    empty = Memory()
    values: dict[str, Any] = {
        name: record[name]
        for name, default in empty._asdict().items()
        if name not in ("history", "suspects") and type(record.get(name)) is type(default)
    }
    return empty._replace(**values, history=history(record.get("history")), suspects=suspects(record.get("suspects")))


def suspects(value: object) -> tuple[Suspect, ...]:
    """Return the well-formed ones of the suspects that came over the wire, at most MAX_SUSPECTS."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        return ()
    records = [tuple(one.get(name) for name in Suspect._fields) for one in value if isinstance(one, Mapping)]
    return tuple(Suspect._make(one) for one in records if tuple(map(type, one)) == (int, str, int))[:MAX_SUSPECTS]


def history(value: object) -> tuple[Entry, ...]:
    """Return the well-formed entries of a history that came over the wire, at most the newest HISTORY."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        return ()
    found = []
    for one in value:
        if isinstance(one, Mapping) and type(one.get("attempt")) is int and isinstance(one.get("message"), str):
            counted, kind = one.get("counted"), one.get("class")
            found.append(
                entry(
                    one["attempt"],
                    counted if isinstance(counted, bool) else None,
                    one["message"],
                    kind=kind if isinstance(kind, str) else "",
                    **{name: one[name] for name in ("rank", "node_rank", "exit_code") if type(one.get(name)) is int},
                )
            )
    return tuple(found[-HISTORY:])
