"""Rendered manifests by hand, as small as the local run needs them, and a machine to lay them out on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from k8sddp.local import machine, pods
from k8sddp.render import container_env
from k8sddp.worker.contract import node_env

WAIT_FOREVER = "import signal; signal.pause()"
DOWNWARD = {
    name: container_env.DOWNWARD[name]
    for name in (node_env.NODE_RANK, node_env.POD_NAME, node_env.FAILURE_COUNT, node_env.IGNORED_COUNT)
}


def make_job(
    *,
    name: str = "digits",
    nnodes: int = 1,
    command: Sequence[str] = ("python3", "-c", "pass"),
    args: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    volumes: Sequence[Mapping[str, Any]] = (),
    mounts: Sequence[Mapping[str, Any]] = (),
    grace: int = 5,
    container: Mapping[str, Any] | None = None,
    **job_spec: Any,
) -> dict[str, Any]:
    """Return an Indexed Job whose pods know their index, their name and the Job's counts as rendered ones do."""
    variables = [
        *({"name": key, "valueFrom": {"fieldRef": {"fieldPath": path}}} for key, path in DOWNWARD.items()),
        *({"name": key, "value": value} for key, value in (env or {}).items()),
    ]
    worker = {"name": "worker", "command": list(command), "args": list(args), "env": variables}
    worker |= {"volumeMounts": list(mounts)} | dict(container or {})
    pod_spec = {"terminationGracePeriodSeconds": grace, "containers": [worker], "volumes": list(volumes)}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {"completions": nnodes, "template": {"spec": pod_spec}} | job_spec,
    }


def make_machine(**changes: Any) -> machine.Machine:
    """Return a Linux machine without GPUs."""
    facts: dict[str, Any] = {
        "platform": "linux",
        "hostname": "laptop",
        "executable": Path("/venv/bin/python"),
        "directory": Path("/home/ada/project"),
        "temporary": Path("/tmp"),
        "shared_memory": Path("/dev/shm"),
        "environ": {"PATH": "/usr/bin"},
    }
    return machine.Machine(**facts | changes)


def make_template(job: Mapping[str, Any], *others: Mapping[str, Any], **changes: Any) -> pods.Template:
    """Return what the pods of `job` are made from, on a machine with `changes`, in folders that nobody makes."""
    volumes = Path("/kept/digits")
    places = pods.Places(scratch=Path("/scratch"), memory=Path("/memory"), volumes=volumes, files=volumes / "files")
    return pods.template([*others, job], machine=make_machine(**changes), places=places, job_uid="uid")


def make_layout(job: Mapping[str, Any], *others: Mapping[str, Any], **changes: Any) -> tuple[pods.LocalPod, ...]:
    """Return the first pods of `make_template`."""
    return make_template(job, *others, **changes).first()
