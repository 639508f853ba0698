"""How a run ended, as one value: exit code, one sentence, the gang's own verdict, and where the volumes lie.

The worker's termination log names the first failure; where no pod could write one, the exit code of the pod that
decided the Job is all there is to say.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from k8sddp.local import judge, pods, scratch, signals
from k8sddp.worker import exit_codes

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
    verdict: Mapping[str, Any] | None
    volumes: Mapping[str, Path]


def of_run(
    name: str,
    *,
    layout: Sequence[pods.LocalPod],
    codes: Mapping[int, int],
    decision: judge.Decision | None,
    interrupted: signal.Signals | None,
    seconds: float,
) -> Result:
    """Return the result of a run whose pods have all ended; reads their termination logs."""
    volumes = scratch.kept(layout)
    deciding = decision.index if decision else None
    verdict = _verdict(layout, deciding)
    if interrupted is not None and decision is None:
        message = f"{name} interrupted by {interrupted.name} after {seconds:.1f} s"
        return Result(signals.exit_code(interrupted), "interrupted", interrupted.name, message, verdict, volumes)
    assert decision is not None
    if decision.complete:
        return Result(
            exit_codes.COMPLETE, "complete", decision.reason, f"{name} complete in {seconds:.1f} s", verdict, volumes
        )
    code = codes[deciding] if deciding is not None else exit_codes.FAILED
    why = _why(decision, code=code, pod=f"{name}-{deciding}", verdict=verdict)
    return Result(code, "failed", decision.reason, f"{name} failed after {seconds:.1f} s: {why}", verdict, volumes)


def _why(decision: judge.Decision, *, code: int, pod: str, verdict: Mapping[str, Any] | None) -> str:
    if decision.reason == judge.DEADLINE:
        return "spec.activeDeadlineSeconds is over"
    first = (verdict or {}).get("first_failure")
    if isinstance(first, Mapping) and first.get("message"):
        return str(first["message"])
    ended = f"pod {pod} exited with {code}"
    if code > 128 and code - 128 in {int(number) for number in signal.valid_signals()}:
        ended = f"pod {pod} was killed by {_signal_name(code - 128)}"
    if decision.reason == judge.NOT_REPLACED:
        return f"{ended}; a cluster would replace it, a local run does not"
    return ended


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _verdict(layout: Sequence[pods.LocalPod], deciding: int | None) -> Mapping[str, Any] | None:
    """Return the termination log of the pod that decided, else the first one that names a failure, else any."""
    found = {pod.index: verdict for pod in layout if (verdict := _read(pod.termination_log)) is not None}
    if deciding in found:
        return found[deciding]
    return next(
        (verdict for verdict in found.values() if verdict.get("first_failure")), next(iter(found.values()), None)
    )


def _read(path: Path) -> Mapping[str, Any] | None:
    try:
        with path.open("rb") as file:
            verdict = json.loads(file.read(MAX_LOG))
    except (OSError, ValueError):
        return None
    return verdict if isinstance(verdict, dict) else None
