"""The samples, run as the README says: `k8sddp run --local` on two nodes, no cluster."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

pytest.importorskip("torch", reason="torch is not installed: pip install 'k8sddp[torch]'")
pytestmark = pytest.mark.torch

SAMPLES = Path(__file__).parents[2] / "manifests/samples"
K8SDDP = str(Path(sys.executable).with_name("k8sddp"))

# A rank's own last word: has it left its process group?
WATCH = """
import atexit, os, sys

def tell():
    if "RANK" in os.environ and "torch.distributed" in sys.modules:
        left = sys.modules["torch.distributed"].is_initialized()
        print("process group at the end:", "LEFT BEHIND" if left else "none", flush=True)

atexit.register(tell)
"""


def run_local(job: Path, work_dir: Path) -> subprocess.CompletedProcess[str]:
    """Run a job to its end."""
    argv = [K8SDDP, "run", "--local", str(job), "--work-dir", str(work_dir)]
    return subprocess.run(argv, capture_output=True, text=True, timeout=110, check=False)


def edited(sample: Path, folder: Path, **spec: object) -> Path:
    """Copy a sample's folder and change fields of its spec; a failure ends the job instead of being healed."""
    shutil.copytree(sample.parent, folder)
    job = yaml.safe_load(sample.read_text())
    job["spec"].update({"restart": {"maxAttempts": 1}, **spec})
    (folder / sample.name).write_text(json.dumps(job))
    return folder / sample.name


@pytest.mark.parametrize(("nnodes", "nproc"), [(2, 1), (2, 2)], ids=["world-2", "world-4"])
def test_digits_reaches_95_percent_with_equal_parameters(tmp_path: Path, nnodes: int, nproc: int) -> None:
    """Two nodes with one or two ranks each learn the digits and end with the same parameters on every rank."""
    changes = {"nnodes": nnodes, "nprocPerNode": nproc}
    job = edited(SAMPLES / "digits/job.yaml", tmp_path / "digits", env={"PYTHONPATH": "/k8sddp/work"}, **changes)
    (job.parent / "sitecustomize.py").write_text(WATCH)
    done = run_local(job, tmp_path / "work")
    assert (0, "") == (done.returncode, "" if done.returncode == 0 else done.stdout + done.stderr)
    last = [line for line in done.stdout.splitlines() if "test accuracy" in line][-1]
    assert float(last.split("test accuracy ")[1].split(",")[0]) >= 0.95
    assert f"[rank 0] world size {nnodes * nproc}, parameters equal on all ranks: yes" in done.stdout
    assert f"[rank 0] 1437 images to learn from, {-(-1437 // (nnodes * nproc))} of them on each rank" in done.stdout
    ended = sorted(line.partition("] ")[2] for line in done.stdout.splitlines() if "process group at the end" in line)
    assert ["process group at the end: none"] * nnodes * nproc == ended
    assert "destroy_process_group" not in done.stdout + done.stderr  # NCCL's warning where it is not called
    model = tmp_path / "work/digits/digits-0/volumes/model/digits.pt"
    assert str(model) in last
    assert model.stat().st_size > 1000


@pytest.mark.parametrize(("name", "world_size"), [("tcp", 2), ("spawn", 4)], ids=["tcp", "mp-spawn"])
def test_the_tutorials_two_ways_train(tmp_path: Path, name: str, world_size: int) -> None:
    """`init_method="tcp://..."` under torchrun and `mp.spawn` both form the world that was asked for."""
    job = edited(SAMPLES / f"tutorial/{name}.yaml", tmp_path / "tutorial")
    done = run_local(job, tmp_path / "work")
    assert (0, "") == (done.returncode, "" if done.returncode == 0 else done.stdout + done.stderr)
    for rank in range(world_size):
        assert f"[rank {rank}] rank {rank} of {world_size}: loss" in done.stdout
