"""Many questions side by side, a bounded number at a time, with one limit for all or none.

The threads are left behind with what they still wait for when the limit is over; a program may end without them.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping
from typing import Final, TypeVar

AT_A_TIME: Final = 64  # who does not answer holds up the others of a second round at most

Key = TypeVar("Key")
Value = TypeVar("Value")


def ask(questions: Mapping[Key, Callable[[], Value]], *, within: float | None = None) -> dict[Key, Value]:
    """Return the answers by key, in the order of the questions: those that have come `within` seconds, or all."""
    waiting: queue.SimpleQueue[Key] = queue.SimpleQueue()
    for key in questions:
        waiting.put(key)
    found: dict[Key, Value] = {}

    def work() -> None:
        while True:
            try:
                key = waiting.get_nowait()
            except queue.Empty:
                return
            found[key] = questions[key]()

    deadline = None if within is None else time.monotonic() + within
    threads = [threading.Thread(target=work, daemon=True) for _ in range(min(AT_A_TIME, len(questions)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(None if deadline is None else max(0.0, deadline - time.monotonic()))
    return {key: found[key] for key in questions if key in found}
