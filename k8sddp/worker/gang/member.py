"""One node's part in the gang, node rank 0's own included: join, run the attempt, obey the end. Pure.

What happened and the time go in, effects come out. The exit code is decided once. Without a coordinator: before the
attempt the member dials again until the join timeout; during it the attempt is over, and node 1 carries the result
(exit 64) in node 0's place while the others leave with 79. Only the coordinator's word lets a member end with 0, so
that index 0 and its followers cannot disagree about what became of the job.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Optional, Union

from k8sddp.worker import exit_codes, root_cause

from . import messages

STAND_IN = 1  # the node that carries the result when node 0 is lost
SLACK = 15.0  # seconds a joined member waits longer than the coordinator, which knows who is missing


class Tell(NamedTuple):
    """Send `message` to the coordinator."""

    message: messages.Message


class Dial(NamedTuple):
    """Look for the coordinator (again)."""


class Launch(NamedTuple):
    """Start the ranks of this node."""

    attempt: messages.Attempt


class EndRanks(NamedTuple):
    """End every process of this node, after a SIGTERM and the grace period if `grace`; then call `ranks_ended`."""

    grace: bool


class Note(NamedTuple):
    """Tell the log."""

    text: str


class Exit(NamedTuple):
    """Record `verdict` and leave with `code`."""

    verdict: Mapping[str, object]
    code: int


Effect = Union[Tell, Dial, Launch, EndRanks, Note, Exit]


class Member:
    """One node's state; every method returns the effects to carry out, in order."""

    def __init__(self, job: str, own: messages.Join, *, join_timeout: float, now: float) -> None:
        self._job = job
        self._own = own
        self._timeout = join_timeout
        self._deadline: Optional[float] = now + join_timeout
        self._connected = False
        self._joined = False
        self._dial_problem = ""
        self._attempt: Optional[messages.Attempt] = None
        self._launcher_over = False
        self._end: Optional[Exit] = None

    @property
    def ending(self) -> bool:
        """Return whether the exit code is decided."""
        return self._end is not None

    @property
    def joined(self) -> bool:
        """Return whether the coordinator has let this member in."""
        return self._joined

    def deadline(self) -> Optional[float]:
        """Return when `tick` is next due."""
        return None if self.ending or self._attempt else self._deadline

    def start(self) -> list[Effect]:
        """Begin."""
        return [Dial()]

    def connection_up(self) -> list[Effect]:
        """Take note that the coordinator answered."""
        if self.ending:
            return []
        self._connected = True
        return [Tell(self._own)]

    def connection_lost(self, problem: str, now: float) -> list[Effect]:
        """Take note that the coordinator went away, or cannot be reached because of `problem`."""
        self._connected = False
        self._dial_problem = problem
        if self.ending:
            return []
        if self._attempt is None:
            if self._joined:  # node 0 has gone; its successor waits for as long again
                self._deadline = now + self._timeout
                self._joined = False
            return [Dial()]
        lost = root_cause.Failure(
            "lost",
            0,
            self._attempt.pod,
            self._attempt.kube_node,
            detail="its pod was lost without a word, or its network",
        )
        stands_in = self._own.node_rank == STAND_IN
        code = exit_codes.FAILED if stands_in else exit_codes.FOLLOWER_LEAVES
        return self._fail(lost, code)

    def received(self, message: messages.Message, now: float) -> list[Effect]:
        """Take a message from the coordinator."""
        if self.ending:
            return []
        if isinstance(message, messages.Waiting):
            if not self._joined:
                self._joined = True
                self._deadline = now + self._timeout + SLACK
                return []
            return [Note("waiting for node %s of %d" % (message.missing, self._own.nnodes))]
        if isinstance(message, messages.Attempt) and self._attempt is None:
            self._attempt = message
            return [Launch(message)]
        if isinstance(message, messages.End):
            return self._leave(Exit(message.verdict, message.code), grace=message.grace)
        return []

    def launched(self) -> list[Effect]:
        """Take note that the launcher runs."""
        return [] if self.ending else [Tell(messages.Ready(self._number))]

    def rank_failed(self, failure: root_cause.Failure) -> list[Effect]:
        """Take note of a failure on this node."""
        if self.ending or self._launcher_over:
            return []
        return [Tell(messages.Failed(self._number, root_cause.to_record(failure)))]

    def ranks_over(self) -> list[Effect]:
        """Take note that the launcher ended after failures."""
        if self.ending or self._launcher_over:
            return []
        self._launcher_over = True
        return [Tell(messages.Over(self._number))]

    def ranks_complete(self) -> list[Effect]:
        """Take note that all ranks of this node ended well."""
        if self.ending or self._launcher_over:
            return []
        self._launcher_over = True
        return [Tell(messages.Complete(self._number))]

    def asked_to_stop(self, reason: str) -> list[Effect]:
        """Stop: tell the gang, let the ranks save, leave with 143; a second time: without the grace."""
        if self._end is not None:
            return [EndRanks(grace=False)]
        code = exit_codes.STOPPED
        verdict = root_cause.verdict(self._job, "stopped", attempt=self._number, code=code)
        goodbye: list[Effect] = [Tell(messages.Leaving(reason))] if self._connected else []
        return goodbye + self._leave(Exit(verdict, code), grace=True)

    def ranks_ended(self) -> list[Effect]:
        """Take note that nothing of this node's ranks is left."""
        return [self._end] if self._end is not None else []

    def tick(self, now: float) -> list[Effect]:
        """Act on what is due by `now`."""
        due = self.deadline()
        if due is None or now < due:
            return []
        what = "node 0 let it join but started nothing" if self._joined else "node 0 was not reached"
        detail = "%s within %.0f s%s" % (what, self._timeout, ": " + self._dial_problem if self._dial_problem else "")
        own = self._own
        failure = root_cause.Failure("infrastructure", own.node_rank, own.pod, own.kube_node, detail=detail)
        return self._fail(failure, exit_codes.INFRASTRUCTURE)

    @property
    def _number(self) -> int:
        return self._attempt.number if self._attempt else 0

    def _fail(self, failure: root_cause.Failure, code: int) -> list[Effect]:
        public = root_cause.exit_code(failure)
        verdict = root_cause.verdict(self._job, "failed", attempt=self._number, code=public, failures=(failure,))
        return self._leave(Exit(verdict, code), grace=False)

    def _leave(self, end: Exit, *, grace: bool) -> list[Effect]:
        self._end = end
        return [EndRanks(grace)]
