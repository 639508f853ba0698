"""Builders: objects as the API server has them, in the states that the tests are about."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from typing import Any

from k8sddp import constants
from k8sddp.manifest import Manifest
from k8sddp.plan import snapshot
from k8sddp.plan.snapshot import Snapshot
from tests.unit.render import jobs

JOB_UID = "job-uid"


def stored(
    rendered: Manifest, *, uid: str = "", owner: Mapping[str, str] | None = None, **metadata: Any
) -> dict[str, Any]:
    """Return a rendered object as it is stored: with uid, version and, unless it is a Job, its owner."""
    one = copy.deepcopy(dict(rendered))
    is_job = one["kind"] == "Job"
    one["metadata"].update(uid=uid or (JOB_UID if is_job else f"{one['kind']}-uid"), resourceVersion="7", **metadata)
    if not is_job and owner is None:
        name = one["metadata"]["labels"][constants.LABEL_JOB]
        owner = {"apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": JOB_UID}
    if owner:
        one["metadata"]["ownerReferences"] = [dict(owner)]
    return one


def observed(rendered: Sequence[Manifest], *, but: str = "") -> Snapshot:
    """Return the snapshot of a job that was applied as rendered, without the object of kind `but`."""
    return snapshot.of(stored(one) for one in rendered if one["kind"] != but)


def with_annotation(job: Manifest, key: str, value: str) -> dict[str, Any]:
    """Return the Job with one annotation more."""
    one = copy.deepcopy(dict(job))
    one["metadata"]["annotations"][key] = value
    return one


def make_job(
    *, conditions: Mapping[str, str] | None = None, spec: Mapping[str, Any] | None = None, **metadata: Any
) -> dict[str, Any]:
    """Return a stored Indexed Job of two nodes; `conditions` are {type: reason}, each true."""
    job = stored(jobs.make_indexed_job(nnodes=2), creationTimestamp="2026-11-24T00:00:00Z", **metadata)
    job["spec"].update(spec or {})
    listed = [{"type": kind, "status": "True", "reason": reason} for kind, reason in (conditions or {}).items()]
    job["status"] = {"conditions": listed, "startTime": "2026-11-24T00:00:10Z"}
    return job


def make_pod(
    index: int = 0,
    *,
    phase: str = "Running",
    ready: bool = True,
    kube_node: str = "node-a",
    container: Mapping[str, Any] | None = None,
    status: Mapping[str, Any] | None = None,
    **metadata: Any,
) -> dict[str, Any]:
    """Return a pod of an index; `container` is the state of its container."""
    statuses = [{"name": "worker", "image": "img", "state": dict(container)}] if container else []
    conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"digits-{index}-abcde",
            "uid": f"pod-{index}",
            "creationTimestamp": "2026-11-24T00:00:10Z",
            "labels": {constants.LABEL_BATCH_INDEX: str(index), constants.LABEL_BATCH_CONTROLLER_UID: JOB_UID},
            **metadata,
        },
        "spec": {"nodeName": kube_node} if kube_node else {},
        "status": {"phase": phase, "conditions": conditions, "containerStatuses": statuses, **(status or {})},
    }


def make_ended_pod(
    index: int = 0,
    *,
    exit_code: int = 1,
    reason: str = "Error",
    message: str = "",
    started: str = "2026-11-24T00:00:20Z",
    finished: str = "00:01:00",
    **more: Any,
) -> dict[str, Any]:
    """Return a pod whose container has ended."""
    ended = {"exitCode": exit_code, "reason": reason, "message": message, "startedAt": started}
    ended["finishedAt"] = f"2026-11-24T{finished}Z"
    phase = "Failed" if exit_code else "Succeeded"
    return make_pod(index, phase=phase, ready=False, container={"terminated": ended}, **more)


def make_verdict(
    *, exit_code: int = 1, outcome: str = "failed", attempt: int = 0, max_attempts: int = 0, **cause: Any
) -> str:
    """Return a termination message of our worker."""
    first = {"rank": 1, "node_rank": 1, "class": "exception", "exit_code": 1, "traceback": None, "message": "", **cause}
    verdict = {"schema": 1, "job": "digits", "outcome": outcome, "exit_code": exit_code, "first_failure": first}
    return json.dumps({**verdict, "attempt": attempt, "max_attempts": max_attempts}, sort_keys=True)


def make_event(
    reason: str, message: str, *, kind: str = "Pod", name: str = "digits-0-abcde", at: str = "00:00:20"
) -> Any:
    """Return an event about a pod or the Job."""
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{name}.{reason}"},
        "reason": reason,
        "message": message,
        "involvedObject": {"kind": kind, "name": name},
        "lastTimestamp": f"2026-11-24T{at}Z",
    }
