"""What a node sees of its ranks in one look: the kernel's word and the Python stack, in a few short words. Pure.

A look tells what no counter can: whether a process is stopped, where in the user's code it is, whether it waits for
other ranks, and, beside the look before, whether it moves. It travels as rows of a message (messages.Seen), so every
text is cut, and where a node has many ranks only those that do not wait say where they are. Whoever reads it believes a
member only what it says of its own ranks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Optional

MAX_WHERE = 160  # characters of a place in the code
MAX_SOURCE = 80  # and of the line that stands there
MAX_STATE = 1
MAX_STACK = 32
ROOM = 48 * 1024  # characters of texts in one message, which takes 128 KiB (gang/wire.py)
UNKNOWN = -1  # bytes, where the kernel does not tell

GONE = ""  # instead of a state: there is no such process
UNSEEN = "?"  # which process it is nobody knows: it has not started, or, under spawn, has not joined


class Seen(NamedTuple):
    """One rank in one look."""

    rank: int
    state: str = GONE  # of the process, as in /proc/PID/stat
    waits: bool = False  # its innermost frames are torch.distributed's, or a backward's
    stack: str = ""  # a digest of its frames; empty where there are none to be had
    written: int = UNKNOWN  # bytes that it has written so far
    where: str = ""  # the innermost frame of the user's code: train.py:40 in load
    source: str = ""  # the line that stands there


_KINDS = (int, str, bool, str, int, str, str)
_LIMITS = (0, MAX_STATE, 0, MAX_STACK, 0, MAX_WHERE, MAX_SOURCE)


def to_rows(seen: Iterable[Seen]) -> list[list[object]]:
    """Return a look as a JSON array that fits into a message: texts of ranks that wait are given up first."""
    ranks = list(seen)
    rows: dict[int, list[object]] = {}
    room = ROOM
    for one in sorted(ranks, key=lambda each: each.waits):
        one = one._replace(where=one.where[:MAX_WHERE], source=one.source[:MAX_SOURCE])
        room -= len(one.where) + len(one.source)
        rows[one.rank] = list(one if room > 0 else one._replace(where="", source=""))
    return [rows[one.rank] for one in ranks]


def from_rows(rows: Sequence[object], ranks: range) -> tuple[Seen, ...]:
    """Return what a member with these `ranks` has seen; what is no row, or about another rank, is passed over."""
    found = [_row(one) for one in rows[: len(ranks)]]
    return tuple(one for one in found if one is not None and one.rank in ranks)


def _row(row: object) -> Optional[Seen]:
    if type(row) is not list or tuple(map(type, row)) != _KINDS:
        return None
    texts = (one for one, limit in zip(row, _LIMITS) if limit)  # noqa: B905  strict= is newer than Python 3.9
    limits = (limit for limit in _LIMITS if limit)
    if not all(len(text) <= limit and _is_plain(text) for text, limit in zip(texts, limits)):  # noqa: B905
        return None
    return Seen._make(row)


def _is_plain(text: str) -> bool:
    return not text or text.isprintable()
