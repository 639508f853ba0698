"""What a sentence of ours holds: foreign text, on one line and never longer than there is room for, and lists of ranks.

The one place where a sentence is cut, for the worker and for everybody who quotes it. What is too long loses its
middle: the head says what it is about, and the reason stands at the end (`... during container init: exec: "python3":
executable file not found in $PATH`).
"""

from __future__ import annotations

from collections.abc import Iterable

GAP = " ... "
WORD = 20  # characters within which a cut looks for the end of a word
SHOWN = 8  # ranks listed in a sentence


def ranks(numbers: Iterable[int]) -> str:
    """Return `rank 1`, or `ranks 1, 2`, the least first; nothing for none."""
    found = sorted(numbers)
    if not found:
        return ""
    shown = ", ".join(map(str, found[:SHOWN]))
    return "rank%s %s%s" % ("s" if len(found) > 1 else "", shown, " and more" if len(found) > SHOWN else "")


def printable(text: str) -> str:
    """Return `text` on one line, with a question mark for each character that cannot be shown."""
    return "".join(char if char.isprintable() else "?" for char in " ".join(text.split()))


def shorten(text: str, limit: int) -> str:
    """Return `text` on one line of at most `limit` characters (more than the gap has)."""
    line = " ".join(text.split())
    if len(line) <= limit:
        return line
    room = limit - len(GAP)
    head, tail = line[: room // 2], line[len(line) - (room - room // 2) :]
    blank = head.rfind(" ", len(head) - WORD)
    if blank > 0:
        head = head[:blank]
    blank = tail.find(" ", 0, WORD)
    if blank >= 0:
        tail = tail[blank + 1 :]
    return head + GAP + tail
