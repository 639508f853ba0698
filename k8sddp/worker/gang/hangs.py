"""Hangs of the attempt that runs: what node 0 knows of the ranks in, questions and the failure out. Pure.

Between the rule (hanging.py), its moments (suspicion.py) and the coordinator: it makes the rows, asks the members for
looks at their ranks, and words what was found. A hang is a failure as any other; the coordinator decides what follows.
"""

from __future__ import annotations

from typing import NamedTuple, Optional, Union

from k8sddp.worker import root_cause
from k8sddp.worker.contract import node_env, wording

from . import looks, messages, plan, progress, roster, standings, suspicion
from .effects import Effect, Note, Send
from .hanging import Finding, Row

WHOLE = "; nothing is ended, because restart.onHang is report"


class Outcome(NamedTuple):
    """What to do, and the hang that ends the attempt, if any."""

    effects: list[Effect]
    failure: Optional[root_cause.Failure] = None


NOTHING = Outcome([])


class Hangs:
    """The ranks as one coordinator knows them, and its suspicions; `own` is its member."""

    def __init__(self, asked: plan.Plan, own: messages.Join, members: roster.Roster) -> None:
        self._asked = asked
        self._own = own
        self._members = members
        self.ranks = standings.Standings(own.nnodes, own.nproc_per_node)
        self._number = -1
        self._began = 0.0
        self._suspicion: Optional[suspicion.Suspicion] = None

    @property
    def due(self) -> Optional[float]:
        """Return when `tick` has to do something, None before the first attempt."""
        return self._suspicion.due if self._suspicion else None

    @property
    def told(self) -> Optional[Finding]:
        """Return who holds up the gang, as was told last, while that holds."""
        return self._suspicion.told if self._suspicion else None

    def begin(self, number: int, now: float) -> None:
        """Watch another attempt, of whose ranks nobody has told yet."""
        self._number, self._began = number, now
        self.ranks.begin()
        self._suspicion = suspicion.Suspicion(
            self._asked.hang_timeout,
            range(self._own.nnodes),
            blocking=self._asked.blocking,
            ends=self._asked.rules.on_hang != node_env.REPORT,
            now=now,
        )

    def slept(self, now: float) -> None:
        """Take note that node 0 itself did not run."""
        if self._suspicion:
            self._suspicion.slept(now)

    def tick(self, now: float) -> Outcome:
        """Do what is due."""
        return self._outcome(self._suspicion.tick(self._rows, now)) if self._suspicion else NOTHING

    def heard(self, join: messages.Join, message: Union[messages.Progress, messages.Seen], now: float) -> Outcome:
        """Take what a member tells of its ranks, unasked or as the answer to a look."""
        if isinstance(message, messages.Progress):
            self.ranks.take(join.node_rank, message.rows, now)
            return NOTHING
        if self._suspicion is None:
            return NOTHING
        nproc = self._own.nproc_per_node
        seen = looks.from_rows(message.ranks, range(join.node_rank * nproc, (join.node_rank + 1) * nproc))
        return self._outcome(self._suspicion.answered(join.node_rank, message.number, seen, self._rows, now))

    def _rows(self) -> list[Row]:
        return [
            row_of(rank, self.ranks.of(rank), began=self._began)
            for rank in range(self._own.nnodes * self._own.nproc_per_node)
        ]

    def _outcome(self, steps: list[suspicion.Step]) -> Outcome:
        effects: list[Effect] = []
        failure = None
        for step in steps:
            if isinstance(step, suspicion.Ask):
                look = messages.Look(self._number, step.number, step.show)
                effects += [Send(peer, look) for peer in self._members.peers]
            elif isinstance(step, suspicion.End):
                failure = self._failure(step.finding)
            elif isinstance(step, suspicion.Tell):
                effects.append(Note(self._told(step.finding)))
            else:
                effects.append(Note("nobody waits for %s any more" % (wording.ranks(step.finding.ranks) or "others")))
        return Outcome(effects, failure)

    def _told(self, found: Finding) -> str:
        ends = self._asked.rules.on_hang != node_env.REPORT
        sentence = root_cause.sentence(self._failure(found))
        if not found.works:
            return sentence + WHOLE
        if found.ranks:
            sentence = sentence.replace(" hangs: ", " still works, and the others wait for it: ", 1)
        else:
            sentence = "the ranks wait for each other, and still move: " + found.detail
        return sentence + ("; ended when they have waited for %.0f s" % (2 * self._asked.hang_timeout) if ends else "")

    def _failure(self, found: Finding) -> root_cause.Failure:
        """Return the hang as a failure; where nobody is named it is of no node."""
        detail = found.detail
        if not found.ranks:
            return root_cause.Failure("hang", 0, "", "", detail=detail)
        rank = found.ranks[0]
        node_rank = rank // self._own.nproc_per_node
        peer = self._members.of_node(node_rank)
        join = self._members[peer] if peer is not None else None
        return root_cause.Failure(
            "hang",
            node_rank,
            join.pod if join else "",
            join.kube_node if join else "",
            rank=rank,
            detail=detail,
            last_step=found.step,
        )


def row_of(rank: int, standing: Optional[standings.Standing], *, began: float) -> Row:
    """Return how far a rank is; of one that nobody has told of nothing is known since the attempt `began`."""
    if standing is None:
        return Row(rank, changed=began)
    one, came = standing.rank, standing.heard
    order: tuple[int, ...] = ()
    if one.step is not None:
        order = (
            one.group,
            one.forward_entered,
            one.forward_left,
            one.step,
            one.backward_entered,
            one.collectives,
        )
    if one.waiting is None:
        return Row(rank, order, changed=came - standing.still, step=one.step)
    inside = one.collective or ("backward" if one.backward_entered > one.backward_left else "")
    inside = inside or ("init_process_group" if one.group == progress.JOINING else "a collective")
    return Row(rank, order, inside, came - one.waiting, came - standing.still, one.step)
