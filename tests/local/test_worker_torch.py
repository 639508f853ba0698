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
@pytest.mark.parametrize(("launcher", "nnodes"), [("torchrun", 2), ("direct", 2), ("direct", 1)])
def test_ddp_trains(tmp_path: Path, method: str, launcher: str, nnodes: int) -> None:
    """Both ways of joining form one world of two, with torchrun and without."""
    options = {"launcher": launcher, "nproc_per_node": str(2 // nnodes), "torch": ""}
    with workers.Gang(tmp_path, DDP, method, "", nnodes=nnodes, **options).start() as gang:
        assert [0] * nnodes == gang.wait()
    assert "[rank 0] world 2\n" in gang.pods[0].log
    assert "[rank 1] world 2\n" in gang.pods[-1].log


def test_dollars_in_arguments_arrive_as_they_were_written(tmp_path: Path) -> None:
    """torchrun substitutes macros in its script's arguments; a password is none."""
    words = ("pa$$word", "${local_rank}", "$x$", "100$")
    with workers.Gang(tmp_path, "import sys\nprint(sys.argv[1:])", *words, nnodes=1, torch="").start() as gang:
        assert [0] == gang.wait()
    assert f"[rank 0] {list(words)}\n" in gang.pods[0].log


@pytest.mark.parametrize(
    ("launcher", "nnodes", "ending", "code", "said"),
    [
        pytest.param("torchrun", 2, "raise ValueError('bad data')", 1, "raised ValueError: bad data", id="exception"),
        pytest.param("torchrun", 2, "sys.exit(3)", 3, "exited with code 3", id="sys.exit"),
        pytest.param("torchrun", 2, "os.kill(os.getpid(), 9)", 64, "was killed by SIGKILL", id="kill"),
        pytest.param(
            "torchrun",
            2,
            "dist.destroy_process_group(); raise ValueError('x')",
            1,
            "raised ValueError: x",
            id="destroyed",
        ),
        pytest.param("torchrun", 1, "os.kill(os.getpid(), 9)", 64, "was killed by SIGKILL", id="kill on one node"),
        pytest.param(
            "torchrun", 1, "sys.exit(0)", 64, "exited with code 0 while other ranks still trained", id="leaves one node"
        ),
        pytest.param("direct", 2, "os.kill(os.getpid(), 9)", 64, "was killed by SIGKILL", id="direct, kill"),
        pytest.param("direct", 1, "raise ValueError('x')", 1, "raised ValueError: x", id="direct, exception"),
        pytest.param("direct", 1, "sys.exit(0)", 64, "exited with code 0 while other", id="direct, leaves"),
    ],
)
def test_the_rank_that_failed_is_blamed_not_the_one_that_waited(
    tmp_path: Path, launcher: str, nnodes: int, ending: str, code: int, said: str
) -> None:
    """Rank 1 fails while rank 0 sits in all_reduce and raises gloo's error first or second."""
    options = {"launcher": launcher, "nproc_per_node": str(2 // nnodes), "torch": ""}
    with workers.Gang(tmp_path, DDP, "env", ending, nnodes=nnodes, **options).start() as gang:
        assert [code, 79][:nnodes] == gang.wait()
    assert (1, True) == (gang.pods[0].cause["rank"], said in str(gang.pods[0].cause["message"])), gang.pods[0].log


WRAPPED = """
import os, sys
import torch
import torch.distributed as dist

class StepError(Exception):
    pass

def fit(depth):
    if depth:
        return fit(depth - 1)
    try:
        dist.all_reduce(torch.ones(1))
    except RuntimeError as error:
        exec(sys.argv[1])

dist.init_process_group("gloo")
dist.barrier()
if dist.get_rank() == 1:
    sys.exit(0)
fit(60)
"""


@pytest.mark.parametrize(
    ("launcher", "ending"),
    [
        ("direct", "raise StepError('step failed') from error"),
        ("direct", "os._exit(1)"),
        ("torchrun", "raise StepError('step failed')"),
        ("torchrun", "sys.exit(3)"),
    ],
)
def test_a_wrapped_consequence_does_not_hide_who_left(tmp_path: Path, launcher: str, ending: str) -> None:
    """Rank 1 leaves; what rank 0 makes of gloo's error is no cause, however deep it was raised."""
    options = {"launcher": launcher, "nproc_per_node": "2", "torch": ""}
    with workers.Gang(tmp_path, WRAPPED, ending, nnodes=1, **options).start() as gang:
        assert [64] == gang.wait()
    said = "rank 1 (pod digits-0, node node-a) exited with code 0 while other ranks still trained"
    assert said == gang.pods[0].cause["message"], gang.pods[0].log


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


LOADER = """
import os, sys
import torch
import torch.distributed as dist
import torch.multiprocessing
from torch.utils.data import DataLoader, Dataset

class Squares(Dataset):
    def __len__(self):
        return 100_000
    def __getitem__(self, index):
        if index < 4:
            note(os.getpid())
        return torch.full((1000,), float(index))

def note(pid):
    with open(os.path.join(sys.argv[1], str(pid)), "w"):
        pass

if __name__ == "__main__":
    torch.multiprocessing.set_sharing_strategy("file_system")
    dist.init_process_group("gloo")
    rank, attempt = dist.get_rank(), os.environ["K8SDDP_ATTEMPT"]
    note(os.getpid())
    if rank == 0:  # a worker that ends at once; rank 1's have cleaners of their own, which are their children
        next(iter(DataLoader(Squares(), batch_size=2, num_workers=1, prefetch_factor=8)))
    for step, batch in enumerate(DataLoader(Squares(), batch_size=2, num_workers=2, prefetch_factor=8)):
        dist.all_reduce(batch)
        if step == 20:
            break
        if step == 10 and attempt == "0" and rank == 1:
            os.kill(os.getpid(), 9)
    print("finished in attempt", attempt)
    dist.destroy_process_group()
"""


def test_loader_workers_and_their_segments_go_with_the_attempt(tmp_path: Path) -> None:
    """A rank with two DataLoader workers is killed: no process and no shared memory of any of them is left."""
    (tmp_path / "pids").mkdir()
    options = {"nproc_per_node": "2", "max_attempts": "2", "torch": ""}
    with workers.Gang(tmp_path, LOADER, str(tmp_path / "pids"), **options).start() as gang:
        assert [0] == gang.wait()
    assert 2 == gang.pods[0].log.count("finished in attempt 1")
    pids = {path.name for path in (tmp_path / "pids").iterdir()}
    assert len(pids) >= 8
    left = [path.name for path in Path("/dev/shm").iterdir() if path.name.startswith("torch_")]
    assert [] == [name for name in left if name.split("_")[1] in pids]
    assert "[k8sddp] removed what the ranks left in shared memory: /dev/shm/torch_" in gang.pods[0].log
