"""The verdict: what a worker leaves in its termination message, as the worker writes it and everybody else reads it.

One table for worker, plan and local: the fields of these values are the keys of the JSON object, and stand nowhere
else. Reading is tolerant, because the pod may have been made by another version of k8sddp: unknown keys are skipped,
what is missing or of another type has its default, and of a newer schema is read what is understood. Writing stays
below what the kubelet keeps, because it cuts a longer message into broken JSON.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple, Optional, Union

SCHEMA = 1  # grows when a field changes its meaning; a new field alone leaves it as it is
LIMIT = 3584  # bytes of one verdict; the kubelet keeps 4,096 (pkg/kubelet/container/runtime.go)

COMPLETE, FAILED, STOPPED = "complete", "failed", "stopped"  # outcomes: of the job, of the job, of this node alone
DECIDED = (COMPLETE, FAILED)  # the job has its end


class FirstFailure(NamedTuple):
    """Who failed first; `rank` is None where no rank is to blame, `kind` a root_cause.Failure's."""

    kind: str = ""
    message: str = ""  # one sentence: who, where, what
    rank: Optional[int] = None
    node_rank: int = 0
    pod: str = ""
    kube_node: str = ""
    exit_code: Optional[int] = None
    signal: Optional[str] = None
    exception: Optional[str] = None
    traceback: Optional[str] = None
    last_step: Optional[int] = None  # optimizer steps that the rank had made


class PastAttempt(NamedTuple):
    """How an attempt before the last one ended; `counted` is None where nobody has found out."""

    attempt: int
    counted: Optional[bool]
    message: str


class Verdict(NamedTuple):
    """How the job ended, or one node's part in it.

    `victims` are the ranks that failed as a consequence, `alike` those that failed of the same as the first. `spent` of
    `max_attempts` count, 0 of 0 where that is not known. `history` tells how the earlier attempts ended, the newest
    last. `remarks` are sentences about a job that is complete and perhaps not what was meant.
    """

    job: str = ""
    outcome: str = ""
    attempt: int = 0
    exit_code: int = 0
    first_failure: Optional[FirstFailure] = None
    victims: tuple[int, ...] = ()
    alike: tuple[int, ...] = ()
    spent: int = 0
    max_attempts: int = 0
    history: tuple[PastAttempt, ...] = ()
    remarks: tuple[str, ...] = ()
    schema: int = SCHEMA


NONE = Verdict()  # nothing is known

_KEYS = {"kind": "class"}  # a keyword of Python
_NUMBERS = ("rank", "node_rank", "exit_code", "last_step", "attempt", "spent", "max_attempts", "schema")
_FIRST_TO_GO = ("traceback", "exception", "message", "kube_node", "pod")  # texts that are cut where there is no room


def parse(text: Union[str, bytes]) -> Optional[Verdict]:
    """Return the verdict in a termination message, None where it is another program's, cut off, or empty."""
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, Mapping) or type(record.get("schema")) is not int:
        return None
    return from_record(record)


def from_record(record: Mapping[str, object]) -> Verdict:
    """Return the verdict that a JSON object holds, as far as it is understood."""
    first, remarks = record.get("first_failure"), record.get("remarks")
    return Verdict(**_values(Verdict, record))._replace(
        first_failure=FirstFailure(**_values(FirstFailure, first)) if isinstance(first, Mapping) else None,
        victims=_ranks(record.get("victims")),
        alike=_ranks(record.get("alike")),
        history=history(record.get("history")),
        remarks=tuple(_whole(one) for one in remarks if isinstance(one, str)) if isinstance(remarks, list) else (),
    )


def history(value: object) -> tuple[PastAttempt, ...]:
    """Return the well-formed entries of a JSON array of past attempts."""
    found = []
    for one in value if isinstance(value, (list, tuple)) else ():
        if isinstance(one, Mapping) and _values(PastAttempt, one).keys() == {"attempt", "message"}:
            counted = one.get("counted")
            found.append(
                PastAttempt(one["attempt"], counted if isinstance(counted, bool) else None, _whole(one["message"]))
            )
    return tuple(found)


def to_record(verdict: Verdict) -> dict[str, object]:
    """Return `verdict` as a JSON object."""
    first = verdict.first_failure
    return {
        **verdict._asdict(),
        "first_failure": {_KEYS.get(name, name): value for name, value in first._asdict().items()} if first else None,
        "victims": list(verdict.victims),
        "alike": list(verdict.alike),
        "history": [one._asdict() for one in verdict.history],
        "remarks": list(verdict.remarks),
    }


def encode(verdict: Verdict) -> bytes:
    """Return `verdict` as sorted JSON of at most LIMIT bytes.

    The oldest attempts are given up first, then the traceback's head, the ends of the other texts, and remarks.
    """
    text = _json(verdict)
    while len(text) > LIMIT and verdict.history:
        verdict = verdict._replace(history=verdict.history[1:])
        text = _json(verdict)
    for field in _FIRST_TO_GO:
        while len(text) > LIMIT and verdict.first_failure and getattr(verdict.first_failure, field):
            excess = max(1, (len(text) - LIMIT) // 12)  # a character is up to twelve bytes of JSON
            value = getattr(verdict.first_failure, field)
            shorter = value[excess:] if field == "traceback" else value[:-excess]
            verdict = verdict._replace(first_failure=verdict.first_failure._replace(**{field: shorter}))
            text = _json(verdict)
    while len(text) > LIMIT and verdict.remarks:
        verdict = verdict._replace(remarks=verdict.remarks[:-1])
        text = _json(verdict)
    return text


def _ranks(value: object) -> tuple[int, ...]:
    return tuple(one for one in value if type(one) is int) if isinstance(value, list) else ()


def _json(verdict: Verdict) -> bytes:
    return json.dumps(to_record(verdict), sort_keys=True).encode("ascii")


def _values(kind: Any, record: Mapping[str, object]) -> dict[str, Any]:
    """Return those of a record's plain fields that are of the right type (bool is an int for isinstance)."""
    found = {field: record.get(_KEYS.get(field, field)) for field in kind._fields}
    of_type = {field: one for field, one in found.items() if type(one) is (int if field in _NUMBERS else str)}
    return {field: _whole(one) if isinstance(one, str) else one for field, one in of_type.items()}


def _whole(text: str) -> str:
    """Return `text` as it can be written anywhere: JSON can hold half a character, which no encoding has."""
    return text.encode("utf-8", "backslashreplace").decode()
