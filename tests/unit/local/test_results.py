"""The end of a run is one sentence, with the gang's own word for the first failure where there is one."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from k8sddp.local import judge, results
from k8sddp.worker.contract import verdict as verdicts

MESSAGE = "rank 1 (pod digits-1, node laptop) raised ValueError: bad"


def failure(message: str, **cause: object) -> verdicts.Verdict:
    """Return what a worker leaves that names a first failure."""
    return verdicts.Verdict(first_failure=verdicts.FirstFailure("exit", message)._replace(**cause))


def end(
    deciding: judge.End | None, *, reason: str = judge.POD_FAILURE_POLICY, written: dict[str, verdicts.Verdict]
) -> results.Result:
    """Return the result of a failed run."""
    decision = judge.Decision(complete=False, reason=reason, end=deciding)
    return results.of_run("digits", volumes={}, written=written, decision=decision, interrupted=None, seconds=1.0)


def test_the_workers_sentence_is_the_reason() -> None:
    """The first failure in the termination log of the pod that decided is what the user reads."""
    written = {"digits-0": failure("an earlier one"), "digits-0-2": failure(MESSAGE), "digits-1": failure("other")}

    result = end(judge.End("digits-0-2", 0, 1), written=written)

    assert (1, "failed", f"digits failed after 1.0 s: {MESSAGE}") == (result.exit_code, result.state, result.message)
    assert written["digits-0-2"] == result.verdict


def test_the_newest_word_counts_where_the_deciding_pod_left_none() -> None:
    """A killed pod cannot write; the pods that outlived it can, and an earlier attempt's failure is not the reason."""
    written = {"digits-0": failure("an earlier one"), "digits-0-2": failure(MESSAGE), "digits-2": verdicts.NONE}

    result = end(judge.End("digits-1", 1, 137), reason=judge.MAX_FAILED_INDEXES, written=written)

    assert (137, f"digits failed after 1.0 s: {MESSAGE}") == (result.exit_code, result.message)


def test_an_exception_is_told_with_its_exit_code() -> None:
    """As on a cluster."""
    said = failure(MESSAGE, kind="exception", exit_code=1)
    result = end(judge.End("digits-0", 0, 1), written={"digits-0": said})

    assert f"digits failed after 1.0 s: {MESSAGE} (exit code 1)" == result.message


def test_without_a_log_the_exit_code_is_the_reason() -> None:
    """Where no pod could write."""
    result = end(judge.End("digits-0", 0, 9), written={})

    assert (9, "digits failed after 1.0 s: pod digits-0 exited with 9") == (result.exit_code, result.message)
    assert result.verdict is None


@pytest.mark.parametrize(
    ("ending", "expected"),
    [
        (judge.End("digits-1", 1, 3), "pod digits-1 exited with 3"),
        (judge.End("digits-1-2", 1, 137), "pod digits-1-2 was killed by SIGKILL"),
        (judge.End("digits-1", 1, 143), "pod digits-1 was stopped by SIGTERM"),
        (judge.End("digits-1", 1, 255), "pod digits-1 exited with 255"),
        (judge.End("digits-1", 1, 137, disrupted=True), "pod digits-1 was lost with its node"),
    ],
    ids=["code", "signal", "stopped", "no signal", "node"],
)
def test_how_a_pod_ended_is_said_in_a_few_words(ending: judge.End, expected: str) -> None:
    """137 is SIGKILL, 255 is no signal."""
    assert expected == results.ending(ending)


@pytest.mark.parametrize(
    ("text", "expected"),
    [('{"schema": 1}', verdicts.NONE), ('{"first', None), ("[1]", None), (None, None)],
    ids=["a verdict", "cut off", "no object", "no file"],
)
def test_a_broken_log_is_no_log(tmp_path: Path, text: str | None, expected: object) -> None:
    """What a killed worker left half written says nothing."""
    if text is not None:
        (tmp_path / "log").write_text(text)

    assert expected == results.read(tmp_path / "log")


def test_the_deadline_is_nobodys_exit_code() -> None:
    """activeDeadlineSeconds fails the Job without a pod that did."""
    result = end(None, reason=judge.DEADLINE, written={"digits-0": verdicts.NONE})

    assert (64, "digits failed after 1.0 s: spec.activeDeadlineSeconds is over") == (result.exit_code, result.message)


def test_an_interruption_ends_as_a_shell_reports_it() -> None:
    """Ctrl-C is 130."""
    result = results.of_run("digits", volumes={}, written={}, decision=None, interrupted=signal.SIGINT, seconds=2.0)

    assert (130, "interrupted", "digits interrupted by SIGINT after 2.0 s") == (
        result.exit_code,
        result.state,
        result.message,
    )
