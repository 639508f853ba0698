"""Cutting a sentence: in the middle, between words, within its limit."""

from __future__ import annotations

import pytest

from k8sddp.worker.contract import wording

START_ERROR = (
    "failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: "
    'unable to start container process: error during container init: exec: "python3": executable file not found in '
    "$PATH"
)


def test_a_sentence_that_fits_is_left_as_it_is() -> None:
    """But for its line ends and double blanks."""
    assert "a b c" == wording.shorten("a\n b  c", 5)


def test_the_middle_goes_and_the_reason_at_the_end_stays() -> None:
    """Whole words at both sides of the gap."""
    short = wording.shorten(START_ERROR, 150)
    assert len(short) <= 150
    head, _, tail = short.partition(wording.GAP)
    assert START_ERROR.startswith(head + " ")
    assert START_ERROR.endswith(" " + tail)
    assert short.endswith('exec: "python3": executable file not found in $PATH')


@pytest.mark.parametrize("text", ["x" * 500, "one " + "x" * 500, "x" * 500 + " end", "a b " * 200])
@pytest.mark.parametrize("limit", [10, 40, 41, 220])
def test_the_limit_holds_for_every_text(text: str, limit: int) -> None:
    """Also where there is no blank to cut at, and for odd limits."""
    short = wording.shorten(text, limit)
    assert limit - 2 * wording.WORD - 1 <= len(short) <= limit
    assert wording.GAP in short
