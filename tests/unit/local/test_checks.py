"""What this machine cannot do is refused before anything starts, in one sentence."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from k8sddp import errors
from k8sddp.local import checks
from k8sddp.worker.contract import node_env
from tests.unit.local.builders import make_job, make_layout, make_machine


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


def test_the_worker_listens_on_two_ports() -> None:
    """Of MASTER_PORT there are many, and a pod that is not our worker has none."""
    job = make_job(nnodes=2, env={node_env.PORT: "29400"})

    assert ((0, 29400, "gang"), (0, 29401, "HTTP"), (1, 29400, "gang"), (1, 29401, "HTTP")) == checks.ports(
        make_layout(job)
    )
    assert () == checks.ports(make_layout(make_job()))
