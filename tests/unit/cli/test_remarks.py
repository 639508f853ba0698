"""The worker's remarks as `run` shows them: each thing once."""

from __future__ import annotations

import json

from k8sddp.cli import remarks
from k8sddp.plan import failures
from tests.unit.plan.observed import make_ended_pod

RAISED = "rank 0 (pod bad-0-hffhr, node node-a) raised ValueError: bad; batch"


def shown(*lines: str) -> list[str]:
    """Return what is shown of these remarks of the job `bad`."""
    memory = remarks.Remarks("bad")
    return [text for line in lines if (text := memory.take(f"[k8sddp] {line}"))]


def test_a_failure_is_told_at_once_and_not_again_when_its_attempt_ends() -> None:
    """The account is news."""
    ended = f"attempt 0 ended: {RAISED}; 1 of 6 attempts used"
    assert [f"[k8sddp] {RAISED}", "[k8sddp] attempt 0 ended; 1 of 6 attempts used"] == shown(RAISED, ended)
    assert [f"[k8sddp] {ended}"] == shown(ended)  # it failed on another node
    open_end = "not decided yet whether this attempt counts; 0 of 6 used so far"
    assert f"[k8sddp] attempt 0 ended; {open_end}" == shown(RAISED, f"attempt 0 ended: {RAISED} ({open_end})")[1]


def test_the_jobs_end_is_left_to_the_last_line() -> None:
    """`run` ends with it."""
    assert [] == shown(f"job bad failed: {RAISED}; 6 of 6 attempts used (exit 1)", "job bad complete (exit 0)")
    assert 1 == len(shown("job bad2 complete (exit 0)"))


def test_a_remark_in_the_log_is_known_at_the_end_though_it_is_cut_there() -> None:
    """The names of three files are as long as they like."""
    memory = remarks.Remarks("bad")
    long = "files end with the pod: " + "checkpoint  of  epoch " * 20
    memory.take(f"[k8sddp] {long}")
    message = json.dumps({"schema": 1, "outcome": "complete", "remarks": [long, "another"]})
    assert [True, False] == [memory.were_said(one) for one in failures.remarks([make_ended_pod(0, message=message)])]


def test_a_wait_is_told_once() -> None:
    """`run` has its own line about it, which says for how long and why; another wait later is news."""
    waits = "waiting for node 1 of 2"
    joined = "all 2 nodes have joined"
    told = [f"[k8sddp] {one}" for one in (waits, joined, waits)]
    assert told == shown(waits, waits, waits, joined, waits)


def test_a_disruption_keeps_its_sentence() -> None:
    """Nobody has told it before."""
    line = "attempt 0 ended: node 1 (pod bad-1-x) was asked to stop (SIGTERM); a disruption, not counted"
    assert [f"[k8sddp] {line}"] == shown(line)
