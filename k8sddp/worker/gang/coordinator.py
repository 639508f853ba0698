"""The gang's one decision maker, at node rank 0: who belongs to it, when an attempt starts, how it ended. Pure.

Messages and time in, effects out; no clock, no socket. An attempt starts when every node has a member without ranks; it
ends for all as soon as it cannot end well; then the members end their ranks, lost ones are awaited, and the next
attempt starts, on a port that no earlier one has used. The job's end is decided once and never changes (`ended`):
complete when every member has reported so in one attempt; failed when the budget is used up or a failure is final.

Everything is bounded: the wait for members by the join timeout, the end of an attempt by END_LIMIT, what counts by
max_attempts, what does not count by LAST_NUMBER. docs/protocol.md draws it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Optional, Union

from k8sddp.worker import root_cause
from k8sddp.worker.contract import exit_codes
from k8sddp.worker.contract import verdict as verdicts

from . import findings, ledger, messages, plan, ports, retrying, roster
from .roster import LOCAL, Peer

END_LIMIT = 10.0  # seconds, beyond a grace, for a member to end its ranks: 5 s more than it takes at most
LAST_NUMBER = 9999  # disruptions are free; this bounds them
REMIND = 30.0  # seconds between two words to those who wait, at most; their patience begins anew with each

GATHERING, RUNNING, ENDING, OVER = "gathering", "running", "ending", "over"


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


class Coordinator:
    """The gang as seen from node rank 0; every method returns the effects to carry out, in order."""

    def __init__(self, job_plan: plan.Plan, own: messages.Join, *, now: float) -> None:
        self._plan = job_plan
        self._own = own
        self._roster = roster.Roster(own.nnodes)
        self._ledger = ledger.Ledger(own, max_attempts=job_plan.max_attempts)
        self._phase = GATHERING
        self._deadline = now + job_plan.timeout
        self._busy: set[Peer] = set()  # members whose ranks of the last attempt have not ended
        self._finished: set[Peer] = set()  # members from whom nothing more will come in this attempt
        self._complete: dict[int, messages.Join] = {}  # by node rank; what is complete stays so until the attempt ends
        self._findings = findings.Findings()  # about the attempt that runs, or ran last
        self._number = -1  # of the attempt that runs, or ran last
        self._ports = ports.Ports(job_plan.first_port, lives=own.lives, usable=job_plan.usable)
        self._pause = min(REMIND, job_plan.timeout / 2)
        self._remind = now + 1.0
        self._own_problem = ""
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
        found = {}
        for node in range(self._own.nnodes):
            peer = self._roster.of_node(node)
            if node in self._complete:
                found[node] = "complete"
            elif peer is None:
                found[node] = "missing"
            elif self._phase == RUNNING and peer in self._busy:
                found[node] = "training"
            else:
                found[node] = "ending" if peer in self._busy else "waiting"
        return found

    def deadline(self) -> Optional[float]:
        """Return when `tick` is next due."""
        if self._phase == OVER:
            return None
        due = [
            self._findings.due if self._phase == RUNNING else self._deadline,
            self._remind if self._waiting() else None,
        ]
        return min((when for when in due if when is not None), default=None)

    def received(self, peer: Peer, message: messages.Message, now: float) -> list[Effect]:
        """Take a message from `peer`."""
        if isinstance(message, messages.Join):
            return self._join(peer, message, now)
        if self.ended or peer not in self._roster:
            return []
        if isinstance(message, messages.Leaving):
            return self._leaving(peer, message.reason, now)
        if isinstance(message, messages.Idle):
            return self._idle(peer, now) if message.attempt == self._number and self._phase == ENDING else []
        if self._phase == RUNNING and getattr(message, "attempt", None) == self._number:
            return self._report(peer, message, now)
        return []  # about an attempt that is over

    def lost(self, peer: Peer, now: float) -> list[Effect]:
        """Take note that the connection to `peer` is gone."""
        join = self._roster.remove(peer)
        if join is None or self.ended:
            return []
        was_busy = peer in self._busy
        self._busy.discard(peer)
        if self._phase == RUNNING and was_busy and join.node_rank not in self._complete:
            return self._lose(join, ledger.SILENT, now)
        if self._phase == ENDING and was_busy:
            self._ledger.blame(join, ledger.SILENT)
        return self._advance(now)

    def own_name_unknown(self, problem: str) -> None:
        """Take note why node 0 itself cannot be reached by its name yet."""
        self._own_problem = problem

    def tick(self, now: float) -> list[Effect]:
        """Act on what is due by `now`."""
        if self._phase == RUNNING and self._findings.due is not None and now >= self._findings.due:
            return self._fail_attempt(now)
        if self._phase == ENDING and now >= self._deadline:
            return self._drop_busy(now)
        if self._phase == GATHERING and now >= self._deadline:
            return self._give_up()
        if self._phase != OVER and now >= self._remind:
            self._remind = now + self._pause
            return [Send(peer, messages.Waiting(self._roster.missing_text())) for peer in self._waiting()]
        return []

    def _waiting(self) -> list[Peer]:
        """Return the members that wait for an attempt to start."""
        return [peer for peer in self._roster.peers if peer not in self._busy]

    # Joining ------------------------------------------------------------------------------------------------------

    def _join(self, peer: Peer, join: messages.Join, now: float) -> list[Effect]:
        if self.ended:
            return self._turn_away(peer)
        different = roster.difference(self._own, join)
        if different:
            self._roster.add(peer, join)
            return self._conclude_failed(roster.failure(join, "preflight", different))
        newer = self._own.pod if peer != LOCAL and join.node_rank == 0 else self._roster.successor(join)
        if newer:
            return self._supersede(peer, join, newer)
        effects: list[Effect] = []
        older = self._roster.of_node(join.node_rank)
        trained = None  # whom the newcomer replaces in the attempt that runs
        if older is not None and older != peer:
            before = self._roster[older]
            trained = before if older in self._busy and join.node_rank not in self._complete else None
            effects += [Close(older)] if before.pod == join.pod else self._supersede(older, before, join.pod)
            self._roster.remove(older)
            self._busy.discard(older)
        self._roster.add(peer, join)
        same = trained is not None and trained.pod == join.pod
        how = "its connection broke" if same else "pod %s took its place while it trained" % join.pod
        if trained is not None and self._phase == ENDING:
            self._ledger.blame(trained, how)
        effects += self._tell_outcome(self._ledger.joined(join))
        if self._phase == RUNNING:
            self._remind = max(self._remind, now + 1.0)
            effects.append(Send(peer, messages.Waiting(self._roster.missing_text())))
            if trained is not None:
                effects += self._lose(trained, how, now)
            return effects
        if self._ledger.exhausted and (self._ledger.cause or self._roster.complete):
            return effects + self._conclude_failed(self._ledger.used_up())
        return effects + (self._advance(now) or [Send(peer, messages.Waiting(self._roster.missing_text()))])

    def _turn_away(self, peer: Peer) -> list[Effect]:
        if peer == LOCAL:
            return []  # the end was told to node 0 when it was decided, joined or not
        if self._verdict is None:
            return [Close(peer)]  # node 0 leaves; its replacement will answer
        return [Send(peer, messages.End(self._verdict, exit_codes.FOLLOWER_LEAVES, grace=False))]

    def _supersede(self, peer: Peer, join: messages.Join, newer: str) -> list[Effect]:
        cause = roster.failure(join, "lost", "superseded by pod %s" % newer)
        code = exit_codes.FOLLOWER_LEAVES
        verdict = root_cause.verdict(
            self._plan.job, verdicts.STOPPED, attempt=max(0, self._number), code=code, failures=(cause,)
        )
        end = messages.End(verdicts.to_record(verdict), code, grace=False)
        return [Send(peer, end), Close(peer), Note(root_cause.sentence(cause))]

    def _advance(self, now: float) -> list[Effect]:
        """Go on to the next phase when everything that it waits for is there."""
        if self._phase == ENDING and not self._busy:
            self._phase = GATHERING
            self._remind = now + 1.0
            self._deadline = now + self._plan.timeout
        if self._phase != GATHERING or not self._roster.complete:
            return []
        if self._ledger.number >= LAST_NUMBER:
            detail = "attempt %d was the last that there can be, disruptions included" % self._ledger.number
            return self._conclude_failed(roster.failure(self._own, "lost", detail))
        return self._start()

    def _start(self) -> list[Effect]:
        self._number, asked, own = self._ledger.next(), self._plan, self._own
        self._phase = RUNNING
        self._busy = set(self._roster.peers)
        self._finished, self._complete = set(), {}
        self._findings = findings.Findings()
        terms = messages.Attempt(
            self._number,
            asked.master_addr,
            self._ports.next(self._number),
            "%s-%d-%s" % (asked.job, self._number, asked.token),
            own.pod,
            own.kube_node,
            own.failure_count,
            self._ledger.spent,
            self._ledger.history,
        )
        effects: list[Effect] = [Note("all %d nodes have joined" % own.nnodes)] if own.nnodes > 1 else []
        return effects + [Send(peer, terms) for peer in self._roster.peers]

    # An attempt that runs ---------------------------------------------------------------------------------------------

    def _report(self, peer: Peer, message: messages.Message, now: float) -> list[Effect]:
        join = self._roster[peer]
        if isinstance(message, messages.Failed):
            self._findings.failed(root_cause.weigh(root_cause.from_record(message.failure)))
            return self._failing(now)
        if isinstance(message, messages.Left):
            self._findings.left(join, message.rank)
        if isinstance(message, messages.Over):
            self._finished.add(peer)
            if not self._findings.failures:
                self._findings.failed(roster.failure(join, "lost", "its launcher ended and gave no reason"))
            return self._failing(now)
        if isinstance(message, messages.Complete):
            self._complete[join.node_rank] = join
            self._finished.add(peer)
            if len(self._complete) == self._own.nnodes:
                return self._conclude(verdicts.COMPLETE, exit_codes.COMPLETE)
            return self._failing(now) if self._findings.failures else []
        return []

    def _lose(self, join: messages.Join, how: str, now: float) -> list[Effect]:
        self._findings.lose(join, how)
        return self._failing(now)

    def _failing(self, now: float) -> list[Effect]:
        """Wait a little for a better cause, or decide when none can come."""
        due = self._findings.wait(now)
        nothing_comes = all(peer in self._finished for peer in self._roster.peers if peer in self._busy)
        return self._fail_attempt(now) if nothing_comes or now >= due else []

    def _fail_attempt(self, now: float) -> list[Effect]:
        found, cause = self._findings, self._findings.cause
        if found.explained and retrying.is_final(cause, self._plan.rules):
            return self._conclude_failed(cause, counts=True)
        suspects = found.lost if found.silent else []
        if not found.explained:  # nobody has told the cause: perhaps a pod that is lost, and its link not yet
            suspects = [self._roster[peer] for peer in sorted(self._busy)]
            suspects = [join for join in suspects if join.node_rank not in self._complete]
        self._ledger.failed(self._number, cause, suspects, explained=found.explained)
        news: list[Effect] = []
        for peer in map(self._roster.of_node, [join.node_rank for join in found.lost]):
            if peer is not None:  # its replacement, or itself, is here already
                news += [Note(text) for text in self._ledger.joined(self._roster[peer])]
        if self._ledger.exhausted:
            return news + self._conclude_failed(cause)
        return news + self._end_attempt(now, grace=False)

    def _tell_outcome(self, news: Sequence[str]) -> list[Effect]:
        """Tell the log and the members what has been found out about the last attempt."""
        notes: list[Effect] = [Note(text) for text in news]
        if not news or self._phase == RUNNING:
            return notes
        ended = self._ledger.ended(grace=False)
        return notes + [Send(peer, ended) for peer in self._roster.peers]

    def _end_attempt(self, now: float, *, grace: bool) -> list[Effect]:
        self._phase = ENDING
        self._remind = now + self._pause
        self._deadline = now + END_LIMIT + (self._plan.grace_period if grace else 0.0)
        self._complete = {}
        ended = self._ledger.ended(grace=grace)._replace(attempt=self._number)
        effects: list[Effect] = [Send(peer, ended) for peer in self._roster.peers]
        return effects + self._advance(now)

    def _idle(self, peer: Peer, now: float) -> list[Effect]:
        if peer not in self._busy:
            return []
        self._busy.discard(peer)
        effects = self._tell_outcome(self._ledger.cleared(self._roster[peer].node_rank))
        cause = self._ledger.cause  # where all are cleared: the consequence is all there is
        final = cause and cause.weight != root_cause.VICTIM and retrying.is_final(cause, self._plan.rules)
        if effects and (final or self._ledger.exhausted):
            return effects + self._conclude_failed(self._ledger.used_up())
        return effects + self._advance(now)

    def _drop_busy(self, now: float) -> list[Effect]:
        """Give up members that cannot end their ranks; node 0 leaves by itself when it cannot."""
        effects: list[Effect] = []
        for peer in sorted(self._busy - {LOCAL}):
            join = self._roster.remove(peer)
            self._busy.discard(peer)
            if join is not None:
                self._ledger.blame(join, "it did not answer any more")
                text = "node %d (pod %s) did not end its ranks within %.0f s" % (join.node_rank, join.pod, END_LIMIT)
                effects += [Note(text), Close(peer)]
        self._deadline = now + END_LIMIT
        return effects + self._advance(now)

    def _leaving(self, peer: Peer, reason: str, now: float) -> list[Effect]:
        """A pod is asked to stop: a disruption. The others stay, and its replacement will join them."""
        join = self._roster[peer]
        if peer != LOCAL and join.node_rank in self._complete:
            return []  # its part is done, and nobody else need lose theirs
        self._roster.remove(peer)
        self._busy.discard(peer)
        effects: list[Effect] = []
        if self._phase == RUNNING:
            if self._findings.explained:
                effects = self._fail_attempt(now)
            else:
                text = "node %d (pod %s) was asked to stop (%s)" % (join.node_rank, join.pod, reason[:80])
                self._ledger.disrupted(self._number, text)
                effects = self._end_attempt(now, grace=True)
        if peer == LOCAL and self._phase != OVER:
            self._phase = OVER
        return effects + self._advance(now)

    # The job's end ------------------------------------------------------------------------------------------------

    def _give_up(self) -> list[Effect]:
        effects = self._tell_outcome(self._ledger.count_undecided())
        node = self._roster.missing()[0] if self._roster.missing() else 0
        if self._ledger.exhausted:
            return effects + self._conclude_failed(self._ledger.used_up())
        again = "came back" if self._ledger.number >= 0 else "joined"
        detail = "node %s of %d never %s within %.0f s: %s" % (
            self._roster.missing_text(),
            self._own.nnodes,
            again,
            self._plan.timeout,
            self._own_problem if node == 0 else "see whether its pod is scheduled and its image pulled",
        )
        pod = self._own.pod if node == 0 else "never seen"
        cause = root_cause.Failure("infrastructure", node, pod, "", detail=detail)
        return effects + self._conclude(verdicts.STOPPED, exit_codes.INFRASTRUCTURE, cause=cause)

    def _conclude_failed(self, cause: root_cause.Failure, *, counts: bool = False) -> list[Effect]:
        code = root_cause.exit_code(cause)
        if code == exit_codes.INFRASTRUCTURE:
            code = exit_codes.FAILED  # 75 would let the Job begin anew, with a budget that it does not have
        return self._conclude(verdicts.FAILED, code, cause=cause, counts=counts)

    def _conclude(
        self, outcome: str, code: int, *, cause: Optional[root_cause.Failure] = None, counts: bool = False
    ) -> list[Effect]:
        """End the job, or where node 0 has given up only its part: the Job makes another one, which asks the others."""
        known = self._findings.failures if self._phase == RUNNING or cause == self._ledger.cause else ()
        verdict = self._ledger.verdict(self._plan.job, outcome, code, cause, failures=known, counts=counts)
        record = verdicts.to_record(verdict)
        alone = outcome == verdicts.STOPPED and self._ledger.number >= 0
        self._phase, self._verdict = OVER, None if alone else record
        effects: list[Effect] = []
        for peer in [LOCAL] if alone else sorted({LOCAL, *self._roster.peers}):
            own = code if peer == LOCAL or outcome == verdicts.COMPLETE else exit_codes.FOLLOWER_LEAVES
            effects.append(Send(peer, messages.End(record, own, grace=False)))
        return effects
