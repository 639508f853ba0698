"""Which group the ranks have formed, where every pod has an address and a localhost of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e import jobs
from tests.e2e.test_failures import BIG, ONCE
from tests.e2e.users import User

pytestmark = [pytest.mark.cluster, pytest.mark.torch, pytest.mark.timeout(300)]

# The usual tutorial for one machine, started on two
TUTORIAL = """
import os
import torch.distributed as dist, torch.multiprocessing as mp

def work(rank, world_size):
    os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"] = "localhost", "12355"
    dist.init_process_group("gloo", rank=rank, world_size=world_size)
    print("begins", flush=True)
    dist.barrier()

if __name__ == "__main__":
    mp.spawn(work, args=(2,), nprocs=2)
"""
# As Lightning's ddp does: the script starts itself again, and waits for nobody
ITSELF = """
import os, subprocess, sys
import torch.distributed as dist

nproc, node, nnodes = (int(os.environ[name]) for name in ("LOCAL_WORLD_SIZE", "NODE_RANK", "NNODES"))
if "LOCAL_RANK" not in os.environ:
    for local in range(1, nproc):
        subprocess.Popen([sys.executable, *sys.argv], env={**os.environ, "LOCAL_RANK": str(local)})
rank = node * nproc + int(os.environ.get("LOCAL_RANK", 0))
dist.init_process_group("gloo", rank=rank, world_size=nnodes * nproc)
print("I am rank", rank, flush=True)
if rank == 3:
    raise ValueError("raised by rank 3")
dist.barrier()
"""
SPAWN = {"launcher": "spawn", "nnodes": 2, "nprocPerNode": 2}


def test_a_tutorial_for_one_machine_is_told_why_it_would_train_apart(user: User, tmp_path: Path) -> None:
    """Four attempts are left and none is made: the job ends at once with 78, and `get` has the sentence, too."""
    file = jobs.write(tmp_path, "apart", TUTORIAL, image=user.cluster.image, **SPAWN, **BIG)
    ran = user.k8sddp("run", str(file))
    said = (
        "the ranks formed a group of 2, the job has 4 (2 nodes of 2 ranks): "
        "the script joins at localhost instead of MASTER_ADDR with world_size=2, so each node trains alone"
    )
    assert 78 == ran.code, ran
    assert (True, False) == (said in ran.err, "begins" in ran.out + ran.err), ran
    assert said in user.k8sddp("get", "apart").out
    assert "begins" not in user.k8sddp("logs", "apart", "--all").out


def test_a_script_that_starts_itself_again_has_the_right_ranks(user: User, tmp_path: Path) -> None:
    """Rank 3 is a subprocess in pod 1, and its line and its exception are told as its own."""
    file = jobs.write(tmp_path, "itself", ITSELF, image=user.cluster.image, **SPAWN, **BIG, **ONCE)
    ran = user.k8sddp("run", str(file))
    assert (1, True) == (ran.code, "rank 3 (pod itself-1-" in ran.err), ran
    log = user.k8sddp("logs", "itself", "--all").out
    assert all(f"[rank {rank}] I am rank {rank}\n" in log for rank in range(4)), log


def test_ranks_that_never_joined_are_remarked_on(user: User, tmp_path: Path) -> None:
    """The job is complete, and whoever looks at it learns that it was two trainings."""
    file = jobs.write(tmp_path, "separate", "print('trains')\n", image=user.cluster.image, nnodes=2)
    ran = user.k8sddp("run", str(file))
    said = "no rank joined a process group (init_process_group was never called): the 2 ranks trained separately"
    assert (0, 1) == (ran.code, ran.err.count(said)), ran
    assert f"remark: {said}\n" in user.k8sddp("get", "separate").out
