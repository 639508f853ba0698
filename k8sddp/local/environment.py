"""The environment of one local pod: the container's, as the kubelet makes it, then what this machine replaces. Pure.

The kubelet's part is downward API and its `$` rule. Ours is what `worker/contract/node_env.py` lists: variables with
paths, bind addresses or peer hosts. Variables of the user's shell come last and lose against all others; what exists
only on a cluster (envFrom, values from a Secret or ConfigMap) is refused with its name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from k8sddp import constants, errors
from k8sddp.local import addresses, mounts
from k8sddp.local import machine as machines
from k8sddp.manifest import Manifest
from k8sddp.render import container_env
from k8sddp.worker.contract import node_env

NAMESPACE: Final = "local"
DEFAULT_PATH: Final = "/usr/local/bin:/usr/bin:/bin"


@dataclass(frozen=True)
class Identity:
    """Who a pod is: index, name, what the Job has counted of that index before it, and the block of its address."""

    name: str
    index: int
    failures: int = 0
    ignored: int = 0
    block: int = 0

    @property
    def address(self) -> str:
        """Return the pod's loopback address."""
        return addresses.of_pod(self.index, block=self.block)


def of_container(job: Manifest, who: Identity, *, hostname: str, job_uid: str) -> dict[str, str]:
    """Return the environment that the kubelet would hand to the container of this pod.

    Raises LocalError naming what exists only on a cluster.
    """
    container, name = job["spec"]["template"]["spec"]["containers"][0], job["metadata"]["name"]
    for source in container.get("envFrom") or ():
        kind = next((kind for kind in ("secretRef", "configMapRef") if kind in source), "")
        raise errors.LocalError(
            f"{name}: envFrom {kind} {(source.get(kind) or {}).get('name', '')!r} exists only on a cluster; run it "
            "there, or give the values in spec.env"
        )
    fields = _downward(job, who, hostname=hostname, job_uid=job_uid)
    env: dict[str, str] = {}
    for entry in container.get("env") or ():
        path = ((entry.get("valueFrom") or {}).get("fieldRef") or {}).get("fieldPath", "")
        if "valueFrom" not in entry:
            env[entry["name"]] = container_env.expand(entry.get("value") or "", env)
        elif path in fields:
            env[entry["name"]] = fields[path]
        elif entry["name"] == node_env.EPHEMERAL_LIMIT:
            continue  # no kubelet looks after this machine's disk
        else:
            source = path or ", ".join(entry["valueFrom"])
            raise errors.LocalError(
                f"{name}: variable {entry['name']} comes from {source}, which exists only on a cluster; run it there"
            )
    return env


def of_pod(
    asked: Mapping[str, str],
    *,
    job: Manifest,
    who: Identity,
    mounted: Sequence[mounts.Mount],
    scratch: Path,
) -> dict[str, str]:
    """Return the container's environment `asked` with the paths, addresses and hosts of this machine."""
    name, count = job["metadata"]["name"], int(job["spec"].get("completions") or 1)
    hosts = {f"{name}-{peer}.{name}": addresses.of_pod(peer, block=who.block) for peer in range(count)}
    env = {key: mounts.relocate(value, mounted) for key, value in asked.items()}
    for key in node_env.PATHS:
        path = asked.get(key)
        if path and env[key] == path:  # under no mount: the container runtime's own, such as the termination log
            env[key] = str(scratch / Path(path).name)
    for key in node_env.PATH_LISTS:
        if asked.get(key):
            env[key] = json.dumps([[one, mounts.relocate(path, mounted)] for one, path in json.loads(asked[key])])
    env |= {key: who.address for key in node_env.BIND_HOSTS if key in asked}
    env |= {key: hosts.get(asked[key], asked[key]) for key in node_env.PEER_HOSTS if key in asked}
    return env


def of_machine(machine: machines.Machine, *, devices: Sequence[str], temporary: str) -> dict[str, str]:
    """Return what a local pod sees besides its container's environment.

    `temporary` is the pod's own /tmp: what programs write there ends with the run.
    """
    env = dict(machine.environ)
    env["PATH"] = f"{machine.executable.parent}:{env.get('PATH') or DEFAULT_PATH}"
    env["CUDA_VISIBLE_DEVICES"] = ",".join(devices)
    if temporary:
        env["TMPDIR"] = temporary
    return env


def _downward(job: Manifest, who: Identity, *, hostname: str, job_uid: str) -> Mapping[str, str]:
    """Return the fields of a pod by the path that a fieldRef gives."""
    template = job["spec"]["template"]
    metadata = template.get("metadata") or {}
    labels = (metadata.get("labels") or {}) | {
        constants.LABEL_BATCH_JOB_NAME: job["metadata"]["name"],
        constants.LABEL_BATCH_INDEX: str(who.index),
        constants.LABEL_BATCH_CONTROLLER_UID: job_uid,
    }
    annotations = (metadata.get("annotations") or {}) | {
        constants.LABEL_BATCH_INDEX: str(who.index),
        constants.ANNOTATION_BATCH_INDEX_FAILURE_COUNT: str(who.failures),
        constants.ANNOTATION_BATCH_INDEX_IGNORED_FAILURE_COUNT: str(who.ignored or ""),  # absent while it is 0
    }
    return {
        "metadata.name": who.name,
        "metadata.namespace": NAMESPACE,
        "spec.nodeName": hostname,
        "spec.serviceAccountName": template["spec"].get("serviceAccountName", "default"),
        "status.podIP": who.address,
        "status.podIPs": who.address,
        **{f"metadata.labels['{key}']": value for key, value in labels.items()},
        **{f"metadata.annotations['{key}']": value for key, value in annotations.items()},
    }
