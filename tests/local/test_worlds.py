"""Which group formed, and who is which rank of it: real worker processes and real torch, however the ranks are started.

The scripts are of the kinds that were seen to train on in silence, or to name the wrong rank.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.unit.worker import workers

pytest.importorskip("torch", reason="torch is not installed: pip install 'k8sddp[torch]'")
pytestmark = [pytest.mark.torch, pytest.mark.timeout(240)]


def start(tmp_path: Path, script: str, *args: str, launcher: str = "spawn", nproc: int = 2) -> workers.Gang:
    """Start two nodes."""
    options = {"launcher": launcher, "nproc_per_node": str(nproc), "torch": ""}
    return workers.Gang(tmp_path, script, *args, nnodes=2, **options).start()


SPAWN_AT = """
import os, sys
import torch.distributed as dist, torch.multiprocessing as mp

def work(local, nproc):
    node, nodes = int(os.environ["NODE_RANK"]), int(os.environ["NNODES"])
    rank, size, wanted = node * nproc + local, nodes * nproc, sys.argv[1]
    if wanted == "localhost":
        os.environ.update(MASTER_ADDR="localhost", MASTER_PORT=str(int(os.environ["MASTER_PORT"]) + 1 + node))
        rank, size = local, nproc
    elif wanted == "swapped":
        rank = (1 - node) * nproc + local
    elif wanted == "file":
        rank, size = local, nproc
    method = "file://" + os.environ["K8SDDP_SCRATCH_DIR"] + "/group" if wanted == "file" else "env://"
    dist.init_process_group("gloo", init_method=method, rank=rank, world_size=size)
    print("begins", flush=True)
    dist.barrier()

if __name__ == "__main__":
    nproc = int(sys.argv[2])
    mp.start_processes(work, (nproc,), nprocs=nproc, start_method=sys.argv[3])
"""


@pytest.mark.parametrize(
    ("wanted", "nproc", "method", "said"),
    [
        ("localhost", 2, "spawn", "group of 2, the job has 4 (2 nodes of 2 ranks): the script joins at localhost"),
        ("file", 2, "fork", "group of 2, the job has 4 (2 nodes of 2 ranks): "),
        ("more", 3, "forkserver", "group of 6, the job has 4 (2 nodes of 2 ranks): the script starts 3 ranks on each"),
        ("swapped", 2, "spawn", " joined as rank "),
    ],
)
def test_spawned_ranks_of_another_world_do_not_train(
    tmp_path: Path, wanted: str, nproc: int, method: str, said: str
) -> None:
    """However they were started: the job ends as configuration, in one sentence, and nobody has trained."""
    with start(tmp_path, SPAWN_AT, wanted, str(nproc), method) as gang:
        assert [78, 79] == gang.wait()
    logs = [pod.log for pod in gang.pods]
    assert ("configuration", True) == (gang.pods[0].cause["class"], said in str(gang.pods[0].cause["message"])), logs
    assert not any("begins" in log or "Traceback" in log for log in logs), logs


ALONE = """
import os, socket
import torch.distributed as dist
def port():  # torch 2.4 takes a 0 for none
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]
ways = {
    "tcp": lambda: dist.init_process_group("gloo", init_method="tcp://127.0.0.1:%d" % port(), rank=0, world_size=1),
    "store": lambda: dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1),
    "env": lambda: (os.environ.update(WORLD_SIZE="1", RANK="0", MASTER_PORT="0"), dist.init_process_group("gloo")),
    "mesh": lambda: (os.environ.update(WORLD_SIZE="1", RANK="0", MASTER_PORT="0"), mesh("cpu", (1,))),
    "again": lambda: (dist.init_process_group("gloo"), dist.destroy_process_group(), ways["store"]()),
}
from torch.distributed.device_mesh import init_device_mesh as mesh
import sys
ways[sys.argv[1]]()
print("begins", flush=True)
"""


@pytest.mark.parametrize(
    ("launcher", "way"),
    # not torchrun with tcp: in torch 2.4 every rank waits there for the store of the agent, at whatever port
    [("direct", "tcp"), ("torchrun", "again"), ("torchrun", "store"), ("direct", "env"), ("direct", "mesh")],
)
def test_ranks_that_join_alone_do_not_train(tmp_path: Path, launcher: str, way: str) -> None:
    """By whatever init, the second one included."""
    with start(tmp_path, ALONE, way, launcher=launcher, nproc=1) as gang:
        assert [78, 79] == gang.wait()
    assert "the ranks formed a group of 1, the job has 2 (2 nodes of 1 rank): " in str(gang.pods[0].cause["message"])
    assert "begins" not in gang.pods[0].log + gang.pods[1].log


HELPERS = """
import os, subprocess, sys
import torch
import torch.distributed as dist
from torch.utils.data import DataLoader

class Alone:
    def __len__(self):
        return 4
    def __getitem__(self, index):
        if not dist.is_initialized() or dist.get_world_size() > 1:
            dist.distributed_c10d.GroupMember.WORLD = None
            dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
        return index

WORDS = "import torch.distributed as d; d.init_process_group('gloo', store=d.HashStore(), rank=0, world_size=1)"
if __name__ == "__main__":
    dist.init_process_group("gloo")
    dist.new_group([0])
    subprocess.run([sys.executable, "-c", WORDS], check=True)
    subprocess.run([sys.executable, "-c", WORDS + "; raise ValueError('a helper')"])
    for method in ("fork", "spawn"):
        print(method, len(list(DataLoader(Alone(), num_workers=1, multiprocessing_context=method))), flush=True)
    dist.barrier()
    print("world", dist.get_world_size(), "rank", dist.get_rank(), flush=True)
    dist.destroy_process_group()
"""


def test_what_a_ranks_helpers_form_is_their_business(tmp_path: Path) -> None:
    """Subgroups, subprocesses and DataLoader workers with groups of their own: the job completes, without a remark."""
    with start(tmp_path, HELPERS, launcher="torchrun", nproc=1) as gang:
        assert [0, 0] == gang.wait(), [pod.log for pod in gang.pods]
    assert [] == gang.pods[0].verdict["remarks"]
    for rank, pod in enumerate(gang.pods):
        assert f"[rank {rank}] world 2 rank {rank}\n" in pod.log
        assert {str(rank)} == set(re.findall(r"^\[rank (\d+)\]", pod.log, re.MULTILINE))


ITSELF = """
import os, signal, subprocess, sys, time
import torch.distributed as dist
order, ending = sys.argv[1], sys.argv[2]
nproc, node, nnodes = (int(os.environ[name]) for name in ("LOCAL_WORLD_SIZE", "NODE_RANK", "NNODES"))

def others():
    for local in range(1, nproc):
        subprocess.Popen([sys.executable, *sys.argv], env={**os.environ, "LOCAL_RANK": str(local)})

def join():
    rank = node * nproc + int(os.environ.get("LOCAL_RANK", 0))
    if ending == "early" and rank == 3:
        raise KeyError("early")
    dist.init_process_group("gloo", rank=rank, world_size=nnodes * nproc)
    return rank

first = "LOCAL_RANK" not in os.environ
print("before", flush=True)
if first and order == "others first":
    others()
elif first:
    os.environ["LOCAL_RANK"] = "0"
    others()
rank = join()
print("I am rank", rank, flush=True)
if rank == 3:
    if ending == "raise":
        raise ValueError("raised by rank 3")
    if ending == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if ending == "exit":
        os._exit(7)
if ending == "slow" and not first:
    dist.barrier()
    time.sleep(1.0)
    print("saved", rank, flush=True)
else:
    dist.barrier()
dist.destroy_process_group()
"""


@pytest.mark.parametrize(
    ("order", "ending", "code", "said"),
    [
        ("others first", "raise", 1, "raised ValueError: raised by rank 3"),
        ("others first", "kill", 64, "was killed by SIGKILL"),
        ("LOCAL_RANK set", "exit", 7, "exited with code 7"),
        ("others first", "early", 1, "raised KeyError: 'early'"),
    ],
)
def test_a_script_that_starts_itself_again_has_the_right_ranks(
    tmp_path: Path, order: str, ending: str, code: int, said: str
) -> None:
    """As Lightning does: rank 3 is a subprocess of the script on node 1, and fails before or after it has joined."""
    with start(tmp_path, ITSELF, order, ending) as gang:
        assert [code, 79] == gang.wait(), [pod.log for pod in gang.pods]
    cause = gang.pods[0].cause
    assert (3, 1, True) == (cause["rank"], cause["node_rank"], said in str(cause["message"])), gang.pods[1].log


def test_ranks_that_outlive_their_script_may_save(tmp_path: Path) -> None:
    """It has started itself again and does not wait; every rank's lines are its own, what came before the node's."""
    with start(tmp_path, ITSELF, "others first", "slow") as gang:
        assert [0, 0] == gang.wait(), [pod.log for pod in gang.pods]
    for node, pod in enumerate(gang.pods):
        for rank in (2 * node, 2 * node + 1):
            assert f"[rank {rank}] I am rank {rank}\n" in pod.log
        assert 2 == pod.log.count(f"[node {node}] before\n")
        assert f"[rank {2 * node + 1}] saved {2 * node + 1}\n" in pod.log
    assert [] == gang.pods[0].verdict["remarks"]


POOLS = """
import os, sys
import torch.distributed as dist, torch.multiprocessing as mp

def work(local, phase, port):
    rank = int(os.environ["NODE_RANK"]) * 2 + local
    address = "tcp://%s:%d" % (os.environ["MASTER_ADDR"], port)
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=4)
    dist.barrier()
    if (phase, rank) == ("test", 2):
        exec(sys.argv[1])
    dist.barrier()
    print(phase, rank, flush=True)
    dist.destroy_process_group()

if __name__ == "__main__":
    port = int(os.environ["MASTER_PORT"])
    mp.spawn(work, ("fit", port), nprocs=2)
    print("between", flush=True)
    mp.spawn(work, ("test", port + 1), nprocs=2)
"""


@pytest.mark.parametrize(
    ("ending", "code", "said"),
    [
        ("raise ValueError('second pool')", 1, "raised ValueError: second pool"),
        ("os._exit(0)", 64, "exited with code 0 while other ranks still trained"),
        ("pass", 0, ""),
    ],
    ids=["raise", "early", "complete"],
)
def test_a_second_pool_of_ranks_is_judged_by_itself(tmp_path: Path, ending: str, code: int, said: str) -> None:
    """Fit, then test: the ranks of the first pool ended well, and have left nothing early."""
    with start(tmp_path, POOLS, ending) as gang:
        assert [code, 79 if code else 0] == gang.wait(), [pod.log for pod in gang.pods]
    if code:
        cause = gang.pods[0].cause
        assert (2, True) == (cause["rank"], said in str(cause["message"])), gang.pods[1].log
    else:
        assert all(f"[rank {rank}] test {rank}\n" in gang.pods[rank // 2].log for rank in range(4))


STEPS = """
import os, subprocess, sys
import torch
import torch.distributed as dist
nproc, node, nnodes = (int(os.environ[name]) for name in ("LOCAL_WORLD_SIZE", "NODE_RANK", "NNODES"))
if "LOCAL_RANK" not in os.environ:
    for local in range(1, nproc):
        subprocess.Popen([sys.executable, *sys.argv], env={**os.environ, "LOCAL_RANK": str(local)})
rank = node * nproc + int(os.environ.get("LOCAL_RANK", 0))
dist.init_process_group("gloo", rank=rank, world_size=nnodes * nproc)
weight = torch.nn.Parameter(torch.zeros(1))
optimizer = torch.optim.SGD([weight], lr=0.1)
for step in range(5):
    weight.grad = torch.ones(1)
    dist.all_reduce(weight.grad)
    optimizer.step()
dist.barrier()
"""


def test_a_fault_and_the_steps_are_those_of_the_rank_that_formed(tmp_path: Path) -> None:
    """`--fault` names rank 3, which is a subprocess of node 1's script."""
    options = {"launcher": "spawn", "nproc_per_node": "2", "torch": "", "faults": "exit rank=3 step=2 code=9 attempt=0"}
    with workers.Gang(tmp_path, STEPS, nnodes=2, **options).start() as gang:
        assert [9, 79] == gang.wait(), [pod.log for pod in gang.pods]
    assert (3, 2) == (gang.pods[0].cause["rank"], gang.pods[0].cause["last_step"])
    assert "[rank 3] fault injected: exit rank=3" in gang.pods[1].log
