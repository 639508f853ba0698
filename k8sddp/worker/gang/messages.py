"""What members and coordinator tell each other, as frozen values and as JSON objects.

join -> waiting* -> (check -> checked)? -> (attempt -> progress*, failed*, left?, complete or over -> ended -> idle)* ->
end; `leaving` whenever it is asked to. Decoding checks every field's type, so the state machines never see anything
malformed. A new version of the shapes needs a new wire.MAGIC. docs/protocol.md draws the states.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Union

from . import wire

NOBODY = -1  # no rank


class Join(NamedTuple):
    """A member presents itself: its ranks have ended, if it had any.

    nnodes to torch_version must be equal in the whole gang. The counts are the Job controller's, of the pod's
    predecessors; `memory` is what the member knows of the attempts so far (memory.py). Its peers find it at `address`
    and `probe_port`. `findings` are those of its preflight, which took `seconds`, where nothing else is asked for.
    """

    node_rank: int
    pod: str
    kube_node: str
    nnodes: int
    nproc_per_node: int
    code_digest: str
    torch_version: str
    failure_count: int
    ignored_count: int
    memory: Mapping[str, object]
    python: str = ""
    address: str = ""
    probe_port: int = 0
    findings: Sequence[Sequence[str]] = ()
    seconds: float = 0.0

    @property
    def earlier_pods(self) -> int:
        """Return how many pods this node has had before: of two pods of one node the one with fewer is stale."""
        return self.failure_count + self.ignored_count


class Waiting(NamedTuple):
    """The member is in; the node ranks in `missing` (text for people) are not yet, after `seconds` of gathering."""

    missing: str
    seconds: int = 0


class Check(NamedTuple):
    """All members are there: visit these peers, each [node rank, pod, address, port], and say how it went."""

    round: int
    targets: Sequence[Sequence[object]]


class Checked(NamedTuple):
    """What the visits of that round have shown, as finding.to_records has it."""

    round: int
    findings: Sequence[Sequence[str]]


class Attempt(NamedTuple):
    """All members are there: start the ranks.

    `pod`, `kube_node` and `failure_count` are the coordinator's own; `spent` attempts count so far, and `history` tells
    how they ended: what the members need to know when they lose the coordinator.
    """

    number: int
    master_addr: str
    master_port: int
    run_id: str
    pod: str
    kube_node: str
    failure_count: int
    spent: int
    history: Sequence[Mapping[str, object]]


class Failed(NamedTuple):
    """A rank of this node failed (root_cause.Failure as JSON)."""

    attempt: int
    failure: Mapping[str, object]


class Left(NamedTuple):
    """A rank of this node exited with code 0, the first one here: early, if others should fail for want of it.

    With the rank NOBODY: those who left have successors.
    """

    attempt: int
    rank: int


class Complete(NamedTuple):
    """All ranks of this node ended well."""

    attempt: int


class Over(NamedTuple):
    """The launcher of this node ended after failures, all of which have been told."""

    attempt: int


class Ended(NamedTuple):
    """The attempt is over: end the ranks, after a SIGTERM and the grace period if `grace`, and say when they are gone.

    `entry` is the attempt's line in the history, `spent` how many attempts count by now, `suspects` the pods that will
    tell whether this one does (memory.Suspect). It comes again, to members that wait too, when that is known. `last`:
    this coordinator leaves, and starts no other attempt.
    """

    attempt: int
    entry: Mapping[str, object]
    spent: int
    suspects: Sequence[Mapping[str, object]]
    grace: bool
    last: bool = False


class Idle(NamedTuple):
    """No process of that attempt is left on this node."""

    attempt: int


class Progress(NamedTuple):
    """How far ranks of this node are: those whose rows have changed (progress.py); of the others nothing has."""

    attempt: int
    rows: Sequence[object]


class Look(NamedTuple):
    """Look at the ranks of this node and answer with the same `number`; `show`: print their stacks, too."""

    attempt: int
    number: int
    show: bool


class Seen(NamedTuple):
    """What this node has seen of its ranks (looks.to_rows)."""

    attempt: int
    number: int
    ranks: Sequence[object]


class Leaving(NamedTuple):
    """This node was asked to stop."""

    reason: str


class End(NamedTuple):
    """The verdict: end the ranks, record it, leave with `code`; `grace`: let the ranks save first."""

    verdict: Mapping[str, object]
    code: int
    grace: bool


class Beat(NamedTuple):
    """This worker runs; both sides say so while they have a connection. Only net/link.py hears it."""


Message = Union[
    Join,
    Waiting,
    Check,
    Checked,
    Attempt,
    Failed,
    Left,
    Complete,
    Over,
    Ended,
    Idle,
    Progress,
    Look,
    Seen,
    Leaving,
    End,
    Beat,
]

_SHAPES: Mapping[str, tuple[Any, tuple[type, ...]]] = {
    "join": (Join, (int, str, str, int, int, str, str, int, int, dict, str, str, int, list, float)),
    "waiting": (Waiting, (str, int)),
    "check": (Check, (int, list)),
    "checked": (Checked, (int, list)),
    "attempt": (Attempt, (int, str, int, str, str, str, int, int, list)),
    "failed": (Failed, (int, dict)),
    "left": (Left, (int, int)),
    "complete": (Complete, (int,)),
    "over": (Over, (int,)),
    "ended": (Ended, (int, dict, int, list, bool, bool)),
    "idle": (Idle, (int,)),
    "progress": (Progress, (int, list)),
    "look": (Look, (int, int, bool)),
    "seen": (Seen, (int, int, list)),
    "leaving": (Leaving, (str,)),
    "end": (End, (dict, int, bool)),
    "beat": (Beat, ()),
}
_NAMES = {shape[0]: name for name, shape in _SHAPES.items()}


def encode(message: Message) -> dict[str, object]:
    """Return `message` as a JSON object."""
    return {"type": _NAMES[type(message)], **message._asdict()}


def decode(record: Mapping[str, object]) -> Message:
    """Return the message that `record` holds.

    Raises wire.WireError for an unknown type, a missing or superfluous field, or a field of the wrong type.
    """
    name = record.get("type")
    shape = _SHAPES.get(name) if isinstance(name, str) else None
    if shape is None:
        raise wire.WireError("its message has the unknown type %.40r" % (name,))
    kind, types = shape
    if record.keys() - {"type"} != set(kind._fields):
        raise wire.WireError("its %s message has other fields" % name)
    values = [record[field] for field in kind._fields]
    for field, value, expected in zip(kind._fields, values, types):  # noqa: B905  strict= is newer than Python 3.9
        if type(value) is not expected:  # bool is an int for isinstance
            raise wire.WireError("%s.%s is not of type %s" % (name, field, expected.__name__))
    message: Message = kind(*values)
    return message
