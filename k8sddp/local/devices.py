"""The GPUs of this machine, and each local pod's share of them. Pure.

On a cluster the device plugin gives every pod GPUs of its own; here CUDA_VISIBLE_DEVICES does. A pod that asks for none
sees none, as in a container.
"""

from __future__ import annotations

from collections.abc import Sequence

from k8sddp import errors
from k8sddp.manifest import Manifest
from k8sddp.worker.contract import node_env


def visible(named: str | None, *, count: int) -> tuple[str, ...]:
    """Return the GPUs that CUDA shows a process: what CUDA_VISIBLE_DEVICES=`named` lists, all `count` when it is unset.

    CUDA ignores a device that does not exist and all behind it
    (https://docs.nvidia.com/cuda/cuda-c-programming-guide/index.html#env-vars).
    """
    if named is None:
        return tuple(str(number) for number in range(count))
    devices: list[str] = []
    for device in (text.strip() for text in named.split(",")):
        if not count or device in ("", "-1") or (device.isdigit() and int(device) >= count):
            break
        devices.append(device)
    return tuple(devices)


def shares(job: Manifest, *, devices: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """Return the GPUs of each pod, by index.

    Raises LocalError when there are too few.
    """
    name, count = job["metadata"]["name"], int(job["spec"].get("completions") or 1)
    container = job["spec"]["template"]["spec"]["containers"][0]
    env = {entry["name"]: entry.get("value", "") for entry in container.get("env") or ()}
    each = int(env.get(node_env.GPUS) or 0)
    if count * each > len(devices):
        raise errors.LocalError(
            f"{name}: {count * each} GPUs are needed ({count} pods x {each}) and this machine has {len(devices)}; "
            "lower spec.nnodes or spec.resources.gpu, or train on the CPU: spec.backend: gloo, no spec.resources.gpu"
        )
    return tuple(tuple(devices[index * each : (index + 1) * each]) for index in range(count))
