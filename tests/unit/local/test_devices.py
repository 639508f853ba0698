"""GPUs are shared out among the pods as CUDA_VISIBLE_DEVICES."""

from __future__ import annotations

import pytest

from k8sddp import errors
from k8sddp.local import devices
from k8sddp.worker.contract import node_env
from tests.unit.local.builders import make_job, make_layout


@pytest.mark.parametrize(
    ("named", "count", "expected"),
    [
        pytest.param(None, 2, ("0", "1"), id="unset: all"),
        pytest.param("", 2, (), id="empty: none"),
        pytest.param("3, 1", 4, ("3", "1"), id="a choice in its order"),
        pytest.param("0,-1,1", 4, ("0",), id="-1 ends the list"),
        pytest.param("0,9,1", 4, ("0",), id="an unknown number ends the list"),
        pytest.param("GPU-aa,GPU-bb", 2, ("GPU-aa", "GPU-bb"), id="by UUID"),
        pytest.param("0", 0, (), id="no GPU in this machine"),
    ],
)
def test_visible_devices_are_read_as_cuda_reads_them(named: str | None, count: int, expected: tuple[str, ...]) -> None:
    """The user's own choice of GPUs is the set that is shared out."""
    assert expected == devices.visible(named, count=count)


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        pytest.param({node_env.GPUS: "2"}, ["4,5", "6,7"], id="GPUs asked for"),
        pytest.param({node_env.GPUS: "0"}, ["", ""], id="none asked for, none seen"),
    ],
)
def test_each_pod_gets_its_own_share(env: dict[str, str], expected: list[str]) -> None:
    """No GPU is in two pods."""
    pods = make_layout(make_job(nnodes=2, env=env), devices=("4", "5", "6", "7"))

    assert expected == [pod.env["CUDA_VISIBLE_DEVICES"] for pod in pods]


def test_too_few_gpus_are_refused() -> None:
    """The refusal says what is needed, what is there and what to do."""
    job = make_job(nnodes=2, env={node_env.GPUS: "2"})

    with pytest.raises(
        errors.LocalError, match=r"4 GPUs are needed \(2 pods x 2\) and this machine has 3; lower spec.nn"
    ):
        make_layout(job, devices=("0", "1", "2"))
