"""The wait for members: who is missing, for how long now, and when those who wait hear of it again. Pure."""

from __future__ import annotations

from . import messages, reminders, roster
from .effects import Effect, Send


class Gathering(reminders.Reminder):
    """One wait after the other, of the members of one gang."""

    def __init__(self, members: roster.Roster, now: float) -> None:
        super().__init__(now)
        self._members = members

    def waiting(self, now: float) -> messages.Waiting:
        """Return what a member is told that waits."""
        return messages.Waiting(self._members.missing_text(), int(now - self.since))

    def remind(self, now: float) -> list[Effect]:
        """Return what is told to all that wait, if a line is due."""
        return [Send(peer, self.waiting(now)) for peer in self._members.peers] if self.rings(now) else []
