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
from typing import NamedTuple, Optional, Union

from k8sddp.worker import root_cause
from k8sddp.worker.contract import exit_codes
from k8sddp.worker.contract import verdict as verdicts

from . import findings, ledger, messages, plan, ports, retrying, roster
from .roster import LOCAL, Peer

END_LIMIT = 10.0  # seconds, beyond a grace, for a member to end its ranks: 5 s more than it takes at most
LAST_NUMBER = 999999  # disruptions are free; this bounds them
FIRST_REMINDER, REMIND, LAST_REMIND = 1.0, 30.0, 300.0  # seconds until those who wait hear of it, then doubled
PAUSE = 10.0  # seconds after a sleep of our own in which a connection that is gone tells nothing about its member

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
        self._since = now  # when the gathering began
        self._deadline = now  # for members to end their ranks
        self._slept, self._excused = 0.0, now  # how long node 0 itself did not run; until when that explains losses
        self._busy: set[Peer] = set()  # members whose ranks of the last attempt have not ended
        self._open: set[Peer] = set()  # those of them from whom more may come about how they went
        self._complete: dict[int, messages.Join] = {}  # by node rank; what is complete stays so until the attempt ends
        self._findings = findings.Findings()  # about the attempt that runs, or ran last
        self._lasted = 0.0  # seconds of that one
        self._before, self._words = "", ""  # what failed before any step in the attempt before, and in this one
        self._number = -1  # of the attempt that runs, or ran last
        self._ports = ports.Ports(job_plan.first_port, lives=own.lives, usable=job_plan.usable)
        self._pause = REMIND
        self._remind = now + FIRST_REMINDER
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
        due = {GATHERING: self._remind, RUNNING: self._findings.due, ENDING: self._deadline}
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
            return self._idle(peer, now) if message.attempt == self._number and self._phase == ENDING else []
        if self._phase == RUNNING and getattr(message, "attempt", None) == self._number:
            return self._report(peer, message, now)
        return []  # about an attempt that is over

    def lost(self, peer: Peer, now: float, how: str = "") -> list[Effect]:
        """Take note that the connection to `peer` is gone, and how, where more is known than that."""
        how = how or ledger.SILENT
        was_busy = peer in self._busy
        join = self._remove(peer)
        if join is None or self.ended:
            return []
        if self._phase == RUNNING and was_busy and join.node_rank not in self._complete:
            return self._lose(join, how, now)
        if self._phase == ENDING and was_busy and now >= self._excused:
            self._ledger.blame(join, how)
        return self._advance(now)

    def slept(self, seconds: float, now: float) -> None:
        """Take note that node 0 itself did not run for a while: who left it then is not to blame."""
        self._slept, self._excused = seconds, now + PAUSE
        self._deadline = max(self._deadline, now + END_LIMIT)

    def tick(self, now: float) -> list[Effect]:
        """Act on what is due by `now`."""
        if self._phase == RUNNING and self._findings.due is not None and now >= self._findings.due:
            return self._fail_attempt(now)
        if self._phase == ENDING and now >= self._deadline:
            return self._drop_busy(now)
        if self._phase == GATHERING and now >= self._remind:
            self._remind, self._pause = now + self._pause, min(LAST_REMIND, 2 * self._pause)
            return [Send(peer, self._waiting(now)) for peer in self._roster.peers]
        return []

    def _waiting(self, now: float) -> messages.Waiting:
        seconds = now - self._since if self._phase == GATHERING else 0.0
        return messages.Waiting(self._roster.missing_text(), int(seconds))

    def _remove(self, peer: Peer) -> Optional[messages.Join]:
        """Take a member out of the gang; return what it was, None where it was none."""
        self._busy.discard(peer)
        self._open.discard(peer)
        return self._roster.remove(peer)

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
            self._remove(older)
        self._roster.add(peer, join)
        same = trained is not None and trained.pod == join.pod
        how = "its connection broke" if same else "pod %s took its place while it trained" % join.pod
        if trained is not None and self._phase == ENDING:
            self._ledger.blame(trained, how)
        effects += self._tell_outcome(self._ledger.joined(join))
        if self._phase == RUNNING:
            effects.append(Send(peer, self._waiting(now)))
            if trained is not None:
                effects += self._lose(trained, how, now)
            return effects
        if self._ledger.exhausted and (self._ledger.cause or self._roster.complete):
            return effects + self._conclude_failed(self._ledger.used_up())
        return effects + (self._advance(now) or [Send(peer, self._waiting(now))])

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
            self._phase, self._since = GATHERING, now
            self._remind, self._pause = now + FIRST_REMINDER, REMIND
        if self._phase != GATHERING or not self._roster.complete:
            return []
        if self._ledger.number >= LAST_NUMBER:
            detail = "attempt %d was the last that there can be, disruptions included" % self._ledger.number
            return self._conclude_failed(roster.failure(self._own, "lost", detail))
        return self._start(now)

    def _start(self, now: float) -> list[Effect]:
        self._number, asked, own = self._ledger.next(), self._plan, self._own
        self._phase, self._since = RUNNING, now
        self._before, self._words = self._words, ""  # of an attempt that was disrupted nobody knows how far it came
        self._busy = set(self._roster.peers)
        self._open, self._complete = set(self._busy), {}
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
            self._open.discard(peer)
            if not self._findings.failures:
                self._findings.failed(roster.failure(join, "lost", "its launcher ended and gave no reason"))
            return self._failing(now)
        if isinstance(message, messages.Complete):
            self._complete[join.node_rank] = join
            self._open.discard(peer)
            if len(self._complete) == self._own.nnodes:
                return self._conclude(verdicts.COMPLETE, exit_codes.COMPLETE)
            return self._failing(now) if self._findings.failures else []
        return []

    def _lose(self, join: messages.Join, how: str, now: float) -> list[Effect]:
        if now >= self._excused:
            self._findings.lose(join, how)
        elif not self._findings.failures:
            text = "its worker did not run for %.0f s, so the others left it" % self._slept
            self._findings.failed(roster.failure(self._own, "lost", text))
        return self._failing(now)

    def _failing(self, now: float) -> list[Effect]:
        """Wait a little for a better cause, or decide when none can come."""
        due = self._findings.wait(now)
        return self._fail_attempt(now) if not self._open or now >= due else []

    def _fail_attempt(self, now: float) -> list[Effect]:
        found, cause = self._findings, self._findings.cause
        self._lasted = now - self._since
        final = found.explained and self._final(cause, spent=self._ledger.spent + 1)
        if final:
            return self._conclude_failed(final, counts=True)
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

    def _final(self, cause: root_cause.Failure, *, spent: int) -> Optional[root_cause.Failure]:
        """Return the failure with why no attempt follows, if none does although some are left; remember it if not."""
        decision = retrying.decide(cause, self._plan.rules, lasted=self._lasted, before=self._before)
        if not decision.final:
            self._words = retrying.words(cause, lasted=self._lasted)
            return None
        left = spent < self._plan.max_attempts
        return cause._replace(remark="not tried again: " + decision.reason) if decision.reason and left else cause

    def _tell_outcome(self, news: Sequence[str]) -> list[Effect]:
        """Tell the log and the members what has been found out about the last attempt."""
        notes: list[Effect] = [Note(text) for text in news]
        if not news or self._phase == RUNNING:
            return notes
        ended = self._ledger.ended(grace=False)
        return notes + [Send(peer, ended) for peer in self._roster.peers]

    def _end_attempt(self, now: float, *, grace: bool, last: bool = False) -> list[Effect]:
        self._phase = ENDING
        self._deadline = now + END_LIMIT + (self._plan.grace_period if grace else 0.0)
        self._complete = {}
        ended = self._ledger.ended(grace=grace, last=last)._replace(attempt=self._number)
        effects: list[Effect] = [Send(peer, ended) for peer in self._roster.peers]
        return effects + self._advance(now)

    def _idle(self, peer: Peer, now: float) -> list[Effect]:
        if peer not in self._busy:
            return []
        self._busy.discard(peer)
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

    def _drop_busy(self, now: float) -> list[Effect]:
        """Give up members that cannot end their ranks; node 0 leaves by itself when it cannot."""
        effects: list[Effect] = []
        for peer in sorted(self._busy - {LOCAL}):
            join = self._remove(peer)
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
        self._remove(peer)
        effects: list[Effect] = []
        if self._phase == RUNNING:
            if self._findings.explained:
                effects = self._fail_attempt(now)
            else:
                text = "node %d (pod %s) was asked to stop (%s)" % (join.node_rank, join.pod, reason[:80])
                self._ledger.disrupted(self._number, text, join.node_rank)
                effects = self._end_attempt(now, grace=True, last=peer == LOCAL)
        if peer == LOCAL and self._phase != OVER:
            self._phase = OVER
        return effects + self._advance(now)

    # The job's end ------------------------------------------------------------------------------------------------

    def _conclude_failed(self, cause: root_cause.Failure, *, counts: bool = False) -> list[Effect]:
        code = root_cause.exit_code(cause)
        if code == exit_codes.INFRASTRUCTURE:
            code = exit_codes.FAILED  # 75 would let the Job begin anew, with a budget that it does not have
        return self._conclude(verdicts.FAILED, code, cause=cause, counts=counts)

    def _conclude(
        self, outcome: str, code: int, *, cause: Optional[root_cause.Failure] = None, counts: bool = False
    ) -> list[Effect]:
        """End the job: node 0 leaves with `code`, the others with what leaves the word to it."""
        known = self._findings.failures if self._phase == RUNNING or cause == self._ledger.cause else ()
        verdict = self._ledger.verdict(self._plan.job, outcome, code, cause, failures=known, counts=counts)
        self._phase, self._verdict = OVER, verdicts.to_record(verdict)
        effects: list[Effect] = []
        for peer in sorted({LOCAL, *self._roster.peers}):
            own = code if peer == LOCAL or outcome == verdicts.COMPLETE else exit_codes.FOLLOWER_LEAVES
            effects.append(Send(peer, messages.End(self._verdict, own, grace=False)))
        return effects
