"""The end of a run is one sentence, with the gang's own word for the first failure where there is one."""

from __future__ import annotations

import dataclasses
import json
import signal
from pathlib import Path

from k8sddp.local import judge, results
from tests.unit.local.builders import make_job, make_layout

MESSAGE = "rank 1 (pod digits-1, node laptop) raised ValueError: bad"


def end(folder: Path, codes: dict[int, int], *, reason: str, index: int | None, log: str = "") -> results.Result:
    """Return the result of a failed run of two pods; `log` is what the deciding pod wrote."""
    pods = tuple(dataclasses.replace(pod, termination_log=folder / pod.name) for pod in make_layout(make_job(nnodes=2)))
    if log:
        (folder / f"digits-{index}").write_text(log)
    decision = judge.Decision(complete=False, reason=reason, index=index)
    return results.of_run("digits", layout=pods, codes=codes, decision=decision, interrupted=None, seconds=1.0)


def test_the_workers_sentence_is_the_reason(tmp_path: Path) -> None:
    """The first failure in the termination log is what the user reads."""
    log = json.dumps({"schema": 1, "first_failure": {"message": MESSAGE}})

    result = end(tmp_path, {1: 79, 0: 1}, reason=judge.POD_FAILURE_POLICY, index=0, log=log)

    assert (1, "failed", f"digits failed after 1.0 s: {MESSAGE}") == (result.exit_code, result.state, result.message)
    assert result.verdict == json.loads(log)


def test_without_a_log_the_exit_code_is_the_reason(tmp_path: Path) -> None:
    """A broken log is no log."""
    result = end(tmp_path, {0: 9}, reason=judge.POD_FAILURE_POLICY, index=0, log='{"first')

    assert (9, "digits failed after 1.0 s: pod digits-0 exited with 9") == (result.exit_code, result.message)
    assert result.verdict is None


def test_a_killed_pod_is_named_with_its_signal(tmp_path: Path) -> None:
    """137 is SIGKILL."""
    result = end(tmp_path, {1: 137}, reason=judge.MAX_FAILED_INDEXES, index=1)

    assert (137, "digits failed after 1.0 s: pod digits-1 was killed by SIGKILL") == (result.exit_code, result.message)


def test_what_a_cluster_would_replace_is_said(tmp_path: Path) -> None:
    """A local run starts no pod twice and says so."""
    result = end(tmp_path, {1: 75, 0: 79}, reason=judge.NOT_REPLACED, index=1)

    assert "pod digits-1 exited with 75; a cluster would replace it, a local run does not" in result.message


def test_the_deadline_is_nobodys_exit_code(tmp_path: Path) -> None:
    """activeDeadlineSeconds fails the Job without a pod that did."""
    result = end(tmp_path, {}, reason=judge.DEADLINE, index=None)

    assert (64, "digits failed after 1.0 s: spec.activeDeadlineSeconds is over") == (result.exit_code, result.message)


def test_an_interruption_ends_as_a_shell_reports_it() -> None:
    """Ctrl-C is 130."""
    result = results.of_run("digits", layout=(), codes={}, decision=None, interrupted=signal.SIGINT, seconds=2.0)

    assert (130, "interrupted", "digits interrupted by SIGINT after 2.0 s") == (
        result.exit_code,
        result.state,
        result.message,
    )
