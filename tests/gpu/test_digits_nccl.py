"""The digits sample under NCCL: one rank per GPU, through `run --local`, the same accuracy on every rank."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.gpu

SAMPLE = Path(__file__).parents[2] / "manifests/samples/digits"


@pytest.fixture
def gpus() -> int:
    """Return the number of GPUs that torch can use, or skip with what is missing."""
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'k8sddp[torch]'")
    if not torch.cuda.is_available():
        pytest.skip("no NVIDIA GPU that torch can use: run `make test-gpu` where nvidia-smi lists one")
    return int(torch.cuda.device_count())


def digits_job(folder: Path, *, gpus: int) -> Path:
    """Write the sample's job.yaml for NCCL: one node, one rank per GPU."""
    job = (SAMPLE / "job.yaml").read_text()
    job = job.replace("nnodes: 2 ", "nnodes: 1 ").replace("nprocPerNode: 1", f"nprocPerNode: {gpus}")
    job = job.replace("backend: gloo", "backend: nccl").replace("cpu: 1,", f"gpu: {gpus}, cpu: 1,")
    job = job.replace("{path: .}", json.dumps({"path": str(SAMPLE)}))
    path = folder / "job.yaml"
    path.write_text(job)
    return path


def test_digits_reaches_its_accuracy_under_nccl(tmp_path: Path, gpus: int) -> None:
    """One rank per GPU trains to at least 0.95, with equal parameters; the figures are printed as JSON."""
    job = digits_job(tmp_path, gpus=gpus)
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "k8sddp.cli.app", "run", "--local", str(job), "--work-dir", str(tmp_path / "work")],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    seconds = time.monotonic() - started
    assert done.returncode == 0, done.stdout + done.stderr
    line = next(line for line in done.stdout.splitlines() if "model saved" in line)
    accuracy = float(line.split("test accuracy ")[1].split(",")[0])
    figures = {"gpus": gpus, "backend": "nccl", "accuracy": accuracy, "run_seconds": round(seconds, 2)}
    print(json.dumps(figures))
    assert accuracy >= 0.95
    assert f"world size {gpus}, parameters equal on all ranks: yes" in done.stdout
    assert "destroy_process_group" not in done.stdout + done.stderr  # NCCL warns of a group that is left behind
