"""What must hold on this machine before the first pod starts: system, programs, ports. Each refusal is one sentence.

A port that is taken between the check and the worker's own bind is the worker's to report; of the many ports that
MASTER_PORT may be, the worker passes over those that are taken.
"""

from __future__ import annotations

import dataclasses
import errno
import shutil
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

from k8sddp import errors
from k8sddp.local import environment, pods
from k8sddp.local import machine as machines
from k8sddp.worker.contract import node_env


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


def ports(layout: Sequence[pods.LocalPod]) -> None:
    """Refuse a run whose ports another program holds."""
    for address, port, purpose in _needed(layout):
        reason = _taken(address, port)
        if reason:
            raise errors.LocalError(
                f"port {port} on {address} ({purpose}) cannot be used: {reason}; end the program that "
                "holds it (ss -ltnp shows it) or choose another rendezvous.port"
            )


def _needed(layout: Sequence[pods.LocalPod]) -> Iterator[tuple[str, int, str]]:
    for pod in layout:
        if not pod.env.get(node_env.PORT, "").isdigit():
            continue  # not our worker
        port, address = int(pod.env[node_env.PORT]), environment.address_of(pod.index)
        yield address, port, "gang"
        yield address, port + node_env.HTTP_PORT_OFFSET, "HTTP"


def _taken(address: str, port: int) -> str:
    """Return why the port cannot be bound, the empty string where it can."""
    if port > 65535:
        return "there is no such port"
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # as a server does: what is left of closed connections (TIME_WAIT) is no obstacle, a listener is
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            return "it is in use" if error.errno == errno.EADDRINUSE else str(error.strerror)
    return ""
