"""How many examples a property test looks at: its own number in every run, as many times more in the wide profile."""

from hypothesis import settings

USUAL = 100  # Hypothesis' own default, and that of the profile of every run


def count(number: int) -> int:
    """Return `number`, or as many times more as the profile asks for."""
    return number * settings.default.max_examples // USUAL
