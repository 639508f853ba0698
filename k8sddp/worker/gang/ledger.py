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

from . import memory, messages, roster

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
        self._unsettled: dict[int, memory.Undecided] = {}  # node rank -> a pod that may be to blame
        self._replaced = False  # one of them had a replacement, and no failure: the attempt was disrupted
        self._guessed = False  # how the last attempt ended, from those who were not told
        self._seen: dict[int, messages.Join] = {}  # by node rank, the latest pod
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
        better = known.attempt == self._number and (known.decided if self._unsettled else self._guessed)
        if known.attempt > self._number or (better and not known.open):
            news += self._adopt(known)
        self._seen[join.node_rank] = join
        news += self._settle(join)
        self._counted = max(self._counted, known.spent)
        self._floor = max(self._floor, join.failure_count)
        account = "%d of %d attempts used" % (self.spent, self._max_attempts)
        return tuple(text + account for text in news)

    def next(self) -> int:
        """Return the number of the attempt that starts now."""
        self._number = self._number + 1 if self._number >= 0 else self._own.lives
        self._guessed = False
        return self._number

    def failed(self, number: int, cause: root_cause.Failure, suspects: Sequence[messages.Join] = ()) -> None:
        """Write down what ended the attempt; if there are pods that may be lost, they tell whether it counts."""
        self._suspect([memory.Undecided(join.node_rank, join.pod, join.failure_count) for join in suspects])
        self._cause = cause
        self._note(number, None if suspects else True, root_cause.sentence(cause))

    def explained(self, join: messages.Join, how: str) -> None:
        """Name the pod whose loss explains the last attempt's end, where only consequences were known."""
        if join.node_rank in self._unsettled and not self._explained:
            self._cause = roster.failure(join, "lost", how)
            self._history[-1] = memory.entry(self._number, None, root_cause.sentence(self._cause))

    def alive(self, node_rank: int) -> tuple[str, ...]:
        """Take note that the pod of a node was not lost; return what is news."""
        if self._unsettled.pop(node_rank, None) is None or self._unsettled:
            return ()
        return (self._decide(not self._replaced) + "%d of %d attempts used" % (self.spent, self._max_attempts),)

    def used_up(self, join: messages.Join) -> root_cause.Failure:
        """Return the failure of a job whose budget is found to be used up, by `join`, after its last attempt."""
        detail = "%d failures of its pods count, and restart.maxAttempts is %d" % (self.spent, self._max_attempts)
        return self._cause or roster.failure(join, "lost", detail)

    def ended(self, *, grace: bool) -> messages.Ended:
        """Return what to tell about the last attempt."""
        undecided = [pod._asdict() for _, pod in sorted(self._unsettled.items())]
        if len(undecided) > memory.UNDECIDED:  # of lost pods some will do, of those that may be lost some will not
            undecided = undecided[: memory.UNDECIDED] if self._explained else []
        return messages.Ended(self._number, self._history[-1], self.spent, undecided, grace)

    def disrupted(self, number: int, message: str) -> None:
        """Write down that the attempt ended through nobody's failure."""
        self._cause = None
        self._note(number, False, message)

    def count_undecided(self) -> None:
        """Count an attempt whose lost pods were not replaced in time."""
        if self._unsettled:
            self._unsettled.clear()
            self._decide(True)

    @property
    def _explained(self) -> bool:
        return self._cause is None or self._cause.weight == root_cause.CAUSE

    def _adopt(self, known: memory.Memory) -> list[str]:
        """Go on where another coordinator, our predecessor, stopped."""
        self._number = known.attempt
        self._history = list(known.history)
        self._counted = max(self._counted, known.spent)
        self._suspect(())
        self._guessed = False
        if known.decided:
            return []
        news = []
        suspects = known.undecided
        if not suspects:  # its pod was lost, and its own count tells
            suspects = (memory.Undecided(0, known.pod, known.failure_count),)
        if known.open:
            self._cause = root_cause.Failure("lost", 0, known.pod, known.kube_node, detail=SILENT)
            self._note(known.attempt, None, root_cause.sentence(self._cause))
            news.append("attempt %d ended: %s; " % (known.attempt, self._history[-1]["message"]))
        self._suspect(suspects)
        for join in (self._own, *self._seen.values()):
            news += self._settle(join)
        self._guessed = known.open and self._history[-1]["counted"] is False
        return news

    def _suspect(self, pods: Sequence[memory.Undecided]) -> None:
        self._unsettled = {pod.node_rank: pod for pod in pods}
        self._replaced = False

    def _settle(self, join: messages.Join) -> list[str]:
        """Learn from a node's pod whether the one before it was lost by its own failure."""
        lost = self._unsettled.pop(join.node_rank, None)
        if lost is None:
            return []
        if join.failure_count > lost.failure_count:
            self._unsettled.clear()
            return [self._decide(True)]
        self._replaced |= join.pod != lost.pod  # else its network broke
        return [] if self._unsettled else [self._decide(not self._replaced)]

    def _note(self, number: int, counted: Optional[bool], message: str) -> None:
        self._counted += counted is True
        self._history = [*self._history[1 - memory.HISTORY :], memory.entry(number, counted, message)]

    def _decide(self, counted: bool) -> str:
        self._counted += counted
        if self._history:
            self._history[-1] = {**self._history[-1], "counted": counted}
        return "the last attempt %s: " % ("counts" if counted else "was disrupted and does not count")
