"""Are the GPUs there that the job asks for, counted as device files: no library is loaded, no context made.

What cannot be counted so (WSL, slices of a GPU) is left to torch.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Optional

from k8sddp.worker.contract import node_env
from k8sddp.worker.contract.finding import PROBLEM, WARNING, Finding

VISIBLE = "CUDA_VISIBLE_DEVICES"
HIDING = {"nvidia": (VISIBLE,), "amd": ("HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", VISIBLE)}


def gpus(node: node_env.NodeEnv, *, environ: Mapping[str, str], devices: str = "/dev") -> Iterator[Finding]:
    """Find too few GPUs for NCCL's ranks, and another number than resources.gpu asks for."""
    vendor, count = _count(devices)
    if vendor and any("MIG" in environ.get(name, "") for name in (VISIBLE, "NVIDIA_VISIBLE_DEVICES")):
        return  # slices of a GPU, several of which share one device file
    named = [listed for name in HIDING.get(vendor, ()) if (listed := _listed(environ.get(name))) is not None]
    seen = min([count, *named])
    where = "%s has %d" % (devices, count) if seen == count else "%s shows %d" % ("what the environment allows", seen)
    if not vendor:
        if count:
            return
        where = "%s has none" % devices
    if node.backend == "nccl" and seen < node.nproc_per_node:
        text = "nccl needs a GPU per rank, nprocPerNode is %d but %s: ask for resources.gpu, or backend: gloo"
        # partitions of AMD's GPUs and how they are numbered differ from driver to driver
        level = WARNING if vendor == "amd" else PROBLEM
        yield Finding("GPUs", level, text % (node.nproc_per_node, where))
    elif node.gpus and vendor and seen != node.gpus:
        why = "the GPUs of other pods are visible too" if seen > node.gpus else "the device plugin gave fewer"
        text = "resources.gpu is %d but %s: %s, see what the nodes' device plugin and runtime class do"
        yield Finding("GPUs", WARNING, text % (node.gpus, where, why))


def _count(devices: str) -> tuple[str, int]:
    """Return whose GPUs there are and how many; no vendor and 1 where they cannot be counted, 0 for none."""
    names = os.listdir(devices)
    if "dxg" in names:  # WSL
        return "", 1
    if "kfd" in names:  # AMD's ROCm: one render node for each
        try:
            rendering = os.listdir(os.path.join(devices, "dri"))
        except OSError:
            return "", 1
        return "amd", sum(1 for name in rendering if re.fullmatch(r"renderD[0-9]+", name))
    count = sum(1 for name in names if re.fullmatch(r"nvidia[0-9]+", name))
    return ("nvidia" if count else ""), count


def _listed(value: Optional[str]) -> Optional[int]:
    """Return how many devices a variable lists, None where it is not set: what is behind -1 does not count.

    (https://docs.nvidia.com/cuda/cuda-c-programming-guide/index.html#env-vars)
    """
    if value is None:
        return None
    words = [word.strip() for word in value.split(",")]
    return next((place for place, word in enumerate(words) if word in ("", "-1")), len(words))
