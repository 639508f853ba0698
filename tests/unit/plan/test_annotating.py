"""A failed Job says why it failed to those who have only kubectl."""

from __future__ import annotations

import dataclasses
from datetime import datetime, timezone
from typing import Any

from k8sddp.plan import annotating, statuses
from tests.unit.plan.observed import make_ended_pod, make_job, make_verdict

RAISED = "rank 1 (pod digits-1, node node-b) raised ValueError: bad"
NOW = datetime(2026, 11, 24, 0, 2, tzinfo=timezone.utc)


def note(job: Any, **changes: Any) -> Any:
    pods = [make_ended_pod(index, message=make_verdict(message=RAISED)) for index in range(2)]
    return annotating.first_failure(job, dataclasses.replace(statuses.status(job, pods, (), now=NOW), **changes))


def test_the_sentence_is_written_on_the_job_that_was_seen() -> None:
    """Nothing else of it is touched, and a namesake that came later is not meant."""
    job = make_job(conditions={"Failed": "PodFailurePolicy"})
    job["metadata"]["uid"] = "u-1"
    metadata = {
        "name": "digits",
        "uid": "u-1",
        "annotations": {"k8sddp.dev/first-failure": f"{RAISED} (exit code 1)"},
    }
    assert {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata} == note(job)


def test_it_is_written_once_and_only_at_the_end() -> None:
    """A Job that says so already, one that is complete, one that still ends, one that has come since."""
    job = make_job(conditions={"Failed": "PodFailurePolicy"})
    job["metadata"]["uid"] = "u-1"
    assert note(job, first_failure="") is None
    assert note(job, state="Failing") is None
    assert note(job, uid="u-0") is None
    job["metadata"].setdefault("annotations", {})["k8sddp.dev/first-failure"] = f"{RAISED} (exit code 1)"
    assert note(job) is None
