"""Who is in the gang at this moment: node ranks, their connections, and which of two pods is the stale one. Pure.

One node, one pod. Of two pods of one node the one with fewer earlier pods is stale, whoever joined first: a lost
Kubernetes Node keeps its containers running, and they may come back at any time. Where the counts are equal (a pod was
removed by force, so that nobody counted it) the newcomer wins, and the other one's name is refused from then on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

from k8sddp.worker import root_cause
from k8sddp.worker.contract import finding

from . import messages

Peer = int
LOCAL: Peer = 0  # the coordinator's own node

MISSING_SHOWN = 8  # node ranks listed by name before "and N more"
REFUSED_KEPT = 1024  # names of superseded pods that are remembered


class Roster:
    """The members by peer and by node rank."""

    def __init__(self, nnodes: int) -> None:
        self._present = bytearray(nnodes)  # 1 where a node has its member: searched by `find`, in C
        self._joins: dict[Peer, messages.Join] = {}
        self._peers: dict[int, Peer] = {}  # node rank -> its connection
        self._latest: dict[int, messages.Join] = {}  # node rank -> its latest pod, connected or not
        self._refused: dict[str, str] = {}  # name of a stale pod -> of the one that took its place

    def __contains__(self, peer: Peer) -> bool:
        return peer in self._joins

    def __getitem__(self, peer: Peer) -> messages.Join:
        return self._joins[peer]

    @property
    def peers(self) -> tuple[Peer, ...]:
        """Return all members, in a fixed order."""
        return tuple(sorted(self._joins))

    @property
    def complete(self) -> bool:
        """Return whether every node has its member."""
        return len(self._peers) == len(self._present)

    def of_node(self, node_rank: int) -> Optional[Peer]:
        """Return the member of a node."""
        return self._peers.get(node_rank)

    def successor(self, join: messages.Join) -> str:
        """Return the name of the pod in whose favour `join` is refused, the empty string where it is not."""
        latest = self._latest.get(join.node_rank)
        if join.pod in self._refused:
            return self._refused[join.pod]
        if latest is not None and latest.pod != join.pod and join.earlier_pods < latest.earlier_pods:
            return latest.pod
        return ""

    def add(self, peer: Peer, join: messages.Join) -> None:
        """Let a member in, in the place of the one that its node had."""
        latest = self._latest.get(join.node_rank)
        if latest is not None and latest.pod != join.pod:
            self._refused[latest.pod] = join.pod
            if len(self._refused) > REFUSED_KEPT:
                del self._refused[next(iter(self._refused))]
        self._latest[join.node_rank] = join
        self._joins[peer] = join
        self._peers[join.node_rank] = peer
        if 0 <= join.node_rank < len(self._present):  # else it is told that there is no such node
            self._present[join.node_rank] = 1

    def remove(self, peer: Peer) -> Optional[messages.Join]:
        """Take a member out; return what it was, None where it was none."""
        join = self._joins.pop(peer, None)
        if join is not None and self._peers.get(join.node_rank) == peer:
            del self._peers[join.node_rank]
            if 0 <= join.node_rank < len(self._present):
                self._present[join.node_rank] = 0
        return join

    def missing_text(self) -> str:
        """Return the node ranks that have no member, as people read them: the first MISSING_SHOWN by number.

        Thousands of members hear it, each at its own join, so it must not cost a look at every node.
        """
        ranks: list[int] = []
        node = self._present.find(0)
        while node >= 0 and len(ranks) < MISSING_SHOWN:
            ranks.append(node)
            node = self._present.find(0, node + 1)
        more = self._present.count(0) - len(ranks)
        return ", ".join(map(str, ranks)) + (" and %d more" % more if more else "")


def difference(own: messages.Join, join: messages.Join) -> str:
    """Return what keeps `join` out of any gang of this job as one sentence, the empty string where nothing does."""
    facts = (
        ("nnodes", own.nnodes, join.nnodes),
        ("nprocPerNode", own.nproc_per_node, join.nproc_per_node),
    )
    for name, ours, theirs in facts:
        if ours != theirs:
            return _DIFFERENT % (name, theirs, ours) + ": all nodes must agree"
    if not 0 <= join.node_rank < own.nnodes:
        return "there is no node %d among %d nodes" % (join.node_rank, own.nnodes)
    return ""


_DIFFERENT = "%s is %s there but %s on node 0"


def disagreements(own: messages.Join, join: messages.Join) -> Sequence[tuple[str, str]]:
    """Return what else is not the same there: the level of each finding, and its sentence.

    A torch that a node could not look at in time is no other one; that node has said so itself.
    """
    torch = finding.WARNING if finding.UNKNOWN in (own.torch_version, join.torch_version) else finding.PROBLEM
    facts = (
        (finding.PROBLEM, "the code digest", own.code_digest, join.code_digest, "all nodes must agree"),
        (torch, "torch", own.torch_version, join.torch_version, "all nodes must agree"),
        (finding.WARNING, "Python", own.python, join.python, "objects that the ranks exchange may not be read"),
    )
    return [
        (level, _DIFFERENT % (name, theirs or "unset", ours or "unset") + ": " + rule)
        for level, name, ours, theirs, rule in facts
        if ours != theirs
    ]


def failure(join: messages.Join, kind: str, detail: str) -> root_cause.Failure:
    """Return a failure of a whole node."""
    return root_cause.Failure(kind, join.node_rank, join.pod, join.kube_node, detail=detail)
