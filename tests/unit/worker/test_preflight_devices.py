"""What is found of the GPUs, counted as device files."""

from __future__ import annotations

from pathlib import Path

import pytest

from k8sddp.worker.contract import finding, node_env
from k8sddp.worker.preflight import devices
from tests.unit.worker import workers


def levels(
    folder: Path, names: str, *, nproc: int = 2, gpus: int = 2, backend: str = "nccl", **environ: str
) -> list[str]:
    """Return the levels of what is found with these device files."""
    for name in names.split():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    changes = {"K8SDDP_BACKEND": backend, "K8SDDP_NPROC_PER_NODE": str(nproc), "K8SDDP_GPUS": str(gpus)}
    node = node_env.parse(workers.make_env(0, folder, 29400, **changes))
    return [one.level for one in devices.gpus(node, environ=environ, devices=str(folder))]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        pytest.param("nvidia0 nvidia1 nvidiactl nvidia-uvm", [], id="two"),
        pytest.param("nvidia0 nvidiactl", [finding.PROBLEM], id="one"),
        pytest.param("null", [finding.PROBLEM], id="none"),
        pytest.param("kfd dri/renderD128 dri/renderD129", [], id="ROCm"),
        pytest.param("kfd dri/renderD128", [finding.WARNING], id="ROCm, one"),
        pytest.param("kfd", [], id="ROCm, hidden"),
        pytest.param("dxg", [], id="WSL"),
    ],
)
def test_nccl_needs_a_gpu_per_rank(tmp_path: Path, names: str, expected: list[str]) -> None:
    """What cannot be counted for certain is no problem."""
    assert expected == levels(tmp_path, names)


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        pytest.param({"CUDA_VISIBLE_DEVICES": "0,1"}, [], id="both"),
        pytest.param({"CUDA_VISIBLE_DEVICES": "0"}, [finding.PROBLEM], id="one"),
        pytest.param({"CUDA_VISIBLE_DEVICES": ""}, [finding.PROBLEM], id="none"),
        pytest.param({"CUDA_VISIBLE_DEVICES": "0,-1,1"}, [finding.PROBLEM], id="behind -1"),
        pytest.param({"CUDA_VISIBLE_DEVICES": "0,1,2,3"}, [], id="more than there are"),
        pytest.param({"NVIDIA_VISIBLE_DEVICES": "MIG-a,MIG-b"}, [], id="slices of a GPU"),
    ],
)
def test_a_gpu_that_cuda_hides_does_not_count(tmp_path: Path, environ: dict[str, str], expected: list[str]) -> None:
    """By CUDA's own rule about CUDA_VISIBLE_DEVICES."""
    assert expected == levels(tmp_path, "nvidia0 nvidia1", **environ)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        pytest.param("nvidia0 nvidia1", [], id="as asked"),
        pytest.param("nvidia0 nvidia1 nvidia2", [finding.WARNING], id="more"),
        pytest.param("nvidia0", [finding.WARNING], id="fewer"),
        pytest.param("null", [], id="another vendor's"),
    ],
)
def test_another_number_than_was_asked_for_is_a_warning(tmp_path: Path, names: str, expected: list[str]) -> None:
    """With gloo nothing need fail, and shared GPUs are some clusters' intention."""
    assert expected == levels(tmp_path, names, backend="gloo", nproc=4)


def test_a_job_that_asks_for_no_gpu_is_told_nothing(tmp_path: Path) -> None:
    """Whatever the machine has."""
    assert [] == levels(tmp_path, "nvidia0 nvidia1", backend="gloo", gpus=0)


def test_the_sentence_says_what_was_counted(tmp_path: Path) -> None:
    """The rule, the number and the remedy."""
    (tmp_path / "nvidia0").touch()
    changes = {"K8SDDP_BACKEND": "nccl", "K8SDDP_NPROC_PER_NODE": "2", "K8SDDP_GPUS": "2"}
    node = node_env.parse(workers.make_env(0, tmp_path, 29400, **changes))
    (found,) = devices.gpus(node, environ={}, devices=str(tmp_path))
    expected = (
        f"nccl needs a GPU per rank, nprocPerNode is 2 but {tmp_path} has 1: ask for resources.gpu, or backend: gloo"
    )
    assert expected == found.text
