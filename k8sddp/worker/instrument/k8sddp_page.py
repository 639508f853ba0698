"""The page that a rank shares with its worker: how far it has come, in the words of k8sddp_words.

The worker makes the file (rank-N.page) before the rank starts; where it could not, the rank goes on uncounted. A step
costs some 0.3 us. Counted are the steps of the first optimizer that steps, once each even where a subclass calls
`super().step()`, and the entries into and exits from DDP's forward, exceptions included. A child that a rank forks
counts nothing.
"""

from __future__ import annotations

import functools
import mmap
import os
import sys
import time
import weakref

import k8sddp_hooks
from k8sddp_words import FORWARD_ENTERED, FORWARD_LEFT, GROUP, LAST_STEP, PID, SIZE, STARTED, STEP, STEP_TIME

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
        self._optimizer: weakref.ref[Any] | None = None  # the one that counts

    def start(self, path: str) -> None:
        """Map the page at `path`, which the worker has made, and count from now on."""
        fd = os.open(path, os.O_RDWR)
        try:
            page = memoryview(mmap.mmap(fd, SIZE)).cast("Q")
        finally:
            os.close(fd)
        for word in (STEP, FORWARD_ENTERED, FORWARD_LEFT, STEP_TIME, GROUP):
            page[word] = 0  # another process had it before
        page[STARTED] = page[LAST_STEP] = time.monotonic_ns()
        page[PID] = os.getpid()
        self.page = page
        os.register_at_fork(after_in_child=self.stop)
        k8sddp_hooks.when_imported("torch.optim.optimizer", self._watch_steps)
        k8sddp_hooks.when_imported("torch.nn.parallel.distributed", self._watch_forward)

    def tell_group(self, stage: int) -> None:
        """Write how far the default process group is: NO_GROUP, JOINING, JOINED."""
        if self.page is not None:
            self.page[GROUP] = stage

    def stop(self) -> None:
        """Count no more in this process."""
        self.page = None

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
        if self.after_step is not None:
            self.after_step(step)

    def _watch_steps(self, module: Any) -> None:
        module.register_optimizer_step_post_hook(self.stepped)

    def _watch_forward(self, module: Any) -> None:
        original = module.DistributedDataParallel.forward

        @functools.wraps(original)
        def forward(model: Any, *inputs: Any, **kwargs: Any) -> Any:
            page = self.page
            if page is None:
                return original(model, *inputs, **kwargs)
            page[FORWARD_ENTERED] += 1
            try:
                return original(model, *inputs, **kwargs)
            finally:  # a script may catch what it raises, and skip the batch
                page[FORWARD_LEFT] += 1

        module.DistributedDataParallel.forward = forward


counter = Counter()
