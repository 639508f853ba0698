"""Cutting a sentence: in the middle, between words, within its limit; what else it holds."""

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


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        pytest.param((), "", id="none"),
        pytest.param((3,), "rank 3", id="one"),
        pytest.param((2, 1), "ranks 1, 2", id="two"),
        pytest.param(range(9), "ranks 0, 1, 2, 3, 4, 5, 6, 7 and more", id="many"),
    ],
)
def test_ranks_are_listed_from_the_least_on(numbers: tuple[int, ...], expected: str) -> None:
    """No sentence names more than eight."""
    assert expected == wording.ranks(numbers)


def test_what_cannot_be_shown_is_a_question_mark() -> None:
    """On one line: a sentence must not move the cursor of a terminal."""
    assert "a b ?c" == wording.printable("a\n b\t\x1bc")
