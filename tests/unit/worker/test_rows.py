"""A rank's output as rows of a terminal: bars as their states, everything else byte for byte, however it is cut."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k8sddp.worker.ranks import rows

PLAIN = st.binary(max_size=20).map(lambda data: data.replace(b"\r", b"").replace(b"\x1b", b""))
DRAWN = st.lists(
    st.sampled_from(
        [b"\r", b"\n", b"\r\n", b"\x1b[A", b"\x1b[2A", b"\x1b[31m", b"\x1b", b"[A", b"   ", b"bar", b"\xff"]
    ),
    max_size=40,
).map(b"".join)


def lines_of(stream: bytes, cuts: list[int]) -> list[bytes]:
    """Return the lines of a stream that is read in pieces of these sizes, and then to its end."""
    known = rows.Rows()
    lines: list[bytes] = []
    for size in cuts:
        lines += known.feed(stream[:size])
        stream = stream[size:]
    return lines + known.feed(stream) + known.flush()


@given(PLAIN | DRAWN, st.lists(st.integers(1, 5), max_size=60))
def test_cuts_make_no_difference(stream: bytes, cuts: list[int]) -> None:
    """The reads of a pipe fall anywhere, also into a `\\r\\n` or an escape."""
    assert lines_of(stream, []) == lines_of(stream, cuts)


@given(st.lists(PLAIN | st.just(b"\n"), max_size=30), st.data())
def test_no_plain_byte_is_lost(pieces: list[bytes], data: st.DataObject) -> None:
    """Without carriage returns the lines are the stream, also where unfinished ones are shown at any moment."""
    known = rows.Rows()
    shown = b""
    for piece in pieces:
        shown += b"".join(line + b"\n" for line in known.feed(piece))
        if data.draw(st.booleans()):
            shown += b"".join(known.show())
    shown += b"".join(known.flush())
    assert b"".join(pieces).replace(b"\n", b"") == shown.replace(b"\n", b"")


@given(st.lists(st.sampled_from([b"a", b"bc", b" ", b"\r", b"\n", b"\x1b[32m"]), max_size=60).map(b"".join))
def test_of_each_line_the_last_state_is_shown(stream: bytes) -> None:
    """A carriage return overwrites what stands before it, at the end of a line it overwrites nothing."""
    *ended, begun = [([part for part in line.split(b"\r") if part] or [b""])[-1] for line in stream.split(b"\n")]
    assert [*ended, *([begun] if begun else [])] == lines_of(stream, [])


@given(st.lists(st.tuples(st.integers(0, 99), st.booleans()), min_size=1, max_size=40))
def test_a_state_is_shown_once_and_the_last_one_always(updates: list[tuple[int, bool]]) -> None:
    """Whenever somebody looks, and whether the bar has moved or not."""
    known = rows.Rows()
    shown: list[bytes] = []
    for percent, look in updates:
        shown += known.feed(b"\r%d%%" % percent)
        shown += known.show() if look else []
    shown += known.feed(b"\n")
    assert b"%d%%" % updates[-1][0] == shown[-1]
    looked_at = sum(look for _, look in updates)
    assert len(shown) <= looked_at + 1
    assert all(line != following for line, following in itertools.pairwise(shown))


def test_nested_bars_are_states_of_their_own() -> None:
    """tqdm draws the inner bar one row below and goes up again: neither becomes a line for each of its strokes."""
    known = rows.Rows()
    lines = known.feed(b"\router 0")
    lines += known.feed(b"".join(b"\n\rinner %d\x1b[A\router 0" % i for i in range(100)))
    assert [b"outer 0"] == lines
    assert [b"outer 0  inner 99"] == known.show()
    assert [] == known.show()
    assert [b"outer 1", b"the end"] == known.feed(b"\router 1\n\r        \rthe end\n")


@pytest.mark.parametrize(
    ("stream", "state"),
    [
        pytest.param(b"\r 1%\r 2%", b"2%", id="return first"),
        pytest.param(b" 1%\r 2%\r", b"2%", id="return last"),
        pytest.param(b"\r 9%\r    ", b"", id="cleared"),
        pytest.param(b"Loading", b"Loading", id="no bar"),
        pytest.param(b"\r 1%\x1b[", b"1%", id="an escape that has only begun"),
        pytest.param(b"\x1b[99Atop", b"top", id="further up than there are rows"),
    ],
)
def test_the_state_is_what_a_terminal_would_show(stream: bytes, state: bytes) -> None:
    """Whichever way a bar is written."""
    known = rows.Rows()
    assert [] == known.feed(stream)
    assert state == known.state()


def test_a_beginning_that_was_shown_is_not_shown_again() -> None:
    """`print("Loading ", end="")`, and its end much later."""
    known = rows.Rows()
    assert [] == known.feed(b"Loading ")
    assert [b"Loading "] == known.show()
    assert [] == known.feed(b"\n")
    assert [b"next"] == known.feed(b"next\n")


@given(st.integers(0, 3 * rows.MAX_LINE), st.booleans(), st.integers(1, rows.MAX_LINE))
def test_a_long_line_is_cut_not_lost(length: int, ended: bool, size: int) -> None:
    """A line beyond the limit comes in pieces of at most that size, the same ones however it is read."""
    stream = b"x" * length + b"\n" * ended
    lines = lines_of(stream, [size] * 9)
    assert lines_of(stream, []) == lines
    assert length == sum(map(len, lines))
    assert all(len(line) <= rows.MAX_LINE for line in lines)


def test_little_is_held() -> None:
    """A script that goes up without end, and bars without end, cost a few rows."""
    known = rows.Rows()
    lines = known.feed((b"\x1b[A" + b"\r" + b"y" * 100) * 10_000 + b"z" * 3 * rows.MAX_LINE)
    assert [rows.MAX_LINE] * 3 == [len(line) for line in lines]
    assert len(known.state()) < rows.MAX_LINE
    assert rows.MAX_ROWS == len(known._rows)
