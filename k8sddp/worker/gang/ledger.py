"""The coordinator's account of attempts: the last number, how many count, how each ended. Pure.

What counts: an attempt that a failure ended. What does not: one that ended because somebody asked a pod to stop. A pod
that is lost without a word is either, and nobody inside can tell: an OOM kill counts, a drained Kubernetes Node does
not. The Job controller knows, and writes it on the pod's replacement: its failure count has grown, or only the count of
ends that it ignores. So such an attempt stays undecided until the replacement has joined.

After a loss of every pod nobody remembers anything. Then the largest failure count of the new pods is the number of
attempts that count: a floor, not exact (docs/protocol.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

from k8sddp.worker import root_cause

from . import memory, messages

SILENT = "its pod was lost without a word, or its network"


class Ledger:
    """Attempts so far, put together from the memories of those who join."""

    def __init__(self, own: messages.Join, *, max_attempts: int) -> None:
        self._own = own
        self._max_attempts = max_attempts
        self._number = -1
        self._counted = 0  # attempts that count, as far as anybody remembers
        self._floor = 0  # the largest failure count of a pod
        self._history: list[memory.Entry] = []
        self._unsettled: dict[int, messages.Join] = {}  # node rank -> the lost pod
        self._cause: Optional[root_cause.Failure] = None  # of the last attempt's end

    @property
    def number(self) -> int:
        """Return the number of the last attempt, -1 before the first."""
        return self._number

    @property
    def spent(self) -> int:
        """Return how many attempts count."""
        return max(self._counted, self._floor)

    @property
    def max_attempts(self) -> int:
        """Return how many may count before the job has failed."""
        return self._max_attempts

    @property
    def history(self) -> tuple[memory.Entry, ...]:
        """Return how the attempts ended, the newest last."""
        return tuple(self._history[-memory.HISTORY :])

    @property
    def cause(self) -> Optional[root_cause.Failure]:
        """Return the failure that ended the last attempt, None where there was none, or nobody remembers it."""
        return self._cause

    @property
    def exhausted(self) -> bool:
        """Return whether no further attempt may start."""
        return self.spent >= self._max_attempts

    def joined(self, join: messages.Join) -> tuple[str, ...]:
        """Learn what a member knows, and what its pod's counts say about its predecessor; return what is news."""
        known = memory.from_record(join.memory)
        news: list[str] = []
        if known.attempt > self._number:
            self._number = known.attempt
            self._history = list(known.history)
            if known.open:  # under another coordinator, our predecessor
                self._counted = max(self._counted, known.spent)
                self._cause = root_cause.Failure("lost", 0, known.pod, known.kube_node, detail=SILENT)
                counts = self._own.failure_count > known.failure_count
                self._note(known.attempt, counts, root_cause.sentence(self._cause))
                news.append("attempt %d ended: %s; " % (known.attempt, self._history[-1]["message"]))
        lost = self._unsettled.pop(join.node_rank, None)
        if lost is not None:
            if join.failure_count > lost.failure_count or join.pod == lost.pod:  # the same pod: its network broke
                self._unsettled.clear()
                news.append(self._decide(True))
            elif not self._unsettled:
                news.append(self._decide(False))
        self._counted = max(self._counted, known.spent)
        self._floor = max(self._floor, join.failure_count)
        account = "%d of %d attempts used" % (self.spent, self._max_attempts)
        return tuple(text + account for text in news)

    def next(self) -> int:
        """Return the number of the attempt that starts now."""
        self._number = self._number + 1 if self._number >= 0 else self._own.lives
        return self._number

    def failed(self, number: int, cause: root_cause.Failure, lost: Sequence[messages.Join] = ()) -> None:
        """Write down what ended the attempt; whether it counts, the replacements of the pods `lost` will tell."""
        self._unsettled = {join.node_rank: join for join in lost}
        self._cause = cause
        self._note(number, None if lost else True, root_cause.sentence(cause))

    def disrupted(self, number: int, message: str) -> None:
        """Write down that the attempt ended through nobody's failure."""
        self._cause = None
        self._note(number, False, message)

    def count_undecided(self) -> None:
        """Count an attempt whose lost pods were not replaced in time."""
        if self._unsettled:
            self._unsettled.clear()
            self._decide(True)

    def _note(self, number: int, counted: Optional[bool], message: str) -> None:
        self._counted += counted is True
        self._history = [*self._history[1 - memory.HISTORY :], memory.entry(number, counted, message)]

    def _decide(self, counted: bool) -> str:
        self._counted += counted
        if self._history:
            self._history[-1] = {**self._history[-1], "counted": counted}
        return "the last attempt %s: " % ("counts" if counted else "was disrupted and does not count")
