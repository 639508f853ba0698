"""The worker's remarks in the log of node 0, for the reader of `run`: each thing is said once.

A worker writes for whoever reads its log alone, so it repeats: the failing rank at once and again as the reason for the
attempt's end, every 30 s whom it waits for, and the job's end. `run` has its own line about a wait, which says why, and
ends with the job's end; so what was said is not said again. `logs` shows every line.
"""

from __future__ import annotations

import re
from typing import Final

_MARK: Final = "[k8sddp] "
_ATTEMPT_ENDED: Final = re.compile(
    r"(attempt \d+ ended): (.*)(?:; (\d+ of \d+ attempts used|a disruption, not counted)| \((not decided yet .*)\))"
)
_WAITING: Final = re.compile(r"waiting (?:\S+ )?for node")


class Remarks:
    """Remembers what the worker of one job has said; `take` returns what to show of a line, empty for nothing."""

    def __init__(self, job: str) -> None:
        self._end = re.compile(rf"job {re.escape(job)} (?:complete|failed)\b")
        self._said: set[str] = set()
        self._waits = False

    def were_said(self, text: str) -> bool:
        """Return whether a worker's line said just this, which `plan` may have cut."""
        from k8sddp.plan import failures

        return text in map(failures.told, self._said)

    def take(self, line: str) -> str:
        """Return the line without what was said already."""
        text = line.removeprefix(_MARK)
        waits, self._waits = self._waits, bool(_WAITING.match(text))
        if self._end.match(text) or (waits and self._waits):
            return ""
        ended = _ATTEMPT_ENDED.fullmatch(text)
        if ended and ended[2] in self._said:
            return f"{_MARK}{ended[1]}; {ended[3] or ended[4]}"
        self._said.add(text)
        return line


def is_remark(line: bytes) -> bool:
    """Return whether the worker speaks, not a rank."""
    return line.startswith(_MARK.encode())
