"""What is known about the end of the attempt that runs: failures, losses, early exits; who is to blame. Pure.

The first failure to be heard of is seldom the first that was: so there is a short wait for a better one. A consequence
never becomes the cause for good while a pod may still turn out to be lost: the network says so 20 s later than a rank
that lost its peer (net/link.py). Whether such an attempt counts is the ledger's business.
"""

from __future__ import annotations

from typing import Optional

from k8sddp.worker import root_cause

from . import messages, roster

WAIT_CAUSE = 0.2  # seconds to wait for an earlier or better cause once there is one (a launcher looks every 0.1 s)
WAIT_VICTIM = 2.0  # seconds to wait while all failures known look like consequences


class Findings:
    """One attempt's failures in the order of their receipt."""

    def __init__(self) -> None:
        self.failures: list[root_cause.Failure] = []
        self.lost: list[messages.Join] = []  # pods that went without a word
        self.due: Optional[float] = None  # when to decide
        self._first: Optional[root_cause.Failure] = None  # the best candidate so far; of thousands, so it is kept
        self._left: dict[int, root_cause.Failure] = {}  # by node: the first rank to exit with 0, should it be too early

    def failed(self, failure: root_cause.Failure) -> None:
        """Take note of a failure."""
        self.failures.append(failure)
        self._first = root_cause.first((self._first, failure)) if self._first else failure

    def left(self, join: messages.Join, rank: int) -> None:
        """Take note of a rank that exited with 0; NOBODY: that those of this node have successors."""
        if rank == messages.NOBODY:
            self._left.pop(join.node_rank, None)
        else:
            self._left.setdefault(join.node_rank, roster.failure(join, "early-exit", "")._replace(rank=rank))

    def lose(self, join: messages.Join, how: str) -> None:
        """Take note of a pod that went without a word."""
        self.lost.append(join)
        self.failed(roster.failure(join, "lost", how))

    def wait(self, now: float) -> float:
        """Return when to decide; there is a failure."""
        best = self._best
        due = now + (WAIT_CAUSE if best.weight == root_cause.CAUSE else WAIT_VICTIM)
        if best.weight == root_cause.CAUSE and best.kind == "signal":
            due = now  # nothing goes before it
        self.due = due if self.due is None else min(self.due, due)
        return self.due

    @property
    def cause(self) -> root_cause.Failure:
        """Return who is to blame as far as is known; there is a failure."""
        cause = self._best
        if cause.weight == root_cause.VICTIM and self._left:
            return next(iter(self._left.values()))  # the others were torn down because this one has gone
        return cause

    @property
    def explained(self) -> bool:
        """Return whether the cause is more than a consequence of something that nobody has told."""
        return bool(self.failures) and self._best.weight == root_cause.CAUSE

    @property
    def _best(self) -> root_cause.Failure:
        if self._first is None:
            raise RuntimeError("there is no failure yet")
        return self._first

    @property
    def pod_was_lost(self) -> bool:
        """Return whether the cause is the loss of a pod."""
        return self.cause.kind == "lost" and any(join.node_rank == self.cause.node_rank for join in self.lost)
