"""The tests on request come in turn."""

from tests import rotation

NAMES = [f"test_{letter}" for letter in "abcde"]


def test_every_test_comes_within_as_many_runs_as_there_are_tests():
    """None is forgotten, whatever the first number is."""
    for first in (0, 17):
        seen = [rotation.chosen(NAMES, number) for number in range(first, first + len(NAMES))]
        assert set(NAMES) == frozenset().union(*seen)
        assert {2} == {len(names) for names in seen}


def test_the_same_number_chooses_the_same_tests():
    """A run can be repeated, in whatever order the tests were collected."""
    assert rotation.chosen(NAMES, 7) == rotation.chosen(NAMES[::-1], 7)


def test_a_single_test_is_chosen_every_time():
    """Fewer tests than places are no error."""
    assert {"test_a"} == rotation.chosen(["test_a"], 3)
