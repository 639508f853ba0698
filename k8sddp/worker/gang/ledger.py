"""The coordinator's account of attempts: the last number, how many count, how each ended. Pure.

What counts: an attempt that a failure ended. What does not: one that ended because somebody asked a pod to stop. A pod
that is lost without a word is either, and nobody inside can tell: an OOM kill counts, a drained Kubernetes Node does
not. The Job controller knows, and writes it on the pod's replacement: its failure count has grown, or only the count of
ends that it ignores. So such an attempt stays undecided until the replacement has joined.

After a loss of every pod nobody remembers anything. Then the largest failure count of the new pods is the number of
attempts that count: a floor, not exact (docs/protocol.md). The next attempt's number is above all earlier ones all the
same: checkpoints are fenced by it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

from k8sddp.worker import root_cause
from k8sddp.worker.contract import verdict as verdicts

from . import memory, messages, roster

SILENT = "its pod was lost without a word, or its network"


class Ledger:
    """Attempts so far, put together from the memories of those who join."""

    def __init__(self, own: messages.Join, *, max_attempts: int) -> None:
        self._own = own
        self._max_attempts = max_attempts
        self._number = -1
        self._issued = False  # this coordinator has started it
        self._heard = memory.OPEN  # how much is known about the end of the last attempt
        self._counted = 0  # attempts before the last that count, as far as anybody remembers
        self._last_counts = False  # and whether the last one does, so far as we have found out
        self._floor = 0  # the largest failure count of a pod
        self._history: list[memory.Entry] = []
        self._suspects: dict[int, memory.Suspect] = {}  # node rank -> a pod that may be to blame
        self._replaced = False  # one of them had a replacement, and no failure: the attempt was disrupted
        self._seen: dict[int, messages.Join] = {}  # by node rank, the latest pod
        self._cause: Optional[root_cause.Failure] = None  # of the last attempt's end
        self._explained = True  # by it; else it may be a consequence of a suspect's loss

    @property
    def number(self) -> int:
        """Return the number of the last attempt, -1 before the first."""
        return self._number

    @property
    def spent(self) -> int:
        """Return how many attempts count."""
        return max(self._counted + self._last_counts, self._floor)

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
        if (known.attempt, known.heard) > (self._number, self._heard):
            news += self._adopt(known)
        self._seen[join.node_rank] = join
        news += self._resolve(join)
        self._floor = max(self._floor, join.failure_count)
        return tuple(text + self._account() for text in news)

    def next(self) -> int:
        """Return the number of the attempt that starts now, when every node has joined: above all earlier ones."""
        before = self._number if self._issued else max(self._number, self._highest())
        self._number, self._issued = before + 1, True
        self._heard = memory.DECIDED  # nobody knows better than we do
        self._counted, self._last_counts = self.spent, False
        return self._number

    def failed(
        self,
        number: int,
        cause: root_cause.Failure,
        suspects: Sequence[messages.Join] = (),
        *,
        explained: bool = True,
    ) -> None:
        """Write down what ended the attempt; if there are pods that may be lost, they tell whether it counts."""
        self._suspect([memory.Suspect(join.node_rank, join.pod, join.failure_count) for join in suspects])
        self._cause, self._explained = cause, explained
        self._note(_entry(number, None if suspects else True, cause))

    def remark(self, text: str) -> None:
        """Add to the last attempt's failure what follows from it."""
        if self._cause is not None:
            self._cause = self._cause._replace(remark=text)

    def blame(self, join: messages.Join, how: str) -> None:
        """Name the pod whose loss explains the last attempt's end, where only consequences were known."""
        if join.node_rank in self._suspects and not self._explained:
            self._cause, self._explained = roster.failure(join, "lost", how), True
            self._history[-1] = _entry(self._number, None, self._cause)

    def cleared(self, node_rank: int) -> tuple[str, ...]:
        """Take note that the pod of a node was not lost; return what is news."""
        if self._suspects.pop(node_rank, None) is None or self._suspects:
            return ()
        return (self._decide(not self._replaced) + self._account(),)

    def used_up(self) -> root_cause.Failure:
        """Return the failure of a job whose budget is found to be used up after its last attempt."""
        if self._cause is not None:
            return self._cause
        worst = max((self._own, *self._seen.values()), key=lambda join: join.failure_count)
        detail = "%d attempts or pods have failed, and restart.maxAttempts is %d" % (self.spent, self._max_attempts)
        if self._history:
            detail += "; attempt %(attempt)d ended: %(message)s" % self._history[-1]
        return roster.failure(worst, "lost", detail)

    def ended(self, *, grace: bool, last: bool = False) -> messages.Ended:
        """Return what to tell about the last attempt."""
        suspects = [pod._asdict() for _, pod in sorted(self._suspects.items())]
        if len(suspects) > memory.MAX_SUSPECTS:  # of lost pods some will do, of those that may be lost some will not
            suspects = suspects[: memory.MAX_SUSPECTS] if self._explained else []
        return messages.Ended(self._number, self._history[-1], self.spent, suspects, grace, last)

    def disrupted(self, number: int, message: str, node_rank: int) -> None:
        """Write down that the attempt ended through nobody's failure."""
        self._cause = None
        self._note(memory.entry(number, False, message, kind=memory.DISRUPTED, node_rank=node_rank))

    def verdict(
        self,
        job: str,
        outcome: str,
        code: int,
        cause: Optional[root_cause.Failure],
        *,
        failures: Sequence[root_cause.Failure],
        counts: bool,
    ) -> verdicts.Verdict:
        """Return the verdict, where the attempt that runs `counts` too; the history leaves out what `cause` tells."""
        told = self._number if cause is not None and cause == self._cause else -1
        return root_cause.verdict(
            job,
            outcome,
            attempt=max(0, self._number),
            code=code,
            cause=cause,
            failures=failures if cause else (),
            spent=self.spent + counts,
            max_attempts=self._max_attempts,
            history=[one for one in self.history if one["attempt"] != told],
        )

    def _highest(self) -> int:
        """Return the highest number that an earlier coordinator may have given an attempt, -1 where there was none.

        An attempt needs a pod of every node that has offered itself. Who remembers the last one may have done so again
        since, and the word of the next one been lost with node 0: that number is passed over.

        Where nobody remembers one, there was none if a node has its first pod. Otherwise the memory was lost at most as
        often as the node with the fewest pods has lost one; between two such losses at most max_attempts attempts
        counted, and each that did not count has cost a pod.
        """
        known = {node: memory.from_record(join.memory) for node, join in self._seen.items()}
        last = max(one.attempt for one in known.values())
        if last >= 0:
            return last + min(one.offers for one in known.values() if one.attempt == last)
        if any(not join.earlier_pods and not known[node].offers for node, join in self._seen.items()):
            return -1
        earlier = [join.earlier_pods for join in self._seen.values()]
        return sum(earlier) + min(earlier) * self._max_attempts - 1 + max(one.offers for one in known.values())

    def _account(self) -> str:
        return "%d of %d attempts used" % (self.spent, self._max_attempts)

    def _adopt(self, known: memory.Memory) -> list[str]:
        """Go on where another coordinator, our predecessor, stopped."""
        self._number, self._heard, self._issued = known.attempt, known.heard, False
        self._history = list(known.history)
        self._counted, self._last_counts = max(self._counted, known.spent), False
        self._cause, self._explained = None, True
        self._suspect(())
        if known.heard == memory.DECIDED:
            return []
        news = []
        if known.heard == memory.OPEN:
            self._cause = root_cause.Failure("lost", 0, known.pod, known.kube_node, detail=SILENT)
            self._note(_entry(known.attempt, None, self._cause))
            self._heard = memory.OPEN
            news.append("attempt %d ended: %s; " % (known.attempt, self._history[-1]["message"]))
        # where nobody is named the coordinator's pod was lost, and its own count tells
        self._suspect(known.suspects or (memory.Suspect(0, known.pod, known.failure_count),))
        for join in (self._own, *self._seen.values()):
            news += self._resolve(join)
        return news

    def _suspect(self, pods: Sequence[memory.Suspect]) -> None:
        self._suspects = {pod.node_rank: pod for pod in pods}
        self._replaced = False

    def _resolve(self, join: messages.Join) -> list[str]:
        """Learn from a node's pod whether the one before it was lost by its own failure."""
        lost = self._suspects.pop(join.node_rank, None)
        if lost is None:
            return []
        if join.failure_count > lost.failure_count:
            self._suspects.clear()
            self._cause = self._cause or root_cause.Failure("lost", lost.node_rank, lost.pod, "", detail=SILENT)
            return [self._decide(True)]
        self._replaced |= join.pod != lost.pod  # else its network broke
        return [] if self._suspects else [self._decide(not self._replaced)]

    def _note(self, entry: memory.Entry) -> None:
        self._last_counts = entry["counted"] is True
        self._heard = memory.DECIDED
        self._history = [*self._history[1 - memory.HISTORY :], entry]

    def _decide(self, counted: bool) -> str:
        self._last_counts = counted
        self._cause = self._cause if counted else None
        if self._history:
            self._history[-1] = {**self._history[-1], "counted": counted}
        return "the last attempt %s: " % ("counts" if counted else "was disrupted and does not count")


def _entry(number: int, counted: Optional[bool], cause: root_cause.Failure) -> memory.Entry:
    return memory.entry(
        number,
        counted,
        root_cause.sentence(cause),
        kind=cause.kind,
        rank=cause.rank,
        node_rank=cause.node_rank,
        exit_code=cause.exit_code,
    )
