"""The page that a rank shares with its worker: how far it has come, in the words of k8sddp_words.

The worker makes the file (rank-N.page) before the rank starts; where it could not, the rank goes on uncounted. One step
of DDP costs some 3 us in all of it while its code is in the CPU's caches (tests/unit/worker/test_rank_page.py), and up
to ten times as much where a step and other programs drive it out of them (tests/bench/overhead.py). Counted are the
steps of the first optimizer that steps, once each even where a subclass calls `super().step()`, and what k8sddp_calls
watches. Of several threads the one counts that trains: that has called DDP's forward last, and before that the one that
asked for the process group. A child that a rank forks counts nothing.

Own time is what a rank needs from the end of a step to the end of the next forward, without backward and collectives:
DDP makes the times of whole steps equal, so this alone shows the rank that the others wait for.
"""

from __future__ import annotations

import mmap
import os
import sys
import weakref
from _thread import get_ident
from time import monotonic_ns

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

INSIDE, OUTERMOST = 1, 2  # what has been entered: within another thing to wait in, or not
NESTED = 6  # frames between an optimizer's step and the step of a subclass that calls it


class Counter:
    """Counts what this process does, once it has a page."""

    def __init__(self) -> None:
        self.page: memoryview | None = None
        self.after_step: Callable[[int], None] | None = None  # what k8sddp_faults wants to do
        self._optimizer: weakref.ref[Any] | None = None  # the one that counts
        self._nests = False  # its step may call another one
        self._reset()

    def _reset(self) -> None:
        # Each of them is in the page as well; reading a word there takes three times as long
        self._thread = get_ident()  # the one that counts
        self._step = self._step_time = self._last_step = self._own_time = self._own_steps = 0
        self._forward_entered = self._forward_left = self._batches = self._backwards = self._collectives = 0
        self._since = 0  # when it entered the outermost of collective, backward and init_process_group
        self._waited = 0  # ns in these since the last step
        self._calling = self._backward = self._asking = False  # inside a collective, backward, a DataLoader
        self._due = False  # the next forward ends the own time of a step

    def start(self, path: str) -> None:
        """Map the page at `path`, which the worker has made, and count from now on."""
        fd = os.open(path, os.O_RDWR)
        try:
            page = memoryview(mmap.mmap(fd, SIZE)).cast("Q")
        finally:
            os.close(fd)
        for word in range(WORDS):
            page[word] = 0  # another process had it before
        self._reset()
        page[STARTED] = page[LAST_STEP] = self._last_step = monotonic_ns()
        page[LAYOUT] = VERSION
        page[PID] = os.getpid()
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
            self._thread = get_ident()
        self._since = page[SINCE] = monotonic_ns() if stage == JOINING else 0
        page[GROUP] = stage

    def enter(self, call: int) -> int:
        """Note that this process enters a number of CALLS; return what `leave` needs, 0 where that is nothing."""
        page = self.page
        if page is None or self._calling or get_ident() != self._thread:
            return 0  # of collectives that call others the outermost counts
        entered = INSIDE
        if not self._since:
            entered = OUTERMOST
            self._since = page[SINCE] = monotonic_ns()
        self._calling = True
        self._collectives = page[COLLECTIVES] = self._collectives + 1
        page[COLLECTIVE] = call
        return entered

    def leave(self, entered: int) -> None:
        """Note that it has left what it has entered."""
        page = self.page
        if entered and page is not None:
            page[COLLECTIVE] = 0
            self._calling = False
            if entered == OUTERMOST:
                self._waited += monotonic_ns() - self._since
                self._since = page[SINCE] = 0

    def enter_backward(self) -> int:
        """Note that this process enters the autograd engine; return what `leave_backward` needs."""
        page = self.page
        if page is None or self._backward or get_ident() != self._thread:
            return 0  # a checkpoint's backward is within another
        entered = INSIDE
        if not self._since:
            entered = OUTERMOST
            self._since = page[SINCE] = monotonic_ns()
        self._backward = True
        self._backwards = page[BACKWARD_ENTERED] = self._backwards + 1
        return entered

    def leave_backward(self, entered: int) -> None:
        """Note that it has left it."""
        page = self.page
        if entered and page is not None:
            page[BACKWARD_LEFT] = self._backwards
            self._backward = False
            if entered == OUTERMOST:
                self._waited += monotonic_ns() - self._since
                self._since = page[SINCE] = 0

    def enter_forward(self) -> bool:
        """Note that this process enters DDP's forward; return what `leave_forward` needs."""
        page = self.page
        if page is None:
            return False
        if self._since or self._asking:
            self._recover(page)
        self._thread = get_ident()
        self._forward_entered = page[FORWARD_ENTERED] = self._forward_entered + 1
        return True

    def _recover(self, page: memoryview) -> None:
        """Be outside of all: a signal handler has raised between an entry and what would have noted the exit."""
        self._calling = self._backward = self._asking = False
        page[COLLECTIVE] = 0
        page[BACKWARD_LEFT] = self._backwards
        page[BATCHES_GOT] = self._batches
        self._since = page[SINCE] = 0

    def leave_forward(self, entered: bool) -> None:
        """Note that it has left it, which ends its own time after a step."""
        page = self.page
        if entered and page is not None:
            self._forward_left = page[FORWARD_LEFT] = self._forward_left + 1
            if self._due:
                self._due = False
                own = monotonic_ns() - self._last_step - self._waited
                self._own_time = page[OWN_TIME] = self._own_time + max(0, own)
                self._own_steps = page[OWN_STEPS] = self._own_steps + 1

    def ask(self) -> bool:
        """Note that this process asks a DataLoader for a batch; return what `get` needs."""
        page = self.page
        if page is None or self._asking or get_ident() != self._thread:
            return False  # a data set may read from another DataLoader
        self._asking = True
        self._batches = page[BATCHES_ASKED] = self._batches + 1
        return True

    def get(self, asked: bool) -> None:
        """Note that it has got it, or that there is none."""
        page = self.page
        if asked and page is not None:
            page[BATCHES_GOT] = self._batches
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
            self._optimizer, self._nests = weakref.ref(optimizer), _nests(type(optimizer))
        if self._nests and _nested():
            return  # within the step of a subclass, which will be counted
        now = monotonic_ns()
        if self._step:  # before the first step lie the imports, the data and the compiler
            self._step_time = page[STEP_TIME] = self._step_time + now - self._last_step
        self._last_step = page[LAST_STEP] = now
        self._step = page[STEP] = self._step + 1
        self._waited = 0
        self._due = True
        if self.after_step is not None:
            self.after_step(self._step)


def _nests(kind: type) -> bool:
    """Return whether an optimizer of this class can call the step of another class, as `super().step()` does."""
    steps = set()
    for base in kind.__mro__:
        step: Any = vars(base).get("step")
        while hasattr(step, "__wrapped__"):
            step = step.__wrapped__  # torch puts its wrapper into the class of each optimizer that is made
        if step is not None and base.__bases__ != (object,):  # Optimizer's own only raises
            steps.add(id(step))
    return len(steps) > 1


def _nested() -> bool:
    frame = sys._getframe(2)  # torch's wrapper of every step
    wrapper, caller = frame.f_code, frame.f_back
    for _ in range(NESTED):
        if caller is None:
            break
        if caller.f_code is wrapper:
            return True
        caller = caller.f_back
    return False


counter = Counter()
