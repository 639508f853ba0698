"""What members and coordinator tell each other, as frozen values and as JSON objects.

join -> waiting* -> attempt -> ready, failed*, complete or over -> end; `leaving` at any time. Decoding checks every
field's type, so the state machines never see anything malformed. A new version of the shapes needs a new wire.MAGIC.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Union

from . import wire


class Join(NamedTuple):
    """A member presents itself; all but its place and name must be equal in the whole gang."""

    node_rank: int
    pod: str
    kube_node: str
    nnodes: int
    nproc_per_node: int
    code_digest: str
    torch_version: str


class Waiting(NamedTuple):
    """The member is in; the node ranks in `missing` (text for people) are not yet."""

    missing: str


class Attempt(NamedTuple):
    """All members are there: start the ranks. `pod` and `kube_node` are the coordinator's own."""

    number: int
    master_addr: str
    master_port: int
    run_id: str
    pod: str
    kube_node: str


class Ready(NamedTuple):
    """This node's launcher has been started."""

    attempt: int


class Failed(NamedTuple):
    """A rank of this node failed (root_cause.Failure as JSON)."""

    attempt: int
    failure: Mapping[str, object]


class Complete(NamedTuple):
    """All ranks of this node ended well."""

    attempt: int


class Over(NamedTuple):
    """The launcher of this node ended after failures, all of which have been told."""

    attempt: int


class Leaving(NamedTuple):
    """This node was asked to stop."""

    reason: str


class End(NamedTuple):
    """The verdict: end the ranks, record it, leave with `code`; `grace`: let the ranks save first."""

    verdict: Mapping[str, object]
    code: int
    grace: bool


Message = Union[Join, Waiting, Attempt, Ready, Failed, Complete, Over, Leaving, End]

_SHAPES: Mapping[str, tuple[Any, tuple[type, ...]]] = {
    "join": (Join, (int, str, str, int, int, str, str)),
    "waiting": (Waiting, (str,)),
    "attempt": (Attempt, (int, str, int, str, str, str)),
    "ready": (Ready, (int,)),
    "failed": (Failed, (int, dict)),
    "complete": (Complete, (int,)),
    "over": (Over, (int,)),
    "leaving": (Leaving, (str,)),
    "end": (End, (dict, int, bool)),
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
