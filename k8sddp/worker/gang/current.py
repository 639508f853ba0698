"""The attempt that runs, or ran last: who trains in it, who has done its part, what has gone wrong. Pure.

It knows one attempt and takes note; what follows is the coordinator's to decide, and what counts the ledger's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Optional

from k8sddp.worker import root_cause

from . import findings, messages, roster
from .roster import Peer


class Current:
    """One attempt's members by peer, and its findings."""

    def __init__(self, number: int = -1, peers: Sequence[Peer] = (), *, now: float = 0.0) -> None:
        self.number = number  # -1: there was none yet
        self.since = now
        self.lasted = 0.0  # seconds, until its failure was decided
        self.busy = set(peers)  # members whose ranks have not ended
        self.complete: dict[int, messages.Join] = {}  # by node rank; what is complete stays so until the attempt ends
        self.findings = findings.Findings()
        self._open = set(peers)  # members from whom more may come about how they went

    def trains(self, peer: Optional[Peer], node_rank: int) -> bool:
        """Return whether a node's member has ranks that have not done their part."""
        return peer in self.busy and node_rank not in self.complete

    def remove(self, peer: Peer) -> None:
        """Take note that nothing more comes from a member."""
        self.busy.discard(peer)
        self._open.discard(peer)

    def report(self, peer: Peer, join: messages.Join, message: messages.Message) -> bool:
        """Take note of what a member tells; return whether the attempt now fails."""
        if isinstance(message, messages.Failed):
            self.findings.failed(root_cause.weigh(root_cause.from_record(message.failure)))
            return True
        if isinstance(message, messages.Left):
            self.findings.left(join, message.rank)
        if isinstance(message, messages.Over):
            self._open.discard(peer)
            if not self.findings.failures:
                self.findings.failed(roster.failure(join, "lost", "its launcher ended and gave no reason"))
            return True
        if isinstance(message, messages.Complete):
            self.complete[join.node_rank] = join
            self._open.discard(peer)
            return bool(self.findings.failures)
        return False

    def decidable(self, now: float) -> bool:
        """Return whether the failure's cause is to be decided now: no better one can come, or in time."""
        due = self.findings.wait(now)
        return not self._open or now >= due

    def suspects(self, members: roster.Roster) -> Sequence[messages.Join]:
        """Return the pods that may be lost, by their own failure or not: their successors will tell."""
        if self.findings.explained:
            return self.findings.lost if self.findings.pod_was_lost else ()
        # nobody has told the cause: perhaps a pod that is lost, and its link not yet
        trained = [members[peer] for peer in sorted(self.busy)]
        return [join for join in trained if join.node_rank not in self.complete]

    def states(self, members: roster.Roster, nnodes: int, *, running: bool) -> Mapping[int, str]:
        """Return what each node is doing, by node rank."""
        found = {}
        for node in range(nnodes):
            peer = members.of_node(node)
            if node in self.complete:
                found[node] = "complete"
            elif peer is None:
                found[node] = "missing"
            elif running and peer in self.busy:
                found[node] = "training"
            else:
                found[node] = "ending" if peer in self.busy else "waiting"
        return found
