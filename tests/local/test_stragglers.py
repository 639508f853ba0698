"""Stragglers with the real torch: the rank that is slow in its data is named, and nobody where all are alike."""

from __future__ import annotations

import importlib.util
import json
import shutil
import time
from pathlib import Path

import pytest

from k8sddp.worker.gang import stragglers
from tests.unit.worker import workers

pytestmark = [
    pytest.mark.torch,
    pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="needs torch: pip install 'k8sddp[torch]'"),
]
DIGITS = Path(__file__).parents[2] / "manifests/samples/digits"
SLOW = 3
# Trains until there is a file `stop`; all ranks leave after the same step.
SCRIPT = f"""
import os, time, torch, torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset

class Slow(Dataset):
    def __len__(self):
        return 1_000_000
    def __getitem__(self, index):
        if dist.get_rank() == {SLOW}:
            time.sleep(0.05)
        return torch.randn(4)

dist.init_process_group("gloo")
torch.set_num_threads(1)
model = DistributedDataParallel(torch.nn.Linear(4, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.001)
for batch in DataLoader(Slow()):
    optimizer.zero_grad()
    model(batch).mean().backward()
    optimizer.step()
    stop = torch.tensor(float(os.path.exists("stop")))
    dist.all_reduce(stop)
    if stop:
        break
dist.destroy_process_group()
"""


def test_a_rank_that_is_slow_in_its_data_is_named(tmp_path: Path) -> None:
    """Of 2 x 2 ranks one sleeps 50 ms over each of its batches: node 0 names it, in its log, /status and /metrics."""
    options = {"launcher": "direct", "nproc_per_node": "2", "torch": ""}
    with workers.Gang(tmp_path, SCRIPT, nnodes=2, **options).start() as gang:
        gang.pods[0].wait_for("straggler: ")
        told = json.loads(gang.get("/status")[1])
        metrics = gang.get("/metrics")[1]
        (tmp_path / "stop").touch()
        assert [0, 0] == gang.wait()
    (line,) = [line for line in gang.pods[0].log.splitlines() if "straggler: " in line]
    assert f"straggler: rank {SLOW} (node 1) spends " in line
    assert "straggler" not in gang.pods[1].log
    (found,) = told["stragglers"]
    assert (SLOW, 1, SLOW) == (found["rank"], found["node_rank"], told["progress"]["slowest_rank"])
    assert 0.05 <= found["own"] and found["others"] < 0.05 < found["step"]
    assert f'k8sddp_straggler_share{{job_name="digits",namespace="team-a",node_rank="1",rank="{SLOW}"}} ' in metrics


def test_nobody_is_named_where_all_are_alike(tmp_path: Path) -> None:
    """The digits, undisturbed, for twice as long as it takes to name a straggler."""
    shutil.copy(DIGITS / "digits.csv.gz", tmp_path)
    script = (DIGITS / "train.py").read_text()
    options = {"launcher": "direct", "nproc_per_node": "2", "torch": ""}
    slices = []  # when node 0 looked, one a second at most, and at which step

    with workers.Gang(tmp_path, script, "--epochs", "1000000", nnodes=2, **options) as gang:
        gang.start(OMP_NUM_THREADS="1")
        gang.pods[0].wait_for("attempt 0 starts")

        def looked_often() -> bool:
            far = json.loads(gang.get("/status")[1])["progress"]
            if far and far["slowest_rank"] is not None:
                at = time.monotonic()
                if not slices or (at >= slices[-1][0] + 1.0 and far["step"] >= slices[-1][1] + stragglers.STEPS):
                    slices.append((at, far["step"]))
            return len(slices) > 2 * stragglers.SLICES

        workers.wait_until(looked_often, lambda: str(slices))
        assert [] == json.loads(gang.get("/status")[1])["stragglers"]
    assert "straggler" not in gang.pods[0].log
