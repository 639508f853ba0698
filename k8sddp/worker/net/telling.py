"""Keeps what only tells from ending what trains.

Answers over HTTP, lines of output, sweeps and counts are worth nothing to a training that they end. Their callbacks run
guarded: whatever goes wrong is said once for each kind, and the loop goes on. What decides (the gang, its connections,
the ranks' processes) is not guarded: a fault there must end the worker, with the code of a fault of ours.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Optional

MAX_KINDS = 64  # of faults that are said


class Teller:
    """Says faults, each kind once."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._said: set[tuple[str, type[BaseException], Optional[int]]] = set()

    def failed(self, what: str, error: BaseException) -> None:
        """Say that `what` failed, unless this has been said before. Never raises."""
        kind = (what, type(error), getattr(error, "errno", None))
        if kind in self._said or len(self._said) >= MAX_KINDS:
            return
        self._said.add(kind)
        with contextlib.suppress(Exception):  # the log itself cannot be written
            self._say("%s failed, and will not be told again: %s" % (what, describe(error)))

    def guarded(
        self, what: str, function: Callable[..., object], otherwise: Callable[[], object] = lambda: None
    ) -> Callable[..., None]:
        """Return `function` as a callback that never raises; `otherwise` follows where it fails."""

        def call(*values: object) -> None:
            try:
                function(*values)
            except Exception as error:
                self.failed(what, error)
                try:
                    otherwise()
                except Exception as second:
                    self.failed(what, second)

        return call


def describe(error: BaseException) -> str:
    """Return what went wrong in a few words: `too many open files`, `KeyError: 'x'`."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return "%s: %s" % (type(error).__name__, error)
