"""The time stamps of log lines: shown before each line if the user wants, and where the past of a job ends.

A stamp is that of the container runtime, in whatever zone and precision its Kubernetes Node has; it is shown in UTC, to
the millisecond, as are our own sentences. Whoever attaches to a job that runs gets its whole past at once; a mark says
where what is printed becomes what happens. It goes by the stamps, so it is off by as much as the Node's clock is.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Final

from k8sddp.cli import screen

_STAMP: Final = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d+))?(Z|[+-]\d\d:\d\d) ?")  # RFC 3339


class Stamps:
    """What is shown with the lines of one log: `take` hears each line first, the others show.

    With `attached` a mark is set between the lines before that time and those after it.
    """

    def __init__(
        self, *, shown: bool, attached: datetime | None = None, now: Callable[[], datetime] | None = None
    ) -> None:
        self._is_shown = shown
        self._attached = attached
        self._now = now or (lambda: datetime.now(timezone.utc))
        self._prefix = ""
        self._past = False  # a line was older than `attached`
        self._is_quiet = False

    def take(self, line: bytes) -> bytes:
        """Return a line without its stamp, which counts for what is shown next."""
        found = _STAMP.match(line)
        moment = _moment(found) if found else None
        if found is None or moment is None:
            self._prefix = ""
            return line
        self._is_quiet = False
        self._prefix = f"{_text(moment)} " if self._is_shown else ""
        if self._attached is not None and moment < self._attached:
            self._past = True
        else:
            self._mark()
        return line[found.end() :]

    def idle(self) -> None:
        """Take note that nothing has come for a while: the past has been printed."""
        if self._is_quiet and self._past:
            self._mark()
        self._is_quiet = True

    def line(self, line: bytes) -> None:
        """Print a line of a rank."""
        screen.line(self._prefix.encode() + line)

    def note(self, text: str) -> None:
        """Print a remark that the log holds."""
        screen.note(self._prefix + text)

    def tell(self, text: str) -> None:
        """Print a sentence of our own, as of now."""
        screen.note((f"{_text(self._now())} " if self._is_shown else "") + text)

    def _mark(self) -> None:
        if self._past and self._attached is not None:
            screen.note(f"--- attached at {_text(self._attached)}: the lines above are older ---")
        self._attached = None


def _moment(found: re.Match[bytes]) -> datetime | None:
    """Return the moment of a stamp, None where the calendar or the clock has no such."""
    whole, fraction, zone = (part.decode() if part else "" for part in found.groups())
    try:
        return datetime.fromisoformat(f"{whole}.{fraction[:6]:0<6}{'+00:00' if zone == 'Z' else zone}")
    except ValueError:
        return None


def _text(moment: datetime) -> str:
    return moment.astimezone(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
