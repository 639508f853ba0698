"""What the worker finds in its container: paths, the K8SDDP_* environment, and the kubelet's `$` rule.

The manifest sets `K8SDDP_*` names only, then the user's; torch's names are the worker's business. The kubelet expands
`$(NAME)` and `$$` in env values, command and args, so every `$` of the user's is doubled and arrives as it was written.
Names are not spelled here but in `worker/contract/node_env.py`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from k8sddp import constants
from k8sddp import spec as specs
from k8sddp.worker.contract import node_env

WORKER_DIR: Final = "/k8sddp/worker"
WORKER_KEY: Final = "worker.pyz"
CODE_DIR: Final = "/k8sddp/code"
CODE_KEY: Final = "code.zip"
WORK_DIR: Final = "/k8sddp/work"
SCRATCH_DIR: Final = "/tmp"  # noqa: S108 - the pod's own emptyDir
SHM_DIR: Final = "/dev/shm"  # noqa: S108 - the pod's own memory emptyDir
TERMINATION_LOG: Final = "/dev/termination-log"

# Downward API: name -> field of the pod (https://kubernetes.io/docs/concepts/workloads/pods/downward-api)
DOWNWARD: Final[Mapping[str, str]] = {
    node_env.NAMESPACE: "metadata.namespace",
    node_env.POD_NAME: "metadata.name",
    node_env.POD_IP: "status.podIP",
    node_env.KUBE_NODE: "spec.nodeName",
    node_env.NODE_RANK: f"metadata.labels['{constants.LABEL_BATCH_INDEX}']",
    node_env.JOB_UID: f"metadata.labels['{constants.LABEL_BATCH_CONTROLLER_UID}']",
    node_env.FAILURE_COUNT: f"metadata.annotations['{constants.ANNOTATION_BATCH_INDEX_FAILURE_COUNT}']",
    node_env.IGNORED_COUNT: f"metadata.annotations['{constants.ANNOTATION_BATCH_INDEX_IGNORED_FAILURE_COUNT}']",
}


def escape(text: str) -> str:
    """Return `text` so that the kubelet's expansion gives back `text`."""
    return text.replace("$", "$$")


def expand(text: str, mapping: Mapping[str, str]) -> str:
    """Return `text` as the kubelet hands it to the container.

    `$(X)` becomes the value of X, or stays where X is unknown; `$$` becomes `$`; any other `$` is literal. Values are
    not expanded again. Rule: k8s.io/kubernetes/third_party/forked/golang/expansion (which garbles a single `$` before a
    non-ASCII character; `escape` never leaves one).
    """
    parts: list[str] = []
    start = 0
    while (at := text.find("$", start)) >= 0 and at + 1 < len(text):
        parts.append(text[start:at])
        following = text[at + 1]
        end = text.find(")", at + 2) if following == "(" else -1
        if end >= 0:
            name = text[at + 2 : end]
            parts.append(mapping.get(name, f"$({name})"))
            start = end + 1
        else:
            parts.append("$" if following == "$" else "$" + following)
            start = at + 2
    return "".join(parts) + text[start:]


def entries(
    job: specs.DDPJob, *, code_digest: str, code_config_map: str, only_preflight: bool = False
) -> tuple[Mapping[str, Any], ...]:
    """Return the container's `env`: ours first, then the user's, whose every `$` is doubled."""
    values = dict(_values(job, code_digest, code_config_map)) | (
        {node_env.ONLY_PREFLIGHT: "1"} if only_preflight else {}
    )
    ours = [{"name": name, "value": escape(value)} for name, value in values.items()]
    downward: list[dict[str, Any]] = [
        {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}} for name, path in DOWNWARD.items()
    ]
    disk = {"containerName": constants.CONTAINER_NAME, "resource": "limits.ephemeral-storage", "divisor": "1"}
    downward.append({"name": node_env.EPHEMERAL_LIMIT, "valueFrom": {"resourceFieldRef": disk}})
    users = [{"name": name, "value": escape(value)} for name, value in job.spec.env.items()]
    return (*ours, *downward, *users)


def disk_volumes(spec: specs.JobSpec) -> list[tuple[str, str, int]]:
    """Return the emptyDirs on the Kubernetes Node's disk: name, where, and what they may hold, 0 without limit.

    A pod that holds more is evicted by its kubelet. Memory has a limit of its own, which the kernel enforces.
    """
    found = [("k8sddp-tmp", SCRATCH_DIR, 0), *([("k8sddp-work", WORK_DIR, 0)] if spec.code else [])]
    for volume in spec.volumes:
        source = volume.source.get("emptyDir")
        if source is not None and not source.get("medium"):
            limit = specs.quantity_value(source.get("sizeLimit", "0"))
            found.append((volume.name, volume.mount_path, int(limit or 0)))
    return found


# Volume sources that Kubernetes mounts read-only, whatever is asked (pkg/volume, IsReadOnly / ReadOnly attributes)
_ALWAYS_READ_ONLY: Final = frozenset({"configMap", "secret", "projected", "downwardAPI", "image"})


def writable(spec: specs.JobSpec) -> list[tuple[str, str]]:
    """Return the user's volumes that are not mounted read-only: name, and where."""
    return [
        (volume.name, volume.mount_path)
        for volume in spec.volumes
        if not volume.read_only
        and not _ALWAYS_READ_ONLY & volume.source.keys()
        and not any(source.get("readOnly") for source in volume.source.values())
    ]


def _values(job: specs.DDPJob, code_digest: str, code_config_map: str) -> Mapping[str, str]:
    spec = job.spec
    cpus = specs.cpu_count(spec.resources)
    return {
        node_env.JOB: job.name,
        node_env.NNODES: str(spec.nnodes),
        node_env.NPROC_PER_NODE: str(spec.nproc_per_node),
        node_env.BACKEND: spec.backend,
        node_env.LAUNCHER: spec.launcher,
        node_env.PORT: str(spec.rendezvous.port),
        node_env.JOIN_TIMEOUT: str(spec.rendezvous.timeout),
        node_env.MAX_ATTEMPTS: str(spec.restart.max_attempts),
        node_env.FAIL_ON: ",".join(map(str, spec.restart.fail_on)),
        node_env.RETRY_ON: ",".join(map(str, spec.restart.retry_on)),
        node_env.HANG_TIMEOUT: str(spec.restart.hang_timeout),
        node_env.ON_HANG: spec.restart.on_hang,
        node_env.GRACE_PERIOD: str(spec.termination_grace_period_seconds),
        node_env.GPUS: str(spec.resources.gpu),
        node_env.CPUS: f"{cpus:.3f}".rstrip("0").rstrip(".") if cpus else "",
        node_env.CODE_DIGEST: code_digest,
        node_env.PREFLIGHT: spec.preflight,
        node_env.WRITABLE: json.dumps(writable(spec), separators=(",", ":")),
        node_env.VOLUMES: json.dumps(disk_volumes(spec), separators=(",", ":")),
        node_env.CODE_CONFIG_MAP: code_config_map,
        node_env.CODE_ZIP: f"{CODE_DIR}/{CODE_KEY}" if spec.code else "",
        node_env.WORK_DIR: WORK_DIR if spec.code else "",
        node_env.SCRATCH_DIR: SCRATCH_DIR,
        node_env.SHM_DIR: SHM_DIR,
        node_env.TERMINATION_LOG: TERMINATION_LOG,
        node_env.BIND_HOST: "",
        node_env.COORDINATOR: f"{job.name}-0.{job.name}",
    }
