"""Looks at how far a local run is: asks node 0's worker over HTTP, about once a second, in a thread of its own.

A favour, never needed: a worker that does not answer (not started yet, stopped, on its way out) is None, and nothing
that is asked or told here holds the run up. Whoever is told says when it wants to hear again; between two questions it
is told the last answer once more, so that what it shows can move. After the end of the block nobody is told any more.
"""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from k8sddp.plan import progress
from k8sddp.plan.progress import Progress

EVERY: Final = 1.0  # seconds between two questions
LIMIT: Final = 1.0  # for the connection, and for the next piece of the answer
MAX_ANSWER: Final = 1 << 20  # bytes

Tell = Callable[["Progress | None"], float]  # gets the last answer, returns in how many seconds it wants the next


@contextmanager
def at(host: str, port: int | None, tell: Tell | None) -> Iterator[None]:
    """Tell of the worker at this address for as long as the block runs."""
    if tell is None or port is None:
        yield
        return
    looker = _Looker(host, port, tell)
    looker.start()
    try:
        yield
    finally:
        looker.stop()


def ask(host: str, port: int) -> Progress | None:
    """Return what the worker says, None where it does not answer, or not in time."""
    connection = http.client.HTTPConnection(host, port, timeout=LIMIT)
    try:
        connection.request("GET", "/status")
        return progress.parse(connection.getresponse().read(MAX_ANSWER))
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


class _Looker(threading.Thread):
    def __init__(self, host: str, port: int, tell: Tell) -> None:
        super().__init__(name="look", daemon=True)
        self._where = (host, port)
        self._tell = tell
        self._telling = threading.Lock()
        self._over = threading.Event()

    def stop(self) -> None:
        with self._telling:
            self._over.set()

    def run(self) -> None:
        told, asked = None, float("-inf")
        wait = 0.0
        while not self._over.wait(wait):
            if time.monotonic() - asked >= EVERY:
                told, asked = ask(*self._where), time.monotonic()
            with self._telling:
                if self._over.is_set():
                    return
                wait = self._tell(told)
