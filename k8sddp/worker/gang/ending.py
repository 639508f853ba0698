"""The end of an attempt on all nodes: each is told, each says when none of its ranks is left, who cannot is given up.

What is found out about the end meanwhile, or later, is told to all as well: they remember it. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

from . import current, ledger, roster
from .effects import Close, Effect, Note, Send
from .roster import LOCAL

END_LIMIT = 10.0  # seconds, beyond a grace, for a member to end its ranks: 5 s more than it takes at most


class Ending:
    """The time that members have, and the words that they get."""

    def __init__(self, members: roster.Roster, account: ledger.Ledger, *, now: float) -> None:
        self._members = members
        self._ledger = account
        self.deadline = now  # for members to end their ranks

    def begin(self, attempt: current.Current, now: float, *, grace: Optional[float], last: bool) -> list[Effect]:
        """End the attempt everywhere, with a grace of so many seconds or without one; `last`: node 0 leaves."""
        self.deadline = now + END_LIMIT + (grace or 0.0)
        attempt.complete = {}
        ended = self._ledger.ended(grace=grace is not None, last=last)._replace(attempt=attempt.number)
        return [Send(peer, ended) for peer in self._members.peers]

    def excuse(self, now: float) -> None:
        """Give the members their time anew: nobody has listened to them."""
        self.deadline = max(self.deadline, now + END_LIMIT)

    def give_up(self, attempt: current.Current, now: float) -> list[Effect]:
        """Give up members that cannot end their ranks; node 0 leaves by itself when it cannot."""
        effects: list[Effect] = []
        for peer in sorted(attempt.busy - {LOCAL}):
            attempt.remove(peer)
            join = self._members.remove(peer)
            if join is not None:
                self._ledger.blame(join, "it did not answer any more")
                text = "node %d (pod %s) did not end its ranks within %.0f s" % (join.node_rank, join.pod, END_LIMIT)
                effects += [Note(text), Close(peer)]
        self.deadline = now + END_LIMIT
        return effects

    def tell(self, news: Sequence[str], *, members: bool) -> list[Effect]:
        """Tell the log, and the members where none of them trains, what has been found out about the last attempt."""
        notes: list[Effect] = [Note(text) for text in news]
        if not news or not members:
            return notes
        ended = self._ledger.ended(grace=False)
        return notes + [Send(peer, ended) for peer in self._members.peers]
