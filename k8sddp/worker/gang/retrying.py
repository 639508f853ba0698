"""Whether another attempt may mend a failure: the job's `failOn` and `retryOn`, and what no attempt can mend. Pure.

An attempt costs minutes on many GPUs. Arguments that the script refuses, code that cannot be read and modules that are
missing will be so the next time; so the job ends at once, and after the second time where the same words came twice.
Only before any step: what has trained may have met bad luck. Steps are counted by torch's optimizers, and a script may
use others; so an attempt that took long is none of those, whatever was counted.
"""

from __future__ import annotations

import re
import signal
from typing import NamedTuple, Optional

from k8sddp.worker import root_cause
from k8sddp.worker.contract import node_env

FINAL_KINDS = ("preflight", "configuration")  # the same image and the same spec will fail the same way
BRIEF = 600.0  # seconds; an attempt that took longer may have trained unseen

# Exceptions that the same code in the same image raises again, by their name -> why
_AT_ONCE = {
    "SyntaxError": "Python cannot read this code",
    "IndentationError": "Python cannot read this code",
    "TabError": "Python cannot read this code",
    "ModuleNotFoundError": "the image and the code stay as they are",
    "ImportError": "the image and the code stay as they are",
}
# and what may pass all the same, when a shared library or a module is read: texts of libc's strerror
_PASSING = (
    "Input/output error",
    "Stale file handle",
    "Transport endpoint is not connected",
    "Connection timed out",
    "Resource temporarily unavailable",
    "Cannot allocate memory",
    "Too many open files",
)
# Last lines of a rank that exits, by its exit code -> why
_LAST_LINES = (
    (2, re.compile(r"(?m)^(?:\S+\.py|python\S* -m \S+): error: "), "the arguments stay as they are"),  # argparse
    (2, re.compile(r"(?ims)^\s*usage: .*\berror\b"), "the arguments stay as they are"),  # click, typer
    (2, re.compile(r"(?m)^\S+: can't open file .*\[Errno 2\]"), "the script is not there"),  # python NAME
    (1, re.compile(r"(?m)^\S*python\S*: No module named "), "the image and the code stay as they are"),  # python -m
    (1, re.compile(r"(?m)^\S*python\S*: Error while finding module specification"), "the command stays as it is"),
)
_ADDRESS = re.compile(r"0x[0-9a-fA-F]+")  # of an object, in its repr: another one in every process


class Rules(NamedTuple):
    """Exit codes of a rank, a signal n as 128 + n. `retry_on`: if it is not empty, nothing else is tried again."""

    fail_on: tuple[int, ...] = ()
    retry_on: tuple[int, ...] = ()
    on_hang: str = node_env.RESTART


class Decision(NamedTuple):
    """Whether the job ends with this failure although attempts are left, and why, where the failure does not tell."""

    final: bool
    reason: str = ""


AGAIN = Decision(False)


class Retrying:
    """Whether another attempt follows, from one attempt to the next: what it remembers are the last one's words."""

    def __init__(self, rules: Rules, *, max_attempts: int) -> None:
        self._rules = rules
        self._max_attempts = max_attempts
        self._before, self._words = "", ""  # what failed before any step in the attempt before, and in this one

    def begin(self) -> None:
        """Take note that an attempt starts; of one that was disrupted nobody knows how far it came."""
        self._before, self._words = self._words, ""

    def final(self, cause: root_cause.Failure, *, lasted: float, spent: int) -> Optional[root_cause.Failure]:
        """Return the failure with why no attempt follows, if none does although some are left; remember it if not."""
        decision = decide(cause, self._rules, lasted=lasted, before=self._before)
        if not decision.final:
            self._words = words(cause, lasted=lasted)
            return None
        left = spent < self._max_attempts
        return cause._replace(remark="not tried again: " + decision.reason) if decision.reason and left else cause


def decide(failure: root_cause.Failure, rules: Rules, *, lasted: float, before: str = "") -> Decision:
    """Decide what follows a failure of an attempt that lasted so many seconds; `before` is `words` of the last one."""
    if failure.kind in FINAL_KINDS:
        return Decision(True)
    if failure.kind == "hang" and rules.on_hang == node_env.FAIL:
        return Decision(True, "restart.onHang is fail")
    code = _rank_code(failure)
    if code is None:
        return AGAIN
    if code in rules.fail_on:
        return Decision(True, "restart.failOn names %d" % code)
    if rules.retry_on:
        return AGAIN if code in rules.retry_on else Decision(True, "restart.retryOn does not name %d" % code)
    said = words(failure, lasted=lasted)
    if not said:
        return AGAIN
    reason = _hopeless(failure)
    if not reason and said == before:
        reason = "the same failure came twice before any step"
    return Decision(bool(reason), reason)


def words(failure: root_cause.Failure, *, lasted: float) -> str:
    """Return class and text of a failure before any step, as they would be another time; the empty string for others.

    Without a text nothing tells whether it is the same again: a rank that was killed, or exited without a word.
    """
    if failure.last_step or lasted >= BRIEF:
        return ""
    if failure.kind == "exception":
        text = failure.exception or ""
    elif failure.kind == "exit":
        last = root_cause.last_line(failure)
        text = "%s: %s" % (failure.exit_code, last) if last else ""
    else:
        return ""
    return _ADDRESS.sub("0x", text)


def _hopeless(failure: root_cause.Failure) -> str:
    """Return why no attempt can mend a failure before any step, the empty string where one may."""
    if failure.kind == "exception":
        text = failure.exception or ""
        passing = any(sign in text for sign in _PASSING)
        return "" if passing else _AT_ONCE.get(text.partition(":")[0].strip(), "")
    for code, pattern, reason in _LAST_LINES:
        if failure.exit_code == code and pattern.search(failure.traceback or ""):
            return reason
    return ""


def _rank_code(failure: root_cause.Failure) -> Optional[int]:
    """Return the exit code that a shell would show for the rank, None where no rank of a known end is to blame."""
    if failure.kind not in root_cause.PROCESS_KINDS:
        return None
    if failure.signal is not None:
        try:
            return 128 + signal.Signals[failure.signal].value
        except KeyError:  # `signal 64`
            number = failure.signal.rpartition(" ")[2]
            return 128 + int(number) if number.isdigit() else None
    return failure.exit_code
