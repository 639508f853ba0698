"""What `plan.waiting` says of a job that was observed, as tests ask for it."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from k8sddp import plan
from k8sddp.plan import progress
from tests.unit.plan.observed import make_job, make_pod

POD = "node 0 (pod digits-0-abcde)"
NOW = datetime(2026, 11, 24, 0, 5, tzinfo=timezone.utc)  # the pods are five minutes old


def waits(*pods: Any, job: Any = None, events: Any = (), told: Any = None, now: datetime = NOW) -> plan.Waiting:
    """Return what a job with these pods waits for; `told` is what node 0 says of the nodes."""
    said = None if told is None else progress.Progress("waiting", nodes=told)
    return plan.reason(job or make_job(), pods, events, now=now, progress=said)


def reason(*pods: Any, **more: Any) -> str:
    """Return the sentence for a job with these pods."""
    return waits(*pods, **more).sentence


def waiting_for(kind: str, message: str = "") -> Any:
    """Return a pod whose container waits."""
    return make_pod(phase="Pending", ready=False, container={"waiting": {"reason": kind, "message": message}})


LATER = "2026-11-24T00:03:00Z"  # two minutes before NOW


def not_ready(index: int = 0, *, containers: str = "False", since: str = "2026-11-24T00:00:20Z", **more: Any) -> Any:
    """Return a pod that runs since 00:00:20 and is not ready since then, or since later."""
    conditions = [
        {"type": "Ready", "status": "False", "lastTransitionTime": since},
        {"type": "ContainersReady", "status": containers, "lastTransitionTime": since},
    ]
    running = {"running": {"startedAt": "2026-11-24T00:00:20Z"}}
    return make_pod(index, container=running, status={"conditions": conditions}, **more)
