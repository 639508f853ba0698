"""Serving the worker's event loop in a test's own process until something has happened."""

from __future__ import annotations

import time
from collections.abc import Callable

from k8sddp.worker.net import loop

PAUSE = 0.002  # seconds between two looks


def until(events: loop.Loop, condition: Callable[[], bool], *, limit: float, said: Callable[[], str]) -> None:
    """Serve `events` until `condition` holds; after `limit` seconds fail with what was `said`."""
    deadline = time.monotonic() + limit

    def look() -> None:
        if condition() or time.monotonic() > deadline:
            events.stop(0)
        else:
            events.after(PAUSE, look)

    events._result = None
    look()
    events.run()
    assert condition(), f"it did not happen: {said()}"
