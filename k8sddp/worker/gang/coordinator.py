"""The gang's one decision maker, at node rank 0: who belongs to it, when an attempt starts, how it ended. Pure.

Messages and time in, effects out; no clock, no socket. An attempt starts when every node has a member without ranks; it
ends for all as soon as it cannot end well; then the members end their ranks, lost ones are awaited, and the next
attempt starts, on a port that no earlier one has used. The job's end is decided once and never changes (`ended`):
complete when every member has reported so in one attempt; failed when the budget is used up or a failure is final.

What may be broken is bounded: the silence of a connection (net/link.py), the end of an attempt by END_LIMIT, what
counts by max_attempts, what does not count by LAST_NUMBER. Waiting for nodes is no failure: it costs nothing and has no
limit here; those who wait hear for how long. docs/protocol.md draws it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Optional

from k8sddp.worker import root_cause
from k8sddp.worker.contract import exit_codes
from k8sddp.worker.contract import verdict as verdicts

from . import (
    checking,
    conclusion,
    current,
    ending,
    excuse,
    gathering,
    hangs,
    joining,
    ledger,
    messages,
    plan,
    ports,
    retrying,
    roster,
)
from .effects import Effect, Note, Send
from .roster import LOCAL, Peer

LAST_NUMBER = 999999  # disruptions are free; this bounds them

GATHERING, CHECKING, RUNNING, ENDING, OVER = "gathering", "checking", "running", "ending", "over"


class Coordinator:
    """The gang as seen from node rank 0; every method returns the effects to carry out, in order."""

    def __init__(self, job_plan: plan.Plan, own: messages.Join, *, now: float) -> None:
        self._plan = job_plan
        self._own = own
        self._roster = roster.Roster(own.nnodes)
        self._joining = joining.Joining(job_plan.job, own, self._roster, strict=job_plan.strict)
        self._checking = checking.Checking(job_plan, own, self._roster)
        self._ledger = ledger.Ledger(own, max_attempts=job_plan.max_attempts)
        self._retrying = retrying.Retrying(job_plan.rules, max_attempts=job_plan.max_attempts)
        self._ports = ports.Ports(job_plan.first_port, earlier_pods=own.earlier_pods, usable=job_plan.usable)
        self._phase = GATHERING
        self._gathering = gathering.Gathering(self._roster, now)
        self._current = current.Current()
        self.watch = hangs.Hangs(job_plan, own, self._roster)  # the ranks, and who of them holds up the others
        self._ending = ending.Ending(self._roster, self._ledger, now=now)
        self._excuse = excuse.Excuse(own, now)
        self._verdict: Optional[Mapping[str, object]] = None

    @property
    def ended(self) -> bool:
        """Return whether nothing will be decided any more: the verdict is given, or node 0 leaves."""
        return self._phase == OVER

    @property
    def ledger(self) -> ledger.Ledger:
        """Return the account of the attempts."""
        return self._ledger

    def states(self) -> Mapping[int, str]:
        """Return what each node is doing, by node rank."""
        return self._current.states(self._roster, self._own.nnodes, running=self._phase == RUNNING)

    def deadline(self) -> Optional[float]:
        """Return when `tick` is next due."""
        decided, ends = self._current.findings.due, self._ending.deadline
        runs = self.watch.due if decided is None else decided
        due = {GATHERING: self._gathering.due, CHECKING: self._checking.due, RUNNING: runs, ENDING: ends}
        return due.get(self._phase)

    def received(self, peer: Peer, message: messages.Message, now: float) -> list[Effect]:
        """Take a message from `peer`."""
        if isinstance(message, messages.Join):
            return self._join(peer, message, now)
        if self.ended or peer not in self._roster:
            return []
        if isinstance(message, messages.Leaving):
            return self._leaving(peer, message.reason, now)
        if isinstance(message, messages.Idle):
            return self._idle(peer, now) if message.attempt == self._current.number and self._phase == ENDING else []
        if isinstance(message, messages.Checked):
            return self._checked(now) if self._phase == CHECKING and self._checking.take(peer, message) else []
        if self._phase == RUNNING and getattr(message, "attempt", None) == self._current.number:
            return self._report(peer, message, now)
        return []  # about an attempt that is over

    def lost(self, peer: Peer, now: float, how: str = "") -> list[Effect]:
        """Take note that the connection to `peer` is gone, and how, where more is known than that."""
        how = how or ledger.SILENT
        was_busy = peer in self._current.busy
        join = self._remove(peer)
        if join is None or self.ended:
            return []
        if self._phase == RUNNING and was_busy and join.node_rank not in self._current.complete:
            return self._lose(join, how, now)
        if self._phase == ENDING and was_busy and not self._excuse.covers(now):
            self._ledger.blame(join, how)
        return self._advance(now)

    def slept(self, seconds: float, now: float) -> None:
        """Take note that node 0 itself did not run for a while: who left it then is not to blame."""
        self._excuse.slept(seconds, now)
        self._ending.excuse(now)
        self.watch.slept(now)

    def tick(self, now: float) -> list[Effect]:
        """Act on what is due by `now`."""
        if self._phase == RUNNING:
            due = self._current.findings.due
            decided = due is not None and now >= due
            return self._fail_attempt(now) if decided else self._hung(self.watch.tick(now), now)
        if self._phase == ENDING and now >= self._ending.deadline:
            return self._ending.give_up(self._current, now) + self._advance(now)
        if self._phase == CHECKING and now >= self._checking.due:
            return self._checked(now)
        return self._gathering.remind(now) if self._phase == GATHERING else []

    def _waiting(self, now: float) -> messages.Waiting:
        return self._gathering.waiting(now if self._phase == GATHERING else self._gathering.since)

    def _remove(self, peer: Peer) -> Optional[messages.Join]:
        """Take a member out of the gang; return what it was, None where it was none."""
        self._phase = GATHERING if self._phase == CHECKING else self._phase  # another gang is checked anew
        self._current.remove(peer)
        return self._roster.remove(peer)

    # Joining ------------------------------------------------------------------------------------------------------

    def _join(self, peer: Peer, join: messages.Join, now: float) -> list[Effect]:
        if self.ended:
            return joining.turn_away(peer, self._verdict)
        admission = self._joining.admit(peer, join, attempt=self._current.number)
        if admission.different:
            return self._conclude_failed(roster.failure(join, "preflight", admission.different))
        effects = list(admission.effects)
        if not admission.admitted:
            return effects
        self._phase = GATHERING if self._phase == CHECKING else self._phase
        effects += self._checking.admitted(peer, join)
        trained, how = None, ""  # whom the newcomer replaces in the attempt that runs
        if admission.replaced is not None and admission.before is not None:
            if self._current.trains(admission.replaced, join.node_rank):
                trained, how = admission.before, joining.how_replaced(admission.before, join)
            self._current.remove(admission.replaced)
        if trained is not None and self._phase == ENDING:
            self._ledger.blame(trained, how)
        effects += self._tell_outcome(self._ledger.joined(join))
        if self._phase == RUNNING:
            effects.append(Send(peer, self._waiting(now)))
            return effects + (self._lose(trained, how, now) if trained is not None else [])
        if self._ledger.exhausted and (self._ledger.cause or self._roster.complete):
            return effects + self._conclude_failed(self._ledger.used_up())
        return effects + (self._advance(now) or [Send(peer, self._waiting(now))])

    def _advance(self, now: float) -> list[Effect]:
        """Go on to the next phase when everything that it waits for is there."""
        if self._phase == ENDING and not self._current.busy:
            self._phase = GATHERING
            self._gathering.begin(now)
        if self._phase != GATHERING or not self._roster.complete:
            return []
        if self._ledger.number >= LAST_NUMBER:
            detail = "attempt %d was the last that there can be, disruptions included" % self._ledger.number
            return self._conclude_failed(roster.failure(self._own, "lost", detail))
        checks = self._checking.begin(now)
        self._phase = CHECKING
        return checks or self._checked(now)

    def _checked(self, now: float) -> list[Effect]:
        """Begin the attempt when the checks have shown nothing that ends the job."""
        notes, failure = self._checking.results(trained=self._ledger.number >= 0)
        if failure is not None:
            return notes + self._conclude_failed(failure)
        only = self._plan.only_preflight
        return notes + (self._conclude(verdicts.COMPLETE, exit_codes.COMPLETE) if only else self._start(now))

    def _start(self, now: float) -> list[Effect]:
        number, own = self._ledger.next(), self._own
        self._phase = RUNNING
        self._retrying.begin()
        self._current = current.Current(number, self._roster.peers, now=now)
        self.watch.begin(number, now)
        terms = plan.terms(self._plan, own, number, port=self._ports.next(number), account=self._ledger)
        effects: list[Effect] = [Note("all %d nodes have joined" % own.nnodes)] if own.nnodes > 1 else []
        return effects + [Send(peer, terms) for peer in self._roster.peers]

    # An attempt that runs ---------------------------------------------------------------------------------------------

    def _report(self, peer: Peer, message: messages.Message, now: float) -> list[Effect]:
        join = self._roster[peer]
        if isinstance(message, (messages.Progress, messages.Seen)):
            return self._hung(self.watch.heard(join, message, now), now)
        fails = self._current.report(peer, join, message)
        if len(self._current.complete) == self._own.nnodes:
            return self._conclude(verdicts.COMPLETE, exit_codes.COMPLETE)
        return self._failing(now) if fails else []

    def _hung(self, found: hangs.Outcome, now: float) -> list[Effect]:
        if found.failure is not None and not self._current.findings.failures:
            self._current.findings.failed(found.failure)
            return found.effects + self._failing(now)
        return found.effects

    def _lose(self, join: messages.Join, how: str, now: float) -> list[Effect]:
        self._excuse.judge(self._current.findings, join, how, now)
        return self._failing(now)

    def _failing(self, now: float) -> list[Effect]:
        """Wait a little for a better cause, or decide when none can come."""
        return self._fail_attempt(now) if self._current.decidable(now) else []

    def _fail_attempt(self, now: float) -> list[Effect]:
        found, cause = self._current.findings, self._current.findings.cause
        self._current.lasted = now - self._current.since
        final = found.explained and self._final(cause, spent=self._ledger.spent + 1)
        if final:
            return self._conclude_failed(final, counts=True)
        suspects = self._current.suspects(self._roster)
        self._ledger.failed(self._current.number, cause, suspects, explained=found.explained)
        news: list[Effect] = []
        for peer in map(self._roster.of_node, [join.node_rank for join in found.lost]):
            if peer is not None:  # its replacement, or itself, is here already
                news += [Note(text) for text in self._ledger.joined(self._roster[peer])]
        if self._ledger.exhausted:
            return news + self._conclude_failed(cause)
        return news + self._end_attempt(now, grace=False)

    def _final(self, cause: root_cause.Failure, *, spent: int) -> Optional[root_cause.Failure]:
        return self._retrying.final(cause, lasted=self._current.lasted, spent=spent)

    def _tell_outcome(self, news: Sequence[str]) -> list[Effect]:
        return self._ending.tell(news, members=self._phase != RUNNING)

    def _end_attempt(self, now: float, *, grace: bool, last: bool = False) -> list[Effect]:
        self._phase = ENDING
        effects = self._ending.begin(self._current, now, grace=self._plan.grace_period if grace else None, last=last)
        return effects + self._advance(now)

    def _idle(self, peer: Peer, now: float) -> list[Effect]:
        if peer not in self._current.busy:
            return []
        self._current.busy.discard(peer)
        effects = self._tell_outcome(self._ledger.cleared(self._roster[peer].node_rank))
        cause = self._ledger.cause  # where all are cleared: the consequence is all there is
        if not effects:
            return self._advance(now)
        final = cause and cause.weight != root_cause.VICTIM and self._final(cause, spent=self._ledger.spent)
        if final:
            self._ledger.remark(final.remark)
        if final or self._ledger.exhausted:
            return effects + self._conclude_failed(self._ledger.used_up())
        return effects + self._advance(now)

    def _leaving(self, peer: Peer, reason: str, now: float) -> list[Effect]:
        """A pod is asked to stop: a disruption. The others stay, and its replacement will join them."""
        join = self._roster[peer]
        if peer != LOCAL and join.node_rank in self._current.complete:
            return []  # its part is done, and nobody else need lose theirs
        self._remove(peer)
        effects: list[Effect] = []
        if self._phase == RUNNING:
            if self._current.findings.explained:
                effects = self._fail_attempt(now)
            else:
                text = "node %d (pod %s) was asked to stop (%s)" % (join.node_rank, join.pod, reason[:80])
                self._ledger.disrupted(self._current.number, text, join.node_rank)
                effects = self._end_attempt(now, grace=True, last=peer == LOCAL)
        if peer == LOCAL and self._phase != OVER:
            self._phase = OVER
        return effects + self._advance(now)

    # The job's end ------------------------------------------------------------------------------------------------

    def _conclude_failed(self, cause: root_cause.Failure, *, counts: bool = False) -> list[Effect]:
        return self._conclude(verdicts.FAILED, conclusion.code(cause), cause=cause, counts=counts)

    def _conclude(
        self, outcome: str, code: int, *, cause: Optional[root_cause.Failure] = None, counts: bool = False
    ) -> list[Effect]:
        """End the job: node 0 leaves with `code`, the others with what leaves the word to it."""
        known = self._current.findings.failures if self._phase == RUNNING or cause == self._ledger.cause else ()
        verdict = self._ledger.verdict(self._plan.job, outcome, code, cause, failures=known, counts=counts)
        self._phase, self._verdict = OVER, verdicts.to_record(verdict)
        return conclusion.ends(self._verdict, code, self._roster.peers)
