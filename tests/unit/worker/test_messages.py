"""Messages as JSON objects: what goes in comes out, and nothing malformed gets through."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k8sddp.worker.gang import messages, wire

TEXT = st.text(max_size=30)
NUMBER = st.integers(-(2**31), 2**31)
OBJECT = st.dictionaries(TEXT, TEXT | NUMBER | st.none(), max_size=4)
ANY = st.one_of(
    st.builds(messages.Join, NUMBER, TEXT, TEXT, NUMBER, NUMBER, TEXT, TEXT, NUMBER, NUMBER, OBJECT),
    st.builds(messages.Waiting, TEXT),
    st.builds(messages.Attempt, NUMBER, TEXT, NUMBER, TEXT, TEXT, TEXT, NUMBER, NUMBER, st.lists(OBJECT, max_size=3)),
    st.builds(messages.Failed, NUMBER, OBJECT),
    st.builds(messages.Left, NUMBER, NUMBER),
    st.builds(messages.Complete, NUMBER),
    st.builds(messages.Over, NUMBER),
    st.builds(messages.Ended, NUMBER, OBJECT, NUMBER, st.lists(OBJECT, max_size=3), st.booleans()),
    st.builds(messages.Idle, NUMBER),
    st.builds(messages.Progress, NUMBER, st.lists(st.lists(NUMBER | TEXT, max_size=3), max_size=3)),
    st.builds(messages.Look, NUMBER, NUMBER, st.booleans()),
    st.builds(messages.Seen, NUMBER, NUMBER, st.lists(st.lists(NUMBER | TEXT, max_size=3), max_size=3)),
    st.builds(messages.Leaving, TEXT),
    st.builds(messages.End, OBJECT, NUMBER, st.booleans()),
)


@given(ANY)
def test_a_message_survives_json(message: messages.Message) -> None:
    """Every kind of message is the same after encoding, JSON and decoding."""
    assert message == messages.decode(json.loads(json.dumps(messages.encode(message))))


@pytest.mark.parametrize(
    ("record", "said"),
    [
        pytest.param({}, "unknown type None", id="no type"),
        pytest.param({"type": ["join"]}, "unknown type", id="type is a list"),
        pytest.param({"type": "idle"}, "idle message has other fields", id="missing field"),
        pytest.param({"type": "idle", "attempt": 0, "x": 1}, "idle message has other fields", id="extra field"),
        pytest.param({"type": "idle", "attempt": True}, "idle.attempt is not of type int", id="bool for int"),
        pytest.param({"type": "leaving", "reason": None}, "leaving.reason is not of type str", id="null for text"),
    ],
)
def test_a_malformed_message_is_named(record: dict[str, object], said: str) -> None:
    """The reason says which field of which message."""
    with pytest.raises(wire.WireError, match=said):
        messages.decode(record)
