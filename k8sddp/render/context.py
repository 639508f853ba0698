"""Everything the templates say, as plain values: all arithmetic, defaults and choices are made here.

Templates hold the shape of the objects, this module what stands in it. Choices that a user may ask about are functions
with the reason beside them. Names of the environment are in `container_env.py`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from k8sddp import __version__, constants, errors
from k8sddp import spec as specs
from k8sddp.render import bundle, container_env
from k8sddp.worker.contract import exit_codes, node_env

Values = Mapping[str, Any]

DEFAULT_SHARED_MEMORY: Final = "1Gi"
# The kubelet writes an event to the API server for every probe that fails: one for each second that a pod waits, were
# it answered at once. So a pod that waits holds the answer back (docs/decisions/0008-readiness-probe.md).
PROBE_TIMEOUT: Final = 30  # seconds; a worker that answers nothing at all is unready after them
PROBE_WAIT: Final = PROBE_TIMEOUT - 3  # the answer must have arrived by then, on a busy Kubernetes Node too
LOST_NODE_SECONDS: Final = 30  # Kubernetes' default is 300; the rest of the gang only waits meanwhile
# well-known taints of a Node that does not answer (kubernetes/api core/v1 well_known_taints.go)
_LOST_NODE_TAINTS: Final = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")


def values(job: specs.DDPJob, *, code: bundle.Code | None, only_preflight: bool = False) -> Values:
    """Return what the templates need.

    Raises RenderError where `code` does not fit spec.code.
    """
    spec = job.spec
    code_digest = code.digest if code is not None else ""
    if (code is not None) != (spec.code is not None and spec.code.path is not None):
        raise errors.RenderError("the packed folder must be given exactly when spec.code.path is set")
    return {
        "name": job.name,
        "labels": labels(job),
        "pod_selector": {constants.LABEL_JOB: job.name},
        "annotations": {**job.annotations, **_own_annotations(job, code_digest)},
        "pod_annotations": dict(job.annotations),
        "spec": spec,
        "nnodes": spec.nnodes,
        "backoff_limit_per_index": backoff_limit_per_index(spec),
        "ignored_exit_codes": sorted(exit_codes.IGNORED),
        "final_exit_codes": final_exit_codes(spec),
        "container": constants.CONTAINER_NAME,
        "command": [container_env.escape(spec.python), f"{container_env.WORKER_DIR}/{container_env.WORKER_KEY}"],
        "args": [container_env.escape(word) for word in spec.command],
        "env": container_env.entries(
            job, code_digest=code_digest, code_config_map=code_config_map(job) or "", only_preflight=only_preflight
        ),
        "env_from": list(spec.env_from),
        "resources": resources(spec.resources),
        "gang_port": spec.rendezvous.port,
        "http_port": spec.rendezvous.port + node_env.HTTP_PORT_OFFSET,
        "probe_path": f"/readyz?wait={PROBE_WAIT}",
        "probe_timeout": PROBE_TIMEOUT,
        "paths": container_env,
        "worker_config_map": worker_config_map(job),
        "code_config_map": code_config_map(job),
        "shared_memory": shared_memory(spec.resources),
        "volumes": [{"name": volume.name, **volume.source} for volume in spec.volumes],
        "mounts": [_mount(volume) for volume in spec.volumes],
        "tolerations": tolerations(spec.scheduling.tolerations),
        "topology_spread": _topology_spread(job),
        "image_pull_secrets": [{"name": name} for name in spec.image_pull_secrets],
    }


def labels(job: specs.DDPJob) -> Mapping[str, str]:
    """Return the labels of every object and pod: the user's, then ours."""
    return {
        **job.labels,
        constants.LABEL_APP_NAME: "k8sddp",
        constants.LABEL_APP_INSTANCE: job.name,
        constants.LABEL_APP_MANAGED_BY: constants.MANAGED_BY,
        constants.LABEL_APP_COMPONENT: "worker",
        constants.LABEL_JOB: job.name,
    }


def worker_config_map(job: specs.DDPJob) -> str:
    """Return the name of the ConfigMap that carries the worker."""
    return f"{job.name}-worker"


def code_config_map(job: specs.DDPJob) -> str | None:
    """Return the name of the ConfigMap that carries the code: ours, the user's, or None without code."""
    if job.spec.code is None:
        return None
    return job.spec.code.config_map or f"{job.name}-code"


def final_exit_codes(spec: specs.JobSpec) -> list[int]:
    """Return the exit codes that fail the Job at once, sorted: the API server refuses them otherwise."""
    first, last = exit_codes.FINAL_RANGE
    not_started = () if spec.resources.gpu else (exit_codes.NOT_STARTED,)
    return sorted({*range(first, last + 1), *exit_codes.FINAL, *not_started})


def backoff_limit_per_index(spec: specs.JobSpec) -> int:
    """Return how many counted pod failures an index may have before the Job fails.

    Attempts end by exit code; this limit is the backstop for pods that are lost, or exit 75. With several nodes it is
    one above the retries, so that survivors have the time to end with the verdict
    (docs/decisions/0001-backoff-limit-per-index.md).
    """
    retries = spec.restart.max_attempts - 1
    return retries + 1 if spec.nnodes > 1 else retries


def resources(asked: specs.Resources) -> Mapping[str, str]:
    """Return requests and limits alike, empty where nothing is asked.

    Equal CPU and memory make the pod Guaranteed: evicted last, and whole cores of its own under the static CPU manager.
    A request alone would let step times depend on the neighbours.
    """
    amounts = {
        "cpu": asked.cpu,
        "memory": asked.memory,
        asked.gpu_resource: str(asked.gpu) if asked.gpu else None,
    }
    return {name: amount for name, amount in amounts.items() if amount is not None}


def shared_memory(asked: specs.Resources) -> str:
    """Return the size of /dev/shm: as asked, else all of the pod's memory, else 1Gi.

    It is a ceiling, not a reservation, and what is written there counts against the pod's memory anyway: a smaller
    default would only bring back "bus error" in DataLoader workers. Without a memory limit it must have one of its own.
    """
    return asked.shared_memory or asked.memory or DEFAULT_SHARED_MEMORY


def tolerations(users: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the user's tolerations, and ours for a lost Node where the user says nothing about that taint."""
    named = {toleration.get("key") for toleration in users}
    ours = [
        {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": LOST_NODE_SECONDS}
        for key in _LOST_NODE_TAINTS
        if key not in named
    ]
    return [*users, *ours]


def _mount(volume: specs.Volume) -> Mapping[str, Any]:
    mount: dict[str, Any] = {"name": volume.name, "mountPath": volume.mount_path}
    if volume.read_only:
        mount["readOnly"] = True
    if volume.sub_path is not None:
        mount["subPath"] = volume.sub_path
    return mount


def _topology_spread(job: specs.DDPJob) -> list[Mapping[str, Any]]:
    selector = {"labelSelector": {"matchLabels": {constants.LABEL_JOB: job.name}}}
    return [{**selector, **constraint} for constraint in job.spec.scheduling.topology_spread]


def _own_annotations(job: specs.DDPJob, code_digest: str) -> Mapping[str, str]:
    text = json.dumps(specs.canonical(job), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return {
        constants.ANNOTATION_VERSION: __version__,
        constants.ANNOTATION_SPEC: text,
        constants.ANNOTATION_SPEC_DIGEST: hashlib.sha256(text.encode()).hexdigest(),
        constants.ANNOTATION_CODE_DIGEST: code_digest,
    }
