"""What a check finds, as a value, and the lines that say so.

A problem is only what cannot be mistaken, because it ends the job; what might work is a warning. Each text is one
sentence: what was found, the rule, the remedy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

OK, WARNING, PROBLEM = "ok", "warning", "problem"
MAX_TEXT = 400  # characters of one that travels to node 0
MAX_SENT = 16  # of one node


class Finding(NamedTuple):
    """One result of a check; the text is empty where all is well."""

    check: str
    level: str
    text: str = ""


def problems(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Return those that end the job."""
    return tuple(one for one in findings if one.level == PROBLEM)


def lines(who: str, findings: Sequence[Finding], *, seconds: float, all_told: bool = True) -> tuple[str, ...]:
    """Return what the log says of one node's checks: one line where all is well, else each finding that is not.

    No line where nothing was looked at, or where all is well but for what is not told here.
    """
    told = [
        "preflight of %s: %s: %s: %s" % (who, one.level, one.check, one.text) for one in findings if one.level != OK
    ]
    if told or not findings or not all_told:
        return tuple(told)
    count = "%d check%s" % (len(findings), "" if len(findings) == 1 else "s")
    return ("preflight of %s: %s passed in %.2f s" % (who, count, seconds),)


def summary(findings: Sequence[Finding]) -> str:
    """Return the problems in one sentence, the first in full."""
    found = problems(findings)
    more = len(found) - 1
    return found[0].text + (" (and %d more problem%s, see the log)" % (more, "" if more == 1 else "s") if more else "")


def to_records(findings: Sequence[Finding]) -> list[list[str]]:
    """Return what travels to node 0: what is not well, worst first."""
    told = sorted((one for one in findings if one.level != OK), key=lambda one: one.level != PROBLEM)
    return [[one.check, one.level, one.text[:MAX_TEXT]] for one in told[:MAX_SENT]]
