"""What a check of the preflight finds, as a value, and the lines that say so.

A problem is only what cannot be mistaken, because it ends the job; what might work is a warning. Each text is one
sentence: what was found, the rule, the remedy. Findings travel from the nodes to node 0, and `k8sddp preflight` knows
their lines in a log again.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

OK, WARNING, PROBLEM = "ok", "warning", "problem"
UNKNOWN = "unknown"  # a version that could not be had, or not in time
MAX_TEXT = 300  # characters of one that travels to node 0, each up to twelve bytes of JSON: a join has 48 KiB
MAX_SENT = 8  # of one node that are not well

_LINE = re.compile(r"preflight of node (\d+) \(pod [^)]*\): (?:(problem|warning): )?")


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


def node_name(node_rank: int, pod: str) -> str:
    """Return a node as `lines` names it."""
    return "node %d (pod %s)" % (node_rank, pod)


def of_line(text: str) -> tuple[int, str]:
    """Return the node and the level that a line of `lines` speaks of, -1 where it is none."""
    match = _LINE.match(text)
    return (int(match[1]), match[2] or OK) if match else (-1, OK)


def to_records(findings: Sequence[Finding]) -> list[list[str]]:
    """Return what travels to node 0: what is not well, the worst first, and who passed."""
    told = sorted((one for one in findings if one.level != OK), key=lambda one: one.level != PROBLEM)[:MAX_SENT]
    passed = [one for one in findings if one.level == OK]
    return [[one.check, one.level, one.text[:MAX_TEXT]] for one in (*told, *passed)]


def from_records(records: Sequence[object]) -> tuple[Finding, ...]:
    """Return what has travelled; what is no finding is passed over."""
    lists = [one for one in records if isinstance(one, (list, tuple)) and len(one) == 3]
    found = [Finding(*map(str, one)) for one in lists]
    return tuple(one for one in found if one.level in (OK, WARNING, PROBLEM))
