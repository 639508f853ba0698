"""Output is passed on in whole lines."""

from __future__ import annotations

import pytest

from k8sddp.local import processes


@pytest.mark.parametrize(
    ("chunks", "expected", "rest"),
    [
        pytest.param([b"a\nb"], [b"a\n"], b"b\n", id="the last line waits"),
        pytest.param([b"a", b"b\nc\n"], [b"", b"ab\nc\n"], b"", id="a line from two reads"),
        pytest.param([b"a\r\n"], [b"a\r\n"], b"", id="a carriage return stays"),
        pytest.param([b""], [b""], b"", id="nothing"),
    ],
)
def test_lines_are_whole(chunks: list[bytes], expected: list[bytes], rest: bytes) -> None:
    """What does not end in a newline waits for its rest, or for the end."""
    lines = processes.Lines()

    assert expected == [lines.feed(chunk) for chunk in chunks]
    assert rest == lines.flush()


def test_a_line_without_end_is_passed_on_in_pieces() -> None:
    """Memory stays bounded."""
    lines = processes.Lines()

    assert b"x" * (processes.LONGEST_LINE + 1) + b"\n" == lines.feed(b"x" * (processes.LONGEST_LINE + 1))
    assert b"" == lines.flush()


def test_a_live_line_may_end_with_a_carriage_return() -> None:
    """The states of progress bars are passed on as they come, not with the bar's end."""
    lines = processes.Lines(live=True)

    assert b"[rank 0] 1%\r" == lines.feed(b"[rank 0] 1%\r[rank 0")
    assert b"[rank 0] 2%\r[rank 0] done\n" == lines.feed(b"] 2%\r[rank 0] done\n")
