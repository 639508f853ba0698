"""The pages of the worker's HTTP port: which ranks they tell of."""

from __future__ import annotations

import pytest

from k8sddp.worker import routes


@pytest.mark.parametrize(
    ("expected", "text"),
    [(None, None), (range(3, 4), "3"), (range(8, 16), "8-15"), (range(512, 1024), "512-1023")],
)
def test_ranks_are_chosen_by_number_or_range(expected: range | None, text: str | None) -> None:
    """Both ends are in the range."""
    assert expected == routes.chosen(text)


@pytest.mark.parametrize("text", ["", "x", "-1", "1-", "1-2-3", "3-1", "0-512", "9" * 5000, "\u00b2"])
def test_what_are_no_ranks_is_refused(text: str) -> None:
    """In one sentence that quotes it, and never more than a page can hold."""
    answer = routes.chosen(text)
    assert isinstance(answer, str)
    assert 120 > len(answer)
