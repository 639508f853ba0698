"""Whether another attempt may mend a failure: the job's `failOn` and `retryOn`, and what no attempt can mend. Pure."""

from __future__ import annotations

import signal
from typing import NamedTuple, Optional

from k8sddp.worker import root_cause

FINAL_KINDS = ("preflight", "configuration")  # the same image and the same spec will fail the same way


class Rules(NamedTuple):
    """Exit codes of a rank, a signal n as 128 + n. `retry_on`: if it is not empty, nothing else is tried again."""

    fail_on: tuple[int, ...] = ()
    retry_on: tuple[int, ...] = ()


def is_final(failure: root_cause.Failure, rules: Rules) -> bool:
    """Return whether the job ends with this failure although attempts are left."""
    if failure.kind in FINAL_KINDS:
        return True
    code = _rank_code(failure)
    if code is None:
        return False
    return code in rules.fail_on or (bool(rules.retry_on) and code not in rules.retry_on)


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
