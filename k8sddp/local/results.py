"""How a run ended, as one value: exit code, one sentence, the gang's own verdict, and where the volumes lie.

The worker's termination log names the first failure; where no pod could write one, the exit code of the pod that
decided the Job is all there is to say. A log is read when its pod ends, because the next pod of that index starts with
an empty folder.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from k8sddp.local import judge, signals
from k8sddp.plan import failures
from k8sddp.worker.contract import exit_codes
from k8sddp.worker.contract import verdict as verdicts

MAX_LOG: Final = 4096  # bytes that the kubelet reads of a termination log


@dataclass(frozen=True)
class Result:
    """The end of a local run.

    `exit_code` is the Job's: that of the pod that decided it, 130 after Ctrl-C. `verdict` is the worker's termination
    log, None where no pod wrote one. `volumes` are the kept folders: `name` where the pods share it, else `pod/name`.
    """

    exit_code: int
    state: Literal["complete", "failed", "interrupted"]
    reason: str  # of the Job's condition, as Kubernetes spells it; the signal's name after an interruption
    message: str
    verdict: verdicts.Verdict | None
    volumes: Mapping[str, Path]


def of_run(
    name: str,
    *,
    volumes: Mapping[str, Path],
    written: Mapping[str, verdicts.Verdict],
    decision: judge.Decision | None,
    interrupted: signal.Signals | None,
    seconds: float,
) -> Result:
    """Return the result of a run whose pods have all ended, and left the verdicts `written`, by pod, in this order."""
    deciding = decision.end if decision else None
    verdict = _verdict(written, deciding)
    if interrupted is not None and decision is None:
        message = f"{name} interrupted by {interrupted.name} after {seconds:.1f} s"
        return Result(signals.exit_code(interrupted), "interrupted", interrupted.name, message, verdict, volumes)
    assert decision is not None
    if decision.complete:
        return Result(
            exit_codes.COMPLETE, "complete", decision.reason, f"{name} complete in {seconds:.1f} s", verdict, volumes
        )
    code = deciding.code if deciding else exit_codes.FAILED
    why = _why(deciding, verdict)
    return Result(code, "failed", decision.reason, f"{name} failed after {seconds:.1f} s: {why}", verdict, volumes)


def ending(end: judge.End) -> str:
    """Return how a pod ended, in a few words."""
    if end.disrupted:
        return f"pod {end.pod} was lost with its node"
    if end.code == exit_codes.STOPPED:
        return f"pod {end.pod} was stopped by SIGTERM"
    if end.code == exit_codes.NOT_STARTED:
        return f"pod {end.pod} could not be started"
    if end.code > 128 and end.code - 128 in {int(number) for number in signal.valid_signals()}:
        return f"pod {end.pod} was killed by {_signal_name(end.code - 128)}"
    return f"pod {end.pod} exited with {end.code}"


def read(path: Path) -> verdicts.Verdict | None:
    """Return the verdict of a pod that has ended, None where it wrote none."""
    try:
        with path.open("rb") as file:
            return verdicts.parse(file.read(MAX_LOG))
    except OSError:
        return None


def _why(deciding: judge.End | None, verdict: verdicts.Verdict | None) -> str:
    if deciding is None:  # no pod decides a deadline
        return "spec.activeDeadlineSeconds is over"
    first = verdict.first_failure if verdict else None
    if first and first.message:
        return failures.with_exit_code(first.message, first)
    return ending(deciding)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _verdict(written: Mapping[str, verdicts.Verdict], deciding: judge.End | None) -> verdicts.Verdict | None:
    """Return the verdict of the pod that decided, else the newest one that names a failure, else the newest."""
    if deciding and deciding.pod in written:
        return written[deciding.pod]
    newest = list(written.values())[::-1]
    return next((verdict for verdict in newest if verdict.first_failure), next(iter(newest), None))
