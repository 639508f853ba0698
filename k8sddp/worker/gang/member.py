"""One node's part in the gang, node rank 0's own included: join, run attempts, obey the end. Pure.

What happened and the time go in, effects come out. A member is in one of five states: it looks for the coordinator,
waits (it has joined, and no rank of it lives), runs an attempt, ends one, or leaves. It joins only when no process of
an earlier attempt is left, so a coordinator that has all members knows that nobody trains. When the coordinator is
lost the member ends its ranks and looks for the next one; it remembers the attempts, because nobody else does.

Waiting is not failing: however long node 0 or others do not come, a member looks and waits on. Kubernetes replaces a
pod that is lost, or ends the job, and a Kubernetes Node that fits may take an hour to come. The exit code is decided
once. Only the coordinator's word lets a member end with 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

from k8sddp.worker import root_cause
from k8sddp.worker.contract import exit_codes
from k8sddp.worker.contract import verdict as verdicts

from . import memory, messages
from .effects import Dial, Effect, EndRanks, Exit, Launch, LookAtRanks, Note, Tell, Visit

QUIET = 2  # seconds of waiting that are no news to who has just joined

SEEKING, WAITING, RUNNING, ENDING, LEAVING = "seeking", "waiting", "running", "ending", "leaving"


class Member:
    """One node's state; every method returns the effects to carry out, in order."""

    def __init__(self, job: str, own: messages.Join, *, max_attempts: int, join_timeout: float, now: float) -> None:
        self._job = job
        self._own = own
        self._max_attempts = max_attempts
        self._timeout = join_timeout
        self._since = now
        self._state = SEEKING
        self._connected = False
        self._memory = memory.Memory()
        self._left = False  # a rank of the running attempt has exited with 0
        self._ranks_done = False  # the launcher of the running attempt has ended
        self._last = False  # the coordinator starts no further attempt
        self._end: Optional[Exit] = None
        self._stopping = False  # leaving because this pod was asked to stop

    @property
    def state(self) -> str:
        """Return seeking, waiting, running, ending or leaving."""
        return self._state

    @property
    def ending(self) -> bool:
        """Return whether the exit code is decided."""
        return self._state == LEAVING

    @property
    def memory(self) -> memory.Memory:
        """Return what this member knows of the attempts."""
        return self._memory

    @property
    def since(self) -> float:
        """Return when it began to look for node 0."""
        return self._since

    def start(self) -> list[Effect]:
        """Begin."""
        return [Dial()]

    def connection_up(self) -> list[Effect]:
        """Take note that the coordinator answered."""
        if self._state != SEEKING:
            return []
        self._connected = True
        join = self._own._replace(memory=memory.to_record(self._memory))
        self._offer()
        return [Tell(join)]

    def connection_lost(self, problem: str, now: float) -> list[Effect]:
        """Take note that the coordinator went away, or cannot be reached because of `problem`."""
        self._connected = False
        if self._state == WAITING:
            self._seek(now)
            return [Dial()]
        if self._state == RUNNING:
            self._state = ENDING
            return [Note("node 0 is lost (%s): ending the ranks and looking for it" % problem), EndRanks(grace=False)]
        return [Dial()] if self._state == SEEKING else []

    def received(self, message: messages.Message, now: float) -> list[Effect]:
        """Take a message from the coordinator."""
        if isinstance(message, messages.End):
            return self._told_end(message)
        if self._state == LEAVING:
            return []
        if isinstance(message, messages.Waiting):
            return self._told_to_wait(message)
        if isinstance(message, messages.Check) and self._state in (SEEKING, WAITING):
            self._state = WAITING
            return [Visit(message)]
        if isinstance(message, messages.Attempt):
            fresh = self._state in (SEEKING, WAITING) and message.number > self._memory.attempt
            return self._told_to_run(message) if fresh else []
        if isinstance(message, messages.Look):
            return self._told_to_look(message)
        if isinstance(message, messages.Ended):
            return self._told_to_end(message) if message.attempt == self._memory.attempt else []
        return []

    def seen(self, look: messages.Look, ranks: Sequence[object]) -> list[Effect]:
        """Take what was seen of the ranks of this node (looks.to_rows)."""
        same = self._state == RUNNING and look.attempt == self._memory.attempt
        return [Tell(messages.Seen(look.attempt, look.number, ranks))] if same else []

    def checked(self, answer: messages.Checked) -> list[Effect]:
        """Take note of what the visits have shown."""
        return [Tell(answer)] if self._state == WAITING else []

    def rank_failed(self, failure: root_cause.Failure) -> list[Effect]:
        """Take note of a failure on this node."""
        return self._report(messages.Failed(self._memory.attempt, root_cause.to_record(failure)))

    def rank_left(self, rank: int) -> list[Effect]:
        """Take note that a rank exited with code 0; the first one of this node may have been too early."""
        effects = [] if self._left else self._report(messages.Left(self._memory.attempt, rank))
        self._left = True
        return effects

    def ranks_back(self) -> list[Effect]:
        """Take note that the ranks that had left have successors: a script may start one pool after the other."""
        effects = self._report(messages.Left(self._memory.attempt, messages.NOBODY)) if self._left else []
        self._left = False
        return effects

    def ranks_over(self) -> list[Effect]:
        """Take note that the launcher ended after failures."""
        effects = self._report(messages.Over(self._memory.attempt))
        self._ranks_done = True
        return effects

    def ranks_complete(self) -> list[Effect]:
        """Take note that all ranks of this node ended well."""
        effects = self._report(messages.Complete(self._memory.attempt))
        self._ranks_done = True
        return effects

    def ranks_ended(self, left: Sequence[int], now: float) -> list[Effect]:
        """Take note that no rank of this node lives, but for the pids in `left`, which cannot be ended."""
        if self._end is not None:
            return [self._end]
        if self._state != ENDING:
            return []
        if left:
            pids = ", ".join(map(str, left[:8]))
            return self._fail("%d processes of the last attempt cannot be ended: pids %s" % (len(left), pids))
        if self._connected:
            self._state = WAITING
            if not self._last:
                self._offer()
            return [Tell(messages.Idle(self._memory.attempt))]
        self._seek(now)
        return [Dial()]

    def asked_to_stop(self, reason: str, *, fault: Optional[root_cause.Failure] = None) -> list[Effect]:
        """Stop: tell the gang, let the ranks save, leave with 143; a second time: without the grace.

        Where it is asked for a `fault` of this pod's own that is a failure, which counts, and the code is 80.
        """
        if self._state == LEAVING:
            return [EndRanks(grace=False)]
        code = exit_codes.EVICTED if fault else exit_codes.STOPPED
        verdict = root_cause.verdict(
            self._job,
            verdicts.STOPPED,
            attempt=max(0, self._memory.attempt),
            code=code,
            failures=(fault,) if fault else (),
        )
        goodbye: list[Effect] = [*self.rank_failed(fault)] if fault else []
        if self._connected:
            goodbye.append(Tell(messages.Leaving(reason)))
        self._stopping = True
        return goodbye + self._leave(Exit(verdict, code), grace=True)

    def _told_to_wait(self, message: messages.Waiting) -> list[Effect]:
        heard, self._state = self._state, WAITING if self._state == SEEKING else self._state
        if self._state != WAITING or not message.missing or (heard == SEEKING and message.seconds < QUIET):
            return []
        text = "waiting for node %s of %d, %s so far" % (message.missing, self._own.nnodes, duration(message.seconds))
        if message.seconds >= self._timeout:
            text += ": see whether its pod is scheduled, its image pulled, and what its log says"
        return [Note(text)]

    def _told_to_look(self, message: messages.Look) -> list[Effect]:
        """Look at the ranks; who has none, its part being done, says so: node 0 waits for every answer."""
        if self._state == RUNNING and message.attempt == self._memory.attempt:
            return [LookAtRanks(message)]
        return [Tell(messages.Seen(message.attempt, message.number, []))]

    def _told_to_run(self, terms: messages.Attempt) -> list[Effect]:
        self._memory = memory.Memory(
            terms.number,
            terms.spent,
            True,
            terms.pod,
            terms.kube_node,
            terms.failure_count,
            history=memory.history(terms.history),
        )
        self._state = RUNNING
        self._ranks_done = self._left = self._last = False
        return [Launch(terms)]

    def _told_to_end(self, message: messages.Ended) -> list[Effect]:
        before = [one for one in self._memory.history if one["attempt"] != message.attempt]
        self._memory = self._memory._replace(
            spent=message.spent,
            open=False,
            history=memory.history([*before, message.entry]),
            suspects=memory.suspects(message.suspects),
        )
        self._last = message.last
        if self._state != RUNNING:
            return []  # it has been found out whether the attempt counts; node 0 says so
        self._state = ENDING
        return [Note(self._summary(message)), EndRanks(message.grace)]

    def _told_end(self, message: messages.End) -> list[Effect]:
        verdict = verdicts.from_record(message.verdict)
        if self._state != LEAVING:
            return self._leave(Exit(verdict, message.code), grace=message.grace)
        if self._stopping and verdict.outcome in verdicts.DECIDED:
            self._end = Exit(verdict, message.code)  # the job had its end before this pod was asked to stop
        return []

    def _summary(self, message: messages.Ended) -> str:
        counted = message.entry.get("counted")
        ended = "attempt %d ended: %s" % (message.attempt, message.entry.get("message"))
        if counted is None:
            used = "%d of %d used so far" % (message.spent, self._max_attempts)
            return "%s (not decided yet whether this attempt counts; %s)" % (ended, used)
        used = "%d of %d attempts used" % (message.spent, self._max_attempts)
        return "%s; %s" % (ended, used if counted else "a disruption, not counted")

    def _report(self, message: messages.Message) -> list[Effect]:
        return [Tell(message)] if self._state == RUNNING and not self._ranks_done else []

    def _seek(self, now: float) -> None:
        self._state = SEEKING
        self._since = now

    def _offer(self) -> None:
        """Remember that from now on an attempt may begin, and its word be lost on the way."""
        self._memory = self._memory._replace(offers=self._memory.offers + 1)

    def _fail(self, detail: str) -> list[Effect]:
        own = self._own
        failure = root_cause.Failure("infrastructure", own.node_rank, own.pod, own.kube_node, detail=detail)
        verdict = root_cause.verdict(
            self._job,
            verdicts.FAILED,
            attempt=max(0, self._memory.attempt),
            code=exit_codes.INFRASTRUCTURE,
            failures=(failure,),
            spent=self._memory.spent,
            max_attempts=self._max_attempts,
            history=self._memory.history,
        )
        return self._leave(Exit(verdict, exit_codes.INFRASTRUCTURE), grace=False)

    def _leave(self, end: Exit, *, grace: bool) -> list[Effect]:
        self._state = LEAVING
        self._end = end
        return [EndRanks(grace)]


def duration(seconds: float) -> str:
    """Return a time as people read it: 45 s, 12 min, 1 h 5 min."""
    minutes = int(seconds) // 60
    if minutes < 1:
        return "%d s" % seconds
    return "%d min" % minutes if minutes < 60 else "%d h %d min" % divmod(minutes, 60)
