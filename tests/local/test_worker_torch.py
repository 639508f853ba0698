"""The worker with the real torch: DDP through torchrun and mp.spawn, and the right rank blamed when one fails."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from tests.unit.worker import workers

pytestmark = [
    pytest.mark.torch,
    pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="needs torch: pip install 'k8sddp[torch]'"),
]

DDP = """
import os, sys
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

dist.init_process_group("gloo", **({"init_method": "tcp://%(MASTER_ADDR)s:%(MASTER_PORT)s" % os.environ,
    "rank": int(os.environ["RANK"]), "world_size": int(os.environ["WORLD_SIZE"])} if sys.argv[1] == "tcp" else {}))
model = DistributedDataParallel(torch.nn.Linear(4, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(4):
    if step == 2 and dist.get_rank() == 1:
        exec(sys.argv[2])
    optimizer.zero_grad()
    model(torch.randn(8, 4)).mean().backward()
    optimizer.step()
print("world", dist.get_world_size())
dist.destroy_process_group()
"""

SPAWN = """
import os, sys
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

def train(local_rank, nprocs, ending):
    rank = int(os.environ["NODE_RANK"]) * nprocs + local_rank
    if rank == 1 and ending.startswith("early"):
        raise KeyError("early")
    address = "tcp://%(MASTER_ADDR)s:%(MASTER_PORT)s" % os.environ
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=int(os.environ["NNODES"]) * nprocs)
    for step in range(3):
        total = torch.ones(1)
        if step == 1 and rank == 1:
            exec(ending)
        dist.all_reduce(total)
    print("sum", total.item())
    dist.destroy_process_group()

if __name__ == "__main__":
    nprocs = int(os.environ["LOCAL_WORLD_SIZE"])
    mp.spawn(train, args=(nprocs, sys.argv[1]), nprocs=nprocs)
"""


@pytest.mark.parametrize("method", ["env", "tcp"])
def test_ddp_trains_over_two_nodes(tmp_path: Path, method: str) -> None:
    """Both ways of joining form one world of two through torchrun."""
    with workers.Gang(tmp_path, DDP, method, "", nnodes=2, torch="").start() as gang:
        assert [0, 0] == gang.wait()
    assert "[rank 0] world 2\n" in gang.pods[0].log
    assert "[rank 1] world 2\n" in gang.pods[1].log


def test_dollars_in_arguments_arrive_as_they_were_written(tmp_path: Path) -> None:
    """torchrun substitutes macros in its script's arguments; a password is none."""
    words = ("pa$$word", "${local_rank}", "$x$", "100$")
    with workers.Gang(tmp_path, "import sys\nprint(sys.argv[1:])", *words, nnodes=1, torch="").start() as gang:
        assert [0] == gang.wait()
    assert f"[rank 0] {list(words)}\n" in gang.pods[0].log


@pytest.mark.parametrize(
    ("nnodes", "ending", "code", "said"),
    [
        pytest.param(2, "raise ValueError('bad data')", 1, "raised ValueError: bad data", id="exception"),
        pytest.param(2, "sys.exit(3)", 3, "exited with code 3", id="sys.exit"),
        pytest.param(2, "os.kill(os.getpid(), 9)", 64, "was killed by SIGKILL", id="kill"),
        pytest.param(
            2, "dist.destroy_process_group(); raise ValueError('x')", 1, "raised ValueError: x", id="destroyed"
        ),
        pytest.param(1, "os.kill(os.getpid(), 9)", 64, "was killed by SIGKILL", id="kill on one node"),
    ],
)
def test_the_rank_that_failed_is_blamed_not_the_one_that_waited(
    tmp_path: Path, nnodes: int, ending: str, code: int, said: str
) -> None:
    """Rank 1 fails while rank 0 sits in all_reduce and raises gloo's error first or second."""
    nproc = str(2 // nnodes)
    with workers.Gang(tmp_path, DDP, "env", ending, nnodes=nnodes, nproc_per_node=nproc, torch="").start() as gang:
        assert [code, 79][:nnodes] == gang.wait()
    assert (1, True) == (gang.pods[0].cause["rank"], said in str(gang.pods[0].cause["message"])), gang.pods[0].log


def test_spawned_ranks_form_one_world(tmp_path: Path) -> None:
    """mp.spawn on two nodes: four ranks, each with its own prefix."""
    with workers.Gang(tmp_path, SPAWN, "", nnodes=2, nproc_per_node="2", launcher="spawn", torch="").start() as gang:
        assert [0, 0] == gang.wait()
    logs = gang.pods[0].log + gang.pods[1].log
    assert [1, 1, 1, 1] == [logs.count(f"[rank {rank}] sum 4.0\n") for rank in range(4)]


@pytest.mark.parametrize(
    ("ending", "code", "said"),
    [
        pytest.param("raise ValueError('bad data')", 1, "raised ValueError: bad data", id="exception"),
        pytest.param("sys.exit(3)", 3, "exited with code 3", id="sys.exit"),
        pytest.param("os.kill(os.getpid(), 9)", 64, "was killed by SIGKILL", id="kill"),
        pytest.param("early", 1, "raised KeyError: 'early'", id="before it joined"),
    ],
)
def test_a_spawned_rank_that_failed_is_blamed(tmp_path: Path, ending: str, code: int, said: str) -> None:
    """The child's own exception, exit code or signal, not its parent's report of it."""
    with workers.Gang(
        tmp_path, SPAWN, ending, nnodes=2, nproc_per_node="2", launcher="spawn", torch=""
    ).start() as gang:
        assert [code, 79] == gang.wait()
    assert (1, True) == (gang.pods[0].cause["rank"], said in str(gang.pods[0].cause["message"])), gang.pods[0].log
