"""The lines of one rank in the log of its node.

A worker prints `[rank 5] line` for what rank 5 prints and `[k8sddp] line` for what it has to say itself. Whoever asks
for one rank gets its lines as the script printed them, the worker's remarks apart, and nothing of the other ranks; a
line that carries neither mark (a Python that does not start) is shown, because it is the reason for a missing log.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

_MARKED: Final = re.compile(rb"\[(?:rank (\d+)|(k8sddp))\] ?")


def belongs_to(rank: int) -> Callable[[bytes], bool]:
    """Return a function that says whether a log line is shown on stdout for `rank`: its own, or without a mark."""

    def belongs(line: bytes) -> bool:
        marked = _MARKED.match(line)
        return marked is None or (marked[2] is None and int(marked[1]) == rank)

    return belongs


def of_rank(rank: int, *, out: Callable[[bytes], None], remark: Callable[[str], None]) -> Callable[[bytes], bool]:
    """Return a function that takes log lines, without line ends, passes on what belongs to `rank`, and says whether."""

    def take(line: bytes) -> bool:
        marked = _MARKED.match(line)
        if marked is None:
            out(line)
        elif marked[2]:
            remark(line.decode("utf-8", "replace"))
        elif int(marked[1]) == rank:
            out(line[marked.end() :])
        else:
            return False
        return True

    return take
