"""Of the user's shell a local pod sees what describes the machine, and nothing that describes a job."""

from __future__ import annotations

import pytest

from k8sddp.local import machine


@pytest.mark.parametrize(
    "name", ["HOME", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "LC_ALL", "https_proxy", "XDG_CACHE_HOME"]
)
def test_variables_of_the_machine_pass(name: str) -> None:
    """Caches, libraries, GPUs, text encoding and proxies are the machine's."""
    assert {name: "x"} == machine.inherited({name: "x"})


@pytest.mark.parametrize(
    "name", ["RANK", "MASTER_ADDR", "PET_NNODES", "K8SDDP_PORT", "PYTHONPATH", "NCCL_DEBUG", "OMP_NUM_THREADS"]
)
def test_variables_of_a_job_do_not_pass(name: str) -> None:
    """What would change the job belongs in spec.env, where a cluster sees it too."""
    assert {} == machine.inherited({name: "x"})


def test_this_machine_is_observed() -> None:
    """The real machine has an interpreter and folders to write in."""
    here = machine.observe()

    assert here.executable.is_file()
    assert here.temporary.is_dir()
    assert here.hostname
