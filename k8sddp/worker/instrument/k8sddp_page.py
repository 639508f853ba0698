"""The page that a rank shares with its worker: how far it has come, in the words of k8sddp_words.

The worker makes the file (rank-N.page) before the rank starts; where it could not, the rank goes on uncounted. What one
step of DDP costs here is some 3 us (tests/local/test_calls.py). Counted are the steps of the first optimizer that
steps, once each even where a subclass calls `super().step()`, and what k8sddp_calls watches. Of several threads the one
counts that trains: that has called DDP's forward last, and before that one the one that asked for the process group. A
child that a rank forks counts nothing.

Own time is what a rank needs from the end of a step to the end of the next forward, without backward and collectives:
DDP makes the times of whole steps equal, so this alone shows the rank that the others wait for.
"""

from __future__ import annotations

import mmap
import os
import sys
import time
import weakref
from _thread import get_ident

import k8sddp_calls
from k8sddp_words import (
    BACKWARD_ENTERED,
    BACKWARD_LEFT,
    BATCHES_ASKED,
    BATCHES_GOT,
    COLLECTIVE,
    COLLECTIVES,
    FORWARD_ENTERED,
    FORWARD_LEFT,
    GROUP,
    JOINING,
    LAST_STEP,
    LAYOUT,
    OWN_STEPS,
    OWN_TIME,
    PID,
    SINCE,
    SIZE,
    STARTED,
    STEP,
    STEP_TIME,
    VERSION,
    WORDS,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

NESTED = 6  # frames between an optimizer's step and the step of a subclass that calls it


class Counter:
    """Counts what this process does, once it has a page."""

    def __init__(self) -> None:
        self.page: memoryview | None = None
        self.after_step: Callable[[int], None] | None = None  # what k8sddp_faults wants to do
        self.thread = 0  # the one that counts
        self._optimizer: weakref.ref[Any] | None = None  # the one that counts
        self._waited = 0  # ns in backward and collectives since the last step
        self._due = False  # the next forward ends the own time of a step
        self._asking = False  # a DataLoader for its next batch

    def start(self, path: str) -> None:
        """Map the page at `path`, which the worker has made, and count from now on."""
        fd = os.open(path, os.O_RDWR)
        try:
            page = memoryview(mmap.mmap(fd, SIZE)).cast("Q")
        finally:
            os.close(fd)
        for word in range(WORDS):
            page[word] = 0  # another process had it before
        page[STARTED] = page[LAST_STEP] = time.monotonic_ns()
        page[LAYOUT] = VERSION
        page[PID] = os.getpid()
        self.thread = get_ident()
        self.page = page
        os.register_at_fork(after_in_child=self.stop)
        self.watch()

    def watch(self) -> None:
        """Watch torch from now on, before a script copies the names; it costs little where there is no page."""
        k8sddp_calls.watch(self)

    def stop(self) -> None:
        """Count no more in this process."""
        self.page = None

    def tell_group(self, stage: int) -> None:
        """Write how far the default process group is: NO_GROUP, JOINING, JOINED."""
        page = self.page
        if page is None:
            return
        if stage == JOINING:
            self.thread = get_ident()
        page[SINCE] = time.monotonic_ns() if stage == JOINING else 0
        page[GROUP] = stage

    def enter(self, call: int) -> int:
        """Note that this process enters a number of CALLS; return what `leave` needs, 0 where that is nothing."""
        page = self.page
        if page is None or get_ident() != self.thread or page[COLLECTIVE]:
            return 0  # of collectives that call others the outermost counts
        outermost = not page[SINCE]
        if outermost:
            page[SINCE] = time.monotonic_ns()
        page[COLLECTIVES] += 1
        page[COLLECTIVE] = call
        return 2 if outermost else 1

    def leave(self, entered: int) -> None:
        """Note that it has left what it has entered."""
        page = self.page
        if page is None or not entered:
            return
        page[COLLECTIVE] = 0
        if entered == 2:
            self._outside(page)

    def enter_backward(self) -> int:
        """Note that this process enters the autograd engine; return what `leave_backward` needs."""
        page = self.page
        if page is None or get_ident() != self.thread or page[BACKWARD_ENTERED] != page[BACKWARD_LEFT]:
            return 0  # a checkpoint's backward is within another
        outermost = not page[SINCE]
        if outermost:
            page[SINCE] = time.monotonic_ns()
        page[BACKWARD_ENTERED] += 1
        return 2 if outermost else 1

    def leave_backward(self, entered: int) -> None:
        """Note that it has left it."""
        page = self.page
        if page is None or not entered:
            return
        page[BACKWARD_LEFT] += 1
        if entered == 2:
            self._outside(page)

    def _outside(self, page: memoryview) -> None:
        self._waited += time.monotonic_ns() - page[SINCE]
        page[SINCE] = 0

    def enter_forward(self) -> bool:
        """Note that this process enters DDP's forward; return what `leave_forward` needs."""
        page = self.page
        if page is None:
            return False
        self.thread = get_ident()
        page[FORWARD_ENTERED] += 1
        return True

    def leave_forward(self, entered: bool) -> None:
        """Note that it has left it, which ends its own time after a step."""
        page = self.page
        if page is None or not entered:
            return
        page[FORWARD_LEFT] += 1
        if self._due:
            self._due = False
            page[OWN_TIME] += max(0, time.monotonic_ns() - page[LAST_STEP] - self._waited)
            page[OWN_STEPS] += 1

    def ask(self) -> bool:
        """Note that this process asks a DataLoader for a batch; return what `get` needs."""
        page = self.page
        if page is None or self._asking or get_ident() != self.thread:
            return False  # a data set may read from another DataLoader
        self._asking = True
        page[BATCHES_ASKED] += 1
        return True

    def get(self, asked: bool) -> None:
        """Note that it has got it, or that there is none."""
        page = self.page
        if page is not None and asked:
            page[BATCHES_GOT] += 1
            self._asking = False

    def stepped(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        """Count a step of the optimizer that counts; torch calls this after each step of any."""
        page = self.page
        if page is None:
            return
        counts = self._optimizer and self._optimizer()
        if counts is not optimizer:
            if counts is not None:
                return
            self._optimizer = weakref.ref(optimizer)
        frame = sys._getframe(1)  # torch's wrapper of every step
        wrapper, caller = frame.f_code, frame.f_back
        for _ in range(NESTED):
            if caller is None:
                break
            if caller.f_code is wrapper:
                return  # within the step of a subclass, which will be counted
            caller = caller.f_back
        now = time.monotonic_ns()
        step = page[STEP] + 1
        if step > 1:  # before the first step lie the imports, the data and the compiler
            page[STEP_TIME] += now - page[LAST_STEP]
        page[LAST_STEP] = now
        page[STEP] = step
        self._waited = 0
        self._due = True
        if self.after_step is not None:
            self.after_step(step)


counter = Counter()
