"""Where a reader of a log stands, told by the lines themselves.

A log has no offsets, and its time stamps are no order: a Kubernetes Node's clock is set back, and `sinceTime` then
hides every line until it has caught up. So after a lost connection the last lines of the log are asked for by number,
and the ones that were given out are found in them again: with its stamp to the nanosecond hardly a line is twice. Pure.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

KEPT: Final = 128  # lines that are remembered; more than a reader asks for when it goes on
FOLLOW_TAIL: Final = 64  # lines of the past that a connection begins with: what may come between two requests


class Position:
    """The last lines that were given out, as they came, with their time stamps."""

    def __init__(self) -> None:
        self._seen: deque[int] = deque(maxlen=KEPT)

    @property
    def anything(self) -> bool:
        """Return whether there was a line at all."""
        return bool(self._seen)

    def note(self, line: bytes) -> None:
        """Remember a line that is given out."""
        self._seen.append(hash(line))

    def after(self, window: Sequence[bytes]) -> int | None:
        """Return where in the last lines of the log the new ones begin, None where all that we know has left it.

        Of several places where the last line stands, the one with the most known lines before it counts, of equal ones
        the first. Where the last line itself is missing (the file was cut), what follows the last known one is new.
        """
        seen, lines = list(self._seen), [hash(line) for line in window]
        best, start = 0, None
        for index, line in enumerate(lines):
            if line == seen[-1]:
                run = _common_end(seen, lines[: index + 1])
                if run > best:
                    best, start = run, index + 1
        if start is not None:
            return start
        known = set(seen)
        return next((index + 1 for index in reversed(range(len(lines))) if lines[index] in known), None)

    def covers(self, window: Sequence[bytes]) -> bool:
        """Return whether all of `window` was given out already, so that more must come to tell what is new.

        Its first line may be the end of a long one: the kubelet counts the pieces in which such a line is stored.
        """
        seen, lines = list(self._seen), [hash(line) for line in window]
        return any(_is_part(wanted, seen) for wanted in (lines, lines[1:]))


def _common_end(seen: Sequence[int], lines: Sequence[int]) -> int:
    count = 0
    while count < min(len(seen), len(lines)) and seen[-1 - count] == lines[-1 - count]:
        count += 1
    return count


def _is_part(wanted: Sequence[int], seen: Sequence[int]) -> bool:
    size = len(wanted)
    return any(seen[start : start + size] == wanted for start in range(len(seen) - size + 1))
