"""What this machine cannot do is refused before anything starts, in one sentence."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest

from k8sddp import errors
from k8sddp.local import checks
from k8sddp.worker.contract import node_env
from tests.unit.local.builders import make_job, make_layout, make_machine

POD_IP = {"name": node_env.POD_IP, "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}


def listener(address: str) -> socket.socket:
    """Return a socket that listens on a free port of `address`."""
    server = socket.socket()
    server.bind((address, 0))
    server.listen()
    return server


def test_linux_only() -> None:
    """macOS is told where to run instead."""
    checks.system(make_machine())
    with pytest.raises(errors.LocalError, match="needs Linux and this is darwin; run it in a Linux container"):
        checks.system(make_machine(platform="darwin"))


@pytest.mark.parametrize("env", [{}, {"PATH": "/opt/conda/bin:/usr/bin"}], ids=["no PATH", "the image's PATH"])
def test_the_program_is_looked_up_beside_this_python(env: dict[str, str]) -> None:
    """`python3` becomes this interpreter's full path, which is how a virtual environment is recognised."""
    machine = make_machine(executable=Path(sys.executable))

    (pod,) = checks.programs(make_layout(make_job(env=env), executable=machine.executable), machine=machine)

    assert (str(Path(sys.executable).parent / "python3"), "-c", "pass") == pod.argv


@pytest.mark.parametrize(
    ("program", "words"),
    [
        pytest.param("python9", "'python9' of the image is not on PATH; name an interpreter", id="a name"),
        pytest.param("/opt/x/python", "'/opt/x/python' of the image does not exist on this machine", id="a path"),
    ],
)
def test_a_missing_program_is_refused(program: str, words: str) -> None:
    """The refusal names the program and the field that sets it."""
    with pytest.raises(errors.LocalError, match=words):
        checks.programs(make_layout(make_job(command=[program])), machine=make_machine())


@pytest.mark.parametrize(
    ("address", "offset", "words"),
    [
        pytest.param("127.0.0.2", 0, r"port {port} on 127.0.0.2 \(gang\) cannot be used: it is in use", id="gang"),
        pytest.param("127.0.0.3", 1, r"port {port} on 127.0.0.3 \(HTTP\)", id="HTTP of the second pod"),
        pytest.param("0.0.0.0", 0, r"port {port} on 127.0.0.2 \(gang\)", id="a listener on every address"),
    ],
)
def test_a_port_in_use_is_refused(address: str, offset: int, words: str) -> None:
    """The refusal names port, address, purpose and the field to change."""
    with listener(address) as server:
        port = server.getsockname()[1]
        job = make_job(nnodes=2, container={"env": [{"name": node_env.PORT, "value": str(port - offset)}, POD_IP]})
        with pytest.raises(errors.LocalError, match=words.format(port=port) + ".*rendezvous.port"):
            checks.ports(make_layout(job))


def test_a_taken_master_port_is_not_refused() -> None:
    """There are many of them, and the worker passes over those that are taken."""
    with listener("127.0.0.1") as server:
        port = server.getsockname()[1]
        job = make_job(container={"env": [{"name": node_env.PORT, "value": str(port - 10)}, POD_IP]})
        checks.ports(make_layout(job))


def test_free_ports_are_not_refused() -> None:
    """A port that nobody listens on passes, also right after it was closed."""
    with listener("127.0.0.2") as server:
        port = server.getsockname()[1]
    job = make_job(container={"env": [{"name": node_env.PORT, "value": str(port)}, POD_IP]})

    checks.ports(make_layout(job))


def test_a_port_beyond_the_last_is_refused() -> None:
    """HTTP is one above the gang's port and must exist."""
    job = make_job(container={"env": [{"name": node_env.PORT, "value": "65535"}, POD_IP]})

    with pytest.raises(errors.LocalError, match=r"port 65536 .*there is no such port"):
        checks.ports(make_layout(job))
