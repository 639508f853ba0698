"""The round of checks between the last join and an attempt: who visits whom, and what follows from it. Pure.

Every node visits its next neighbour and node 0, once: what was found out about two pods stays so, and an attempt with
the same pods as the last one begins at once. Problems end the job before its first attempt, or are said, as
spec.preflight wants it. Where the checks are all that is asked for, what each node has found itself is told here too,
and how it all ended.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Optional

from k8sddp.worker import root_cause
from k8sddp.worker.contract import finding, node_env
from k8sddp.worker.contract.finding import OK, PROBLEM, WARNING, Finding

from . import messages, plan, roster
from .effects import Effect, Note, Send
from .roster import LOCAL, Peer

LIMIT = 5.0  # seconds for the round: the visits take 3 s at most (preflight/peers.py)
LONG_LIMIT = 12.0  # where the checks are all that is asked for

_Pod = tuple[str, str, int]  # name, address, probe port: another pod, or another life of it, is checked anew
_Pair = tuple[_Pod, _Pod]


class Checking:
    """The rounds of one gang."""

    def __init__(self, asked: plan.Plan, own: messages.Join, members: roster.Roster) -> None:
        self._only = asked.only_preflight
        self._mode = node_env.FAIL if self._only else asked.preflight
        self._own = own
        self._members = members
        self._done: set[_Pair] = set()
        self._open: dict[Peer, list[_Pair]] = {}  # who has not answered yet
        self._found: list[tuple[messages.Join, Finding]] = []  # of this round
        self._round = 0
        self.due = 0.0

    def admitted(self, peer: Peer, join: messages.Join) -> list[Effect]:
        """Return what is said of a member that has joined: what differs there, and what it has found itself."""
        found = [one for one in self._differences(join) if self._mode != node_env.SKIP]
        who = finding.node_name(join.node_rank, join.pod)
        told = list(finding.lines(who, found, seconds=0.0))
        if self._only and peer != LOCAL:  # node 0's own log has its own already
            told += finding.lines(who, finding.from_records(join.findings), seconds=join.seconds)
        return [Note(line) for line in told]

    def begin(self, now: float) -> list[Effect]:
        """Begin a round; return whom to ask, nobody where all that there is to know is known."""
        self._round, self._open, self._found = self._round + 1, {}, []
        self.due = now + (LONG_LIMIT if self._only else LIMIT)
        if self._mode == node_env.SKIP:
            return []
        effects: list[Effect] = []
        known: set[_Pair] = set()
        for peer, join, others in self._visits():
            pairs = [(_pod(join), _pod(other)) for other in others]
            known.update(pairs)
            asked = [other for pair, other in zip(pairs, others) if pair not in self._done]  # noqa: B905  Python 3.9
            if asked:
                self._open[peer] = pairs
                targets = [[other.node_rank, *_pod(other)] for other in asked]
                effects.append(Send(peer, messages.Check(self._round, targets)))
        self._done &= known
        return effects

    def take(self, peer: Peer, answer: messages.Checked) -> bool:
        """Take a member's answer; return whether it was the last one."""
        if answer.round != self._round or peer not in self._open:
            return False
        self._done.update(self._open.pop(peer))
        self._found += [(self._members[peer], one) for one in finding.from_records(answer.findings)]
        return not self._open

    def results(self, *, trained: bool) -> tuple[list[Effect], Optional[root_cause.Failure]]:
        """Return what is said of the round, and what ends the job, if anything does.

        Nothing ends a job that has `trained`: of a newcomer's closed port the next attempt tells, and counts.
        """
        for peer in self._open:
            text = "did not say whether it reaches its peers, and is not waited for any longer"
            self._found.append((self._members[peer], Finding("ports", WARNING, text)))
        found, self._found = self._found, []
        own = [(join, one) for join, one in found if join.node_rank == self._own.node_rank]
        told = [pair for pair in found if pair not in own]  # its own log has said its own
        notes: list[Effect] = [
            Note(line) for join, one in told if one.level != OK for line in finding.lines(_name(join), [one], seconds=0)
        ]
        if self._only:
            found = [*self._of_joins(), *found]
        bad = [(join, one) for join, one in found if one.level == PROBLEM]
        if not bad or trained or self._mode != node_env.FAIL:
            return notes, None
        return notes, roster.failure(bad[0][0], "preflight", finding.summary([one for _, one in bad]))

    def _visits(self) -> Iterator[tuple[Peer, messages.Join, Sequence[messages.Join]]]:
        """Yield each member and whom it visits: its next neighbour and node 0, unless they have no door."""
        members, count = self._members, self._own.nnodes
        for node in range(count):
            peer = members.of_node(node)
            if peer is None:
                continue
            others = [members.of_node(other) for other in dict.fromkeys(((node + 1) % count, 0)) if other != node]
            joins = [members[other] for other in others if other is not None]
            yield peer, members[peer], [join for join in joins if join.probe_port and join.address]

    def _of_joins(self) -> Iterator[tuple[messages.Join, Finding]]:
        """Yield what the members have brought along, and what differs between them."""
        for peer in map(self._members.of_node, range(self._own.nnodes)):
            if peer is not None:
                join = self._members[peer]
                for one in (*finding.from_records(join.findings), *self._differences(join)):
                    yield join, one

    def _differences(self, join: messages.Join) -> Sequence[Finding]:
        return [Finding("peers", level, text) for level, text in roster.disagreements(self._own, join)]


def _pod(join: messages.Join) -> _Pod:
    return join.pod, join.address, join.probe_port


def _name(join: messages.Join) -> str:
    return finding.node_name(join.node_rank, join.pod)
