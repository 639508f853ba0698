"""What must hold on this machine before the first pod starts: system and programs. Each refusal is one sentence."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from k8sddp import errors
from k8sddp.local import addresses, pods
from k8sddp.local import machine as machines
from k8sddp.worker.contract import node_env

HTTP: Final = "HTTP"


def system(machine: machines.Machine) -> None:
    """Refuse everything but Linux: other systems have neither 127.0.0.2 nor a way to hold on to orphans."""
    if machine.platform != "linux":
        raise errors.LocalError(
            f"run --local needs Linux and this is {machine.platform}; run it in a Linux container or virtual machine, "
            "or on a cluster with k8sddp run"
        )


def programs(layout: Sequence[pods.LocalPod], *, machine: machines.Machine) -> tuple[pods.LocalPod, ...]:
    """Return the pods with their programs as paths of this machine.

    They are looked up beside this Python, then in each pod's PATH: one that spec.env sets is made for the image.
    """
    return tuple(dataclasses.replace(pod, argv=(_program(pod, machine), *pod.argv[1:])) for pod in layout)


def _program(pod: pods.LocalPod, machine: machines.Machine) -> str:
    found = shutil.which(pod.argv[0], path=f"{machine.executable.parent}:{pod.env['PATH']}")
    if found is None:
        where = "does not exist on this machine" if "/" in pod.argv[0] else "is not on PATH"
        raise errors.LocalError(
            f"{pod.name}: the program {pod.argv[0]!r} of the image {where}; name an interpreter of this machine in "
            "spec.python, such as python3"
        )
    return str(Path(found).absolute())


def ports(layout: Sequence[pods.LocalPod]) -> tuple[addresses.Port, ...]:
    """Return the ports that the pods will listen on, but for MASTER_PORT, of which there are many."""
    found = []
    for pod in layout:
        if pod.env.get(node_env.PORT, "").isdigit():  # else it is not our worker
            port = int(pod.env[node_env.PORT])
            found.append(addresses.Port(pod.index, port, "gang"))
            found.append(addresses.Port(pod.index, port + node_env.HTTP_PORT_OFFSET, HTTP))
    return tuple(found)


def http_port(pod: pods.LocalPod) -> int | None:
    """Return the port on which the pod's worker answers, None where it is not our worker."""
    return next((one.port for one in ports([pod]) if one.purpose == HTTP), None)
