"""Whether a loss is a member's: node 0 itself may not have run, and then who left it is not to blame. Pure."""

from __future__ import annotations

from . import findings, messages, roster

PAUSE = 10.0  # seconds after a sleep of our own in which a connection that is gone tells nothing about its member


class Excuse:
    """What node 0 knows of its own sleep."""

    def __init__(self, own: messages.Join, now: float) -> None:
        self._own = own
        self._slept = 0.0  # how long it did not run
        self._until = now  # when that explains losses no more

    def slept(self, seconds: float, now: float) -> None:
        """Take note that node 0 did not run for a while."""
        self._slept, self._until = seconds, now + PAUSE

    def covers(self, now: float) -> bool:
        """Return whether a loss is explained by node 0's sleep."""
        return now < self._until

    def judge(self, found: findings.Findings, join: messages.Join, how: str, now: float) -> None:
        """Take note of a member that an attempt has lost, or, if nothing else is known, of why it is not to blame."""
        if not self.covers(now):
            found.lose(join, how)
        elif not found.failures:
            text = "its worker did not run for %.0f s, so the others left it" % self._slept
            found.failed(roster.failure(self._own, "lost", text))
