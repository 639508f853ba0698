"""The stacks of a real gang: two nodes of eight ranks under DDP, each stuck in its own way, all seen in moments."""

from __future__ import annotations

import importlib.util
import json
import signal
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from k8sddp.worker.contract import stacks
from k8sddp.worker.contract.stacks import RankStack
from tests.local import pods
from tests.unit.worker import workers

pytestmark = [
    pytest.mark.torch,
    pytest.mark.timeout(300),
    pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="needs torch: pip install 'k8sddp[torch]'"),
]

# torch is imported once for each node, and its eight ranks are forked, as torch.multiprocessing can do it
TRAIN = """
import ctypes, os, signal, time
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn.parallel import DistributedDataParallel as DDP

NPROC = int(os.environ["LOCAL_WORLD_SIZE"])

def python_loop():
    print("up", flush=True)
    while True:
        pass

def asleep():
    print("up", flush=True)
    while True:
        time.sleep(100)

def holding_the_gil():
    sleep = ctypes.PyDLL(None).sleep
    print("up", flush=True)
    while True:
        sleep(100)

def stopped():
    print("up", flush=True)
    os.kill(os.getpid(), signal.SIGSTOP)

def barrier():
    print("up", flush=True)
    dist.barrier()

STUCK = {1: python_loop, 4: asleep, 9: holding_the_gil, 11: stopped, 14: barrier}

def train(local_rank):
    rank = int(os.environ["NODE_RANK"]) * NPROC + local_rank
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=int(os.environ["NNODES"]) * NPROC,
        init_method="tcp://%(MASTER_ADDR)s:%(MASTER_PORT)s" % os.environ)
    model = DDP(torch.nn.Linear(4, 1))
    for step in range(3):
        loss = model(torch.randn(8, 4)).mean()
        if step == 2:
            STUCK.get(rank, lambda: print("up", flush=True))()
        loss.backward()

if __name__ == "__main__":
    mp.start_processes(train, nprocs=NPROC, start_method="fork")
"""
STUCK = {1: "python_loop", 4: "asleep", 9: "holding_the_gil", 14: "barrier"}


def look(gang: workers.Gang) -> Mapping[int, RankStack]:
    """Return what all ranks do."""
    answers = [gang.get("/stacks?format=json", node, timeout=60) for node in range(2)]
    records = [record for _, answer in answers for record in json.loads(answer)["stacks"]]
    return {one.rank: one for one in map(stacks.from_record, records) if one}


def test_sixteen_ranks_are_seen_in_moments_whatever_they_do(tmp_path: Path) -> None:
    """In Python, asleep, with the GIL held, stopped, in a collective and in a backward; and none is harmed by it."""
    options = {"nproc_per_node": "8", "launcher": "spawn", "torch": "", "omp_num_threads": "1"}
    with workers.Gang(tmp_path, TRAIN, nnodes=2, **options).start(GLOO_SOCKET_IFNAME="lo") as gang:
        pods.until(lambda: all(f"[rank {rank}] up" in gang.pods[rank // 8].log for rank in range(16)), seconds=200)
        pods.until(lambda: 12 == sum(one.waits for one in look(gang).values()), seconds=60)
        took = []
        for _ in range(5):
            started = time.monotonic()
            seen = look(gang)
            took.append(time.monotonic() - started)
        print("two nodes one after the other:", ", ".join(f"{one:.2f} s" for one in sorted(took)))
        assert min(took) < 20
        assert list(range(16)) == sorted(seen)
        assert {11: "is stopped"} == {rank: one.problem for rank, one in seen.items() if one.problem}
        named = {rank: one.user_frame.function for rank, one in seen.items() if one.user_frame and not one.waits}
        assert {rank: name for rank, name in STUCK.items() if name != "barrier"} == named
        assert {"barrier"} == {one.user_frame.function for one in [seen[14]] if one.user_frame}
        backward = [one for rank, one in seen.items() if rank not in STUCK and rank != 11]
        assert {("train", "_engine_run_backward")} == {
            (one.user_frame.function, one.frames[0].function) for one in backward if one.user_frame
        }
        assert 11 == len(backward)
        assert 1 == len({one.signature for one in backward})
        for pod in gang.pods:
            pod.send(signal.SIGTERM)
            pod.send(signal.SIGTERM)
        gang.wait()
