"""The words beside a pod: Kubernetes' own reason, or what the worker's exit code means for this pod."""

from __future__ import annotations

import json
from typing import Any

import pytest

from k8sddp.plan import notes
from tests.unit.plan.observed import make_ended_pod, make_pod, make_verdict

EVICTED = make_ended_pod(0, exit_code=80)
EVICTED["status"]["reason"] = "Evicted"
SUPERSEDED = json.dumps(
    {"schema": 1, "outcome": "stopped", "exit_code": 79, "first_failure": {"class": "lost", "message": "x"}}
)


@pytest.mark.parametrize(
    ("expected", "pod"),
    [
        ("exit code 79: left because rank 1 on node 1 failed", make_ended_pod(2, exit_code=79, message=make_verdict())),
        ("exit code 79: rank 1 on node 1 failed; node 0 reports it",
         make_ended_pod(1, exit_code=79, message=make_verdict())),
        ("exit code 79: left because node 1 failed",
         make_ended_pod(2, exit_code=79, message=make_verdict(rank=None, **{"class": "lost"}))),
        ("exit code 79: rank 1 on node 1 hung; node 0 reports it",
         make_ended_pod(1, exit_code=79, message=make_verdict(exit_code=76, **{"class": "hang"}))),
        ("exit code 79: left because some rank hung",
         make_ended_pod(1, exit_code=79, message=make_verdict(rank=None, exit_code=76, **{"class": "hang"}))),
        ("exit code 76: reports for the job that some rank hung",
         make_ended_pod(0, exit_code=76, message=make_verdict(rank=None, node_rank=0, **{"class": "hang"}))),
        ("exit code 79: another pod took its place", make_ended_pod(1, exit_code=79, message=SUPERSEDED)),
        ("exit code 79: left because the gang ended elsewhere", make_ended_pod(1, exit_code=79)),
        ("exit code 64: reports for the job that rank 1 on node 1 failed",
         make_ended_pod(0, exit_code=64, message=make_verdict())),
        ("exit code 1: reports for the job that rank 1 on node 1 failed",
         make_ended_pod(0, exit_code=1, message=make_verdict())),
        ("exit code 64: a rank was killed, or its code is above 63",
         make_ended_pod(1, exit_code=64, message=make_verdict())),
        ("exit code 7", make_ended_pod(1, exit_code=7, message=make_verdict())),
        ("exit code 75: could not go on in this pod; its log says why",
         make_ended_pod(0, exit_code=75)),
        ("exit code 143: asked to stop", make_ended_pod(0, exit_code=143)),
        ("exit code 80: a volume of the pod holds more than it may", make_ended_pod(0, exit_code=80)),
        ("Evicted", EVICTED),
        ("exit code 137: killed by SIGKILL", make_ended_pod(0, exit_code=137)),
        ("OOMKilled", make_ended_pod(0, exit_code=137, reason="OOMKilled")),
        ("", make_ended_pod(0, exit_code=0, reason="Completed")),
        ("", make_pod(0)),
    ],
)  # fmt: skip
def test_a_pods_exit_code_is_explained(expected: str, pod: Any) -> None:
    """An innocent pod is told from the one that failed."""
    assert expected == notes.note(pod)
