"""The gang's one decision maker, at node rank 0: who belongs to it, when it starts, how it ended. Pure.

Messages and time in, effects out; no clock, no socket. A job gets one attempt here. Its end is decided once and never
changes (`ended`): complete when every member has reported so; stopped when a member that is not complete, or node 0,
was asked to stop (a disruption: all leave with ignored codes and the Job starts a fresh gang, free of charge); failed
otherwise. A member whose
connection breaks without a word spends the attempt like any failure, because only its pod's own status could tell an
eviction from an OOM kill, and nobody in here can read that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Optional, Union

from k8sddp.worker import exit_codes, root_cause

from . import messages

SETTLE_CAUSE = 0.2  # seconds to wait for an earlier or better cause once there is one (a launcher looks every 0.1 s)
SETTLE_VICTIM = 2.0  # seconds to wait while all failures known look like consequences
MISSING_SHOWN = 8  # node ranks listed by name before "and N more"
REMIND = 30.0  # seconds between two lines about who is missing

Peer = int
LOCAL: Peer = 0  # the coordinator's own node


class Send(NamedTuple):
    """Send `message` to `peer`."""

    peer: Peer
    message: messages.Message


class Close(NamedTuple):
    """Close the connection to `peer` once what was sent has left."""

    peer: Peer


class Note(NamedTuple):
    """Tell the log."""

    text: str


Effect = Union[Send, Close, Note]


class Plan(NamedTuple):
    """What the coordinator hands out when the gang is there; `fresh` is what no other attempt may share."""

    job: str
    attempt: messages.Attempt
    deadline: float  # when all members must have joined
    timeout: float  # the seconds that makes, for the message


class Coordinator:
    """The gang as seen from node rank 0; every method returns the effects to carry out, in order."""

    def __init__(self, plan: Plan, own: messages.Join, *, now: float) -> None:
        self._plan = plan
        self._own = own
        self._peers: dict[int, Peer] = {}  # node rank -> its connection
        self._joins: dict[Peer, messages.Join] = {}
        self._running = False
        self._finished: set[Peer] = set()  # members from whom nothing more will come
        self._complete: set[int] = set()  # node ranks; what is complete stays so, whatever becomes of the pod
        self._failures: list[root_cause.Failure] = []
        self._settle: Optional[float] = None
        self._verdict: Optional[Mapping[str, object]] = None
        self._remind = now + 1.0
        self._own_problem = ""

    @property
    def ended(self) -> bool:
        """Return whether the verdict has been given; it is final."""
        return self._verdict is not None

    @property
    def alone(self) -> bool:
        """Return whether no follower is connected any more."""
        return not any(peer != LOCAL for peer in self._joins)

    def deadline(self) -> Optional[float]:
        """Return when `tick` is next due."""
        if self.ended:
            return None
        if self._settle is not None:
            return self._settle
        return None if self._running else min(self._plan.deadline, self._remind)

    def received(self, peer: Peer, message: messages.Message, now: float) -> list[Effect]:
        """Take a message from `peer`."""
        if isinstance(message, messages.Join):
            return self._join(peer, message, now)
        if self.ended or peer not in self._joins:
            return []
        if isinstance(message, messages.Failed):
            self._failures.append(root_cause.weigh(root_cause.from_record(message.failure)))
            return self._failing(now)
        if isinstance(message, messages.Over):
            self._finished.add(peer)
            if not self._failures:
                self._failures.append(_lost(self._joins[peer], "its launcher ended and gave no reason"))
            return self._failing(now)
        if isinstance(message, messages.Complete):
            self._complete.add(self._joins[peer].node_rank)
            self._finished.add(peer)
            if len(self._complete) == self._own.nnodes:
                return self._conclude("complete", exit_codes.COMPLETE)
            return self._failing(now) if self._failures else []
        if isinstance(message, messages.Leaving):
            if peer != LOCAL and self._joins[peer].node_rank in self._complete:
                return []  # its part is done, and nobody else need lose theirs
            return self._stop(peer, message.reason)
        return []

    def lost(self, peer: Peer, now: float) -> list[Effect]:
        """Take note that the connection to `peer` is gone."""
        join = self._joins.pop(peer, None)
        if join is None:
            return []
        if self._peers.get(join.node_rank) == peer:
            del self._peers[join.node_rank]
        if self.ended or not self._running or join.node_rank in self._complete:
            return []
        self._finished.add(peer)
        self._failures.append(_lost(join, "its pod was lost without a word, or its network"))
        return self._failing(now)

    def own_name_unknown(self, problem: str) -> None:
        """Take note why node 0 itself cannot be reached by its name yet."""
        self._own_problem = problem

    def tick(self, now: float) -> list[Effect]:
        """Act on what is due by `now`."""
        if self.ended:
            return []
        if self._settle is not None:
            return self._fail() if now >= self._settle else []
        if self._running:
            return []
        if now >= self._plan.deadline:
            return self._give_up()
        if now >= self._remind:
            self._remind = now + REMIND
            return [Send(peer, messages.Waiting(self._missing())) for peer in sorted({LOCAL: self._own, **self._joins})]
        return []

    def _join(self, peer: Peer, join: messages.Join, now: float) -> list[Effect]:
        if self._verdict is not None:
            if peer == LOCAL:
                return []  # the end was told to node 0 when it was decided, joined or not
            self._joins[peer] = join
            return [Send(peer, messages.End(self._verdict, exit_codes.FOLLOWER_LEAVES, grace=False))]
        difference = _difference(self._own, join)
        if difference:
            self._joins[peer] = join
            cause = root_cause.Failure("preflight", join.node_rank, join.pod, join.kube_node, detail=difference)
            self._failures.append(cause)
            return self._fail()
        effects: list[Effect] = []
        older = self._peers.get(join.node_rank)
        if older is not None and older != peer:
            effects += self._supersede(older, join)
        self._peers[join.node_rank] = peer
        self._joins[peer] = join
        if join.node_rank in self._complete:  # a new pod of a node whose part is done: it waits for the verdict
            self._finished.add(peer)
            return [*effects, Send(peer, messages.Waiting(self._missing()))]
        if self._running:  # the newcomer's predecessor was in the attempt that runs
            self._failures.append(_lost(join, "a new pod took its place while it trained"))
            return effects + self._failing(now)
        if len(self._peers) == self._own.nnodes:
            self._running = True
            if self._own.nnodes > 1:
                effects.append(Note("all %d nodes have joined" % self._own.nnodes))
            effects += [Send(self._peers[node], self._plan.attempt) for node in sorted(self._peers)]
        else:
            effects.append(Send(peer, messages.Waiting(self._missing())))
        return effects

    def _supersede(self, older: Peer, newer: messages.Join) -> list[Effect]:
        old = self._joins.pop(older)
        cause = root_cause.Failure(
            "lost", old.node_rank, old.pod, old.kube_node, detail="superseded by pod %s" % newer.pod
        )
        code = exit_codes.FOLLOWER_LEAVES
        verdict = root_cause.verdict(
            self._plan.job, "stopped", attempt=self._plan.attempt.number, code=code, failures=(cause,)
        )
        return [Send(older, messages.End(verdict, code, grace=False)), Close(older), Note(root_cause.sentence(cause))]

    def _failing(self, now: float) -> list[Effect]:
        """Wait a little for a better cause, or decide when none can come."""
        certain = any(failure.weight == root_cause.CAUSE for failure in self._failures)
        due = now + (SETTLE_CAUSE if certain else SETTLE_VICTIM)
        self._settle = due if self._settle is None else min(self._settle, due)
        return self._fail() if all(peer in self._finished for peer in self._joins) else []

    def _fail(self) -> list[Effect]:
        return self._conclude("failed", root_cause.exit_code(root_cause.first(self._failures)))

    def _give_up(self) -> list[Effect]:
        missing = "node %s of %d never joined within %.0f s" % (self._missing(), self._own.nnodes, self._plan.timeout)
        node = self._missing_ranks()[0]
        pod = self._own.pod if node == 0 else "never seen"
        remedy = self._own_problem if node == 0 else "see whether its pod is scheduled and its image pulled"
        detail = "%s: %s" % (missing, remedy)
        self._failures.append(root_cause.Failure("infrastructure", node, pod, "", detail=detail))
        return self._fail()

    def _stop(self, peer: Peer, reason: str) -> list[Effect]:
        join = self._joins[peer]
        text = "node %d (pod %s) was asked to stop (%s)" % (join.node_rank, join.pod, reason[:80])
        return [Note(text), *self._conclude("stopped", exit_codes.STOPPED, asked=peer)]

    def _conclude(self, outcome: str, code: int, *, asked: Optional[Peer] = None) -> list[Effect]:
        self._settle = None
        failures = () if outcome == "complete" else self._failures
        self._verdict = root_cause.verdict(
            self._plan.job, outcome, attempt=self._plan.attempt.number, code=code, failures=failures
        )
        effects: list[Effect] = []
        for peer, join in sorted({LOCAL: self._own, **self._joins}.items()):
            own = code
            if outcome == "stopped":
                own = code if peer == asked else exit_codes.FOLLOWER_LEAVES
            elif outcome == "failed" and join.node_rank != 0:
                own = exit_codes.FOLLOWER_LEAVES
            effects.append(Send(peer, messages.End(self._verdict, own, grace=outcome == "stopped")))
        return effects

    def _missing_ranks(self) -> list[int]:
        return [node for node in range(self._own.nnodes) if node not in self._peers]

    def _missing(self) -> str:
        ranks = self._missing_ranks()
        more = " and %d more" % (len(ranks) - MISSING_SHOWN) if len(ranks) > MISSING_SHOWN else ""
        return ", ".join(map(str, ranks[:MISSING_SHOWN])) + more


def _lost(join: messages.Join, how: str) -> root_cause.Failure:
    return root_cause.Failure("lost", join.node_rank, join.pod, join.kube_node, detail=how)


def _difference(own: messages.Join, join: messages.Join) -> str:
    """Return what keeps `join` out of the gang as one sentence, the empty string where nothing does."""
    facts = (
        ("nnodes", own.nnodes, join.nnodes),
        ("nprocPerNode", own.nproc_per_node, join.nproc_per_node),
        ("the code digest", own.code_digest, join.code_digest),
        ("torch", own.torch_version, join.torch_version),
    )
    for name, ours, theirs in facts:
        if ours != theirs:
            return "%s is %s there but %s on node 0: all nodes must agree" % (name, theirs or "unset", ours or "unset")
    if not 0 <= join.node_rank < own.nnodes:
        return "there is no node %d among %d nodes" % (join.node_rank, own.nnodes)
    return ""
