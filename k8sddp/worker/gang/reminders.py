"""When to say again that something is waited for: soon, so that a log is not silent, then ever less often. Pure.

Waiting for nodes has no limit, and a pod may wait for days: a line every few seconds would bury what else there is.
"""

from __future__ import annotations

FIRST, NEXT, LAST = 1.0, 30.0, 300.0  # seconds until the first line, then to the second, doubled up to the last


class Reminder:
    """One wait and its lines."""

    def __init__(self, since: float) -> None:
        self.begin(since)

    def begin(self, since: float) -> None:
        """Take note that the wait begins now, anew."""
        self.since = since
        self.due = since + FIRST
        self._pause = NEXT

    def rings(self, now: float) -> bool:
        """Return whether a line is due, which is then taken to be said."""
        if now < self.due:
            return False
        self.due, self._pause = now + self._pause, min(LAST, 2 * self._pause)
        return True
