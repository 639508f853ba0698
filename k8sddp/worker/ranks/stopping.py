"""Asking the ranks of one node to stop, and looking when they have.

They get a SIGTERM and their share of the pod's grace period; what lives then, and everything else that grew from the
launcher, is the attempt's to end.
"""

from __future__ import annotations

import signal
from collections.abc import Collection
from typing import Optional

from k8sddp.worker.contract import node_env
from k8sddp.worker.net import loop

from . import pidfds, process_tree

GRACE_MARGIN = 3.0  # seconds of the pod's grace period kept for killing, the verdict and the log
POLL = 0.02  # seconds between two looks at ranks that were asked to stop


class Stopping:
    """The grace of one attempt: `launchers` are the living pids that we started, `ranks` the others."""

    def __init__(
        self, events: loop.Loop, node: node_env.NodeEnv, launchers: Collection[int], ranks: pidfds.Pidfds
    ) -> None:
        self._events = events
        self._node = node
        self._launchers = launchers
        self._ranks = ranks
        self._timer: Optional[loop.Timer] = None

    @property
    def begun(self) -> bool:
        """Return whether ranks have been asked and are looked after."""
        return self._timer is not None

    def begin(self, done: loop.Callback) -> None:
        """Ask every rank; call `done` when none is left or the time is over, at once where there is nobody to ask."""
        for pid in self._launchers:
            process_tree.send(pid, signal.SIGTERM)
        others = self._heirs()
        for pid in others:
            self._ranks.send(pid, signal.SIGTERM)
        grace = self._node.grace_period
        asked = bool(self._launchers or others)
        self._look(self._events.now() + max(grace / 2, grace - GRACE_MARGIN) if asked else 0.0, done)

    def cancel(self) -> None:
        """Look no longer."""
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _heirs(self) -> tuple[int, ...]:
        """Return the ranks that nobody but we can ask: torchrun hands signals on while it lives, a script need not."""
        hands_on = self._node.launcher == "torchrun" and self._launchers
        return () if hands_on else self._ranks.living()

    def _look(self, deadline: float, done: loop.Callback) -> None:
        if (self._launchers or self._heirs()) and self._events.now() < deadline:
            self._timer = self._events.after(POLL, lambda: self._look(deadline, done))
        else:
            done()
