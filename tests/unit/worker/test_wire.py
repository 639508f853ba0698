"""The frames between members and coordinator: whatever is cut, changed, replayed or foreign is noticed."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k8sddp.worker import root_cause
from k8sddp.worker.contract import finding
from k8sddp.worker.contract import verdict as verdicts
from k8sddp.worker.gang import memory, messages, wire
from tests.unit.worker import gangs

KEY = "3f0c6a52-uid"
MESSAGES = st.lists(
    st.dictionaries(st.text(max_size=20), st.text(max_size=200) | st.integers(), max_size=5), max_size=5
)


def make_pair(member_key: str = KEY) -> tuple[wire.Session, wire.Session]:
    """Return a member's and a coordinator's session that have greeted each other."""
    member = wire.Session(member_key, coordinator=False, nonce=b"m" * 16)
    coordinator = wire.Session(KEY, coordinator=True, nonce=b"c" * 16)
    assert [] == coordinator.feed(member.greeting())
    assert [] == member.feed(coordinator.greeting())
    return member, coordinator


@given(MESSAGES, st.data())
def test_messages_arrive_whatever_the_cuts(sent: list[dict[str, object]], data: st.DataObject) -> None:
    """Messages arrive whole and in order, however TCP cuts the stream, the greeting included."""
    member = wire.Session(KEY, coordinator=False, nonce=b"m" * 16)
    coordinator = wire.Session(KEY, coordinator=True, nonce=b"c" * 16)
    member.feed(coordinator.greeting())
    stream = member.greeting() + b"".join(member.seal(message) for message in sent)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    pieces = [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    received = [message for piece in pieces for message in coordinator.feed(piece)]
    assert sent == received


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_a_changed_byte_is_noticed(place: int, change: int) -> None:
    """No frame with one changed byte is taken for a message."""
    member, coordinator = make_pair()
    frame = bytearray(member.seal({"type": "ready", "attempt": 0}))
    frame[place % len(frame)] ^= change
    with contextlib.suppress(wire.WireError):
        assert [] == coordinator.feed(bytes(frame))  # a longer length: it waits for the rest


@given(st.binary(max_size=300))
def test_a_stranger_gets_nothing(data: bytes) -> None:
    """Bytes of somebody else never become a message and never raise anything but WireError."""
    coordinator = wire.Session(KEY, coordinator=True, nonce=b"c" * 16)
    with contextlib.suppress(wire.WireError):
        assert [] == coordinator.feed(data)


def test_another_jobs_key_is_refused() -> None:
    """A pod of another job, or an earlier job of the same name, cannot join."""
    member, coordinator = make_pair(member_key="another-uid")
    with pytest.raises(wire.WireError, match="does not belong to this job"):
        coordinator.feed(member.seal({}))


def test_a_frame_counts_once() -> None:
    """A replayed frame is refused."""
    member, coordinator = make_pair()
    frame = member.seal({})
    coordinator.feed(frame)
    with pytest.raises(wire.WireError, match="does not belong"):
        coordinator.feed(frame)


def test_a_frame_of_another_connection_is_refused() -> None:
    """The nonces of both sides are part of what is authenticated."""
    member, _ = make_pair()
    coordinator = wire.Session(KEY, coordinator=True, nonce=b"x" * 16)
    coordinator.feed(member.greeting())
    with pytest.raises(wire.WireError, match="does not belong"):
        coordinator.feed(member.seal({}))


def test_a_frame_is_not_reflected() -> None:
    """What a member sent cannot be sent back to it."""
    member, _ = make_pair()
    with pytest.raises(wire.WireError, match="does not belong"):
        member.feed(member.seal({}))


def test_sizes_are_bounded_before_the_peer_is_known() -> None:
    """A stranger that announces a big frame is dropped before it is buffered, and we never send one."""
    member, coordinator = make_pair()
    with pytest.raises(wire.WireError, match="over the limit of 49152"):
        coordinator.feed((50000).to_bytes(4, "big") + b"\0" * wire.MAC_SIZE)
    with pytest.raises(wire.WireError, match="over the limit of 131072"):
        member.seal({"x": "x" * wire.MAX_FRAME})


def test_the_first_word_of_a_coordinator_may_be_a_long_verdict() -> None:
    """A member that joins after the end hears the whole cause, traceback included."""
    member, coordinator = make_pair()
    verdict = {"traceback": "x" * (wire.MAX_FIRST_FRAME + 1)}
    assert [verdict] == member.feed(coordinator.seal(verdict))


def test_the_longest_messages_fit() -> None:
    """Texts of characters that JSON writes in twelve bytes: a join with all it may remember, a failure, a verdict."""
    text = "\N{PARTY POPPER}" * 20000
    lost = [memory.Suspect(node, "p" * 63, 4) for node in range(memory.MAX_SUSPECTS)]
    ends = [memory.entry(number, None, text) for number in range(memory.HISTORY)]
    known = memory.Memory(9999, 4, False, "p" * 63, "n" * 63, 4, memory.history(ends), tuple(lost))
    failure = gangs.make_failure(1, text)._replace(traceback=text)
    verdict = root_cause.verdict("job", "failed", attempt=3, code=1, failures=[failure] * 99, history=known.history)
    found = finding.Finding("volume data", finding.WARNING, text)
    member, coordinator = make_pair()
    for message in (
        gangs.make_join(1, memory=memory.to_record(known), findings=[]),
        gangs.make_join(1, findings=finding.to_records([found] * 20)),
        messages.Failed(3, root_cause.to_record(failure)),
    ):
        assert [messages.encode(message)] == coordinator.feed(member.seal(messages.encode(message)))
    end = messages.encode(messages.End(verdicts.to_record(verdict), 1, False))
    assert [end] == member.feed(coordinator.seal(end))


def test_another_protocol_is_named() -> None:
    """A browser or another version of the worker gets one clear reason."""
    coordinator = wire.Session(KEY, coordinator=True, nonce=b"c" * 16)
    with pytest.raises(wire.WireError, match="does not speak k8sddp/5"):
        coordinator.feed(b"GET / HTTP/1.1\r\n")
