"""Who is let into the gang, who is turned away, and whose place a newcomer takes. Pure.

All nodes must agree on what is equal everywhere; of two pods of one node the stale one leaves for good (roster.py
knows which). What a newcomer means for the attempt that runs, or for the account of the last one, is decided by the
coordinator.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Optional

from k8sddp.worker import root_cause
from k8sddp.worker.contract import exit_codes, finding
from k8sddp.worker.contract import verdict as verdicts

from . import messages, roster
from .effects import Close, Effect, Note, Send
from .roster import LOCAL, Peer


class Admission(NamedTuple):
    """What became of a join; `effects` tell those who have to leave."""

    admitted: bool
    effects: Sequence[Effect] = ()
    different: str = ""  # what keeps it out, and the whole gang from ever training
    replaced: Optional[Peer] = None  # whose place it took: another pod, or an earlier connection of its own
    before: Optional[messages.Join] = None  # and how that one had joined


class Joining:
    """The door of one gang."""

    def __init__(self, job: str, own: messages.Join, members: roster.Roster, *, strict: bool) -> None:
        self._job = job
        self._own = own
        self._members = members
        self._strict = strict  # keep out also those who would only most probably fail

    def admit(self, peer: Peer, join: messages.Join, *, attempt: int) -> Admission:
        """Let a newcomer into the roster, or not; `attempt` is the number of the last one."""
        members, rank = self._members, join.node_rank
        different = roster.difference(self._own, join)
        if not different and self._strict:
            serious = [text for level, text in roster.disagreements(self._own, join) if level == finding.PROBLEM]
            different = serious[0] if serious else ""
        if different:
            members.add(peer, join)
            return Admission(admitted=False, different=different)
        newer = self._own.pod if peer != LOCAL and rank == 0 else members.successor(join)
        if newer:
            return Admission(admitted=False, effects=self._supersede(peer, join, newer, attempt=attempt))
        effects: list[Effect] = []
        older, before = members.of_node(rank), None
        if older == peer:
            older = None
        if older is not None:
            before = members[older]
            same = before.pod == join.pod
            effects = [Close(older)] if same else self._supersede(older, before, join.pod, attempt=attempt)
            members.remove(older)
        members.add(peer, join)
        return Admission(True, effects, replaced=older, before=before)

    def _supersede(self, peer: Peer, join: messages.Join, newer: str, *, attempt: int) -> list[Effect]:
        cause = roster.failure(join, "lost", "superseded by pod %s" % newer)
        code = exit_codes.FOLLOWER_LEAVES
        verdict = root_cause.verdict(self._job, verdicts.STOPPED, attempt=max(0, attempt), code=code, failures=(cause,))
        end = messages.End(verdicts.to_record(verdict), code, grace=False)
        return [Send(peer, end), Close(peer), Note(root_cause.sentence(cause))]


def how_replaced(before: messages.Join, join: messages.Join) -> str:
    """Return how a member was lost whose place another one took."""
    return "its connection broke" if before.pod == join.pod else "pod %s took its place while it trained" % join.pod


def turn_away(peer: Peer, verdict: Optional[Mapping[str, object]]) -> list[Effect]:
    """Answer who joins when the job has ended with `verdict`, or, where there is none, when node 0 leaves."""
    if peer == LOCAL:
        return []  # the end was told to node 0 when it was decided, joined or not
    if verdict is None:
        return [Close(peer)]  # node 0 leaves; its replacement will answer
    return [Send(peer, messages.End(verdict, exit_codes.FOLLOWER_LEAVES, grace=False))]
