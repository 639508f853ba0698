"""Asking the ranks of one node to stop, and looking when none of them can do anything any more.

SIGTERM goes to the ranks and to nobody else: not to torchrun's agent or the parent of torch.multiprocessing.spawn,
which would end them before they have saved (and the parent's own end interrupts its children), and not to a rank's
DataLoader workers, without which it cannot go on. What then sees a rank leave is held back
(instrument/k8sddp_stop.py). Only where no rank lives is the launcher asked: none is known yet, or a script goes on
after its ranks; torchrun's agent has nothing to do then. What still lives when this is over is the attempt's to end.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple, Optional

from k8sddp.worker.contract import node_env
from k8sddp.worker.net import loop

from . import pidfds, process_tree

GRACE_MARGIN = 3.0  # seconds of the pod's grace period kept for killing, the verdict and the log
POLL = 0.02  # seconds between two looks at ranks that were asked to stop
SETTLE = 2.0  # seconds that a script has to end by itself after its last rank


class Processes(NamedTuple):
    """The living processes of an attempt, as it knows them at any time."""

    own: Mapping[int, Optional[int]]  # those that we started -> rank, None where it starts ranks
    others: pidfds.Pidfds  # ranks that somebody else started
    told: Callable[[], Collection[int]]  # the pids of all that ever said they are ranks

    def ranks(self) -> tuple[int, ...]:
        """Return the pids of the ranks that live."""
        told = self.told()
        own = tuple(pid for pid, rank in self.own.items() if rank is not None or pid in told)
        return own + self.others.living()

    def send(self, pid: int, number: int) -> None:
        """Send a signal to one of them."""
        if pid in self.own:
            process_tree.send(pid, number)
        else:
            self.others.send(pid, number)


class Stopping:
    """The grace of one attempt; `announce` tells the launcher whether ranks are `saving`, before anybody is asked."""

    def __init__(
        self, events: loop.Loop, node: node_env.NodeEnv, processes: Processes, *, announce: Callable[..., None]
    ) -> None:
        self._events = events
        self._node = node
        self._processes = processes
        self._announce = announce
        self._done: loop.Callback = lambda: None
        self._deadline = 0.0
        self._launcher_due: Optional[float] = None  # when the launcher is asked, because no rank lives
        self._timer: Optional[loop.Timer] = None

    @property
    def begun(self) -> bool:
        """Return whether ranks have been asked and are looked after."""
        return self._timer is not None

    def begin(self, done: loop.Callback) -> None:
        """Ask every rank; call `done` when nothing can come any more or the time is over."""
        grace = self._node.grace_period
        self._done = done
        self._deadline = self._events.now() + max(grace / 2, grace - GRACE_MARGIN)
        ranks = self._processes.ranks()
        self._announce(saving=bool(ranks))
        self._launcher_due = None if ranks else self._events.now()
        for pid in ranks:
            self._ask(pid)
        self._look()

    def rank_started(self, pid: int) -> None:
        """Ask a process that says only now that it is a rank."""
        if self.begun:
            self._ask(pid)

    def cancel(self) -> None:
        """Look no longer."""
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _ask(self, pid: int) -> None:
        self._processes.send(pid, signal.SIGTERM)
        self._processes.send(pid, signal.SIGCONT)  # a process that somebody has stopped could not answer

    def _look(self) -> None:
        if self._events.now() < self._deadline and (self._processes.ranks() or self._launcher_goes_on()):
            self._timer = self._events.after(POLL, self._look)
        else:
            self._done()

    def _launcher_goes_on(self) -> bool:
        """Return whether the launcher may have something to do when no rank lives; ask it when it is due."""
        launchers = tuple(self._processes.own)
        if not launchers or (self._node.launcher == "torchrun" and self._processes.told()):
            return False
        if self._launcher_due is None:
            self._launcher_due = self._events.now() + SETTLE
            self._announce(saving=False)  # from now on it may end what it likes, a helper of its own for example
        if self._events.now() >= self._launcher_due:
            self._launcher_due = float("inf")
            for pid in launchers:
                self._ask(pid)
        return True
