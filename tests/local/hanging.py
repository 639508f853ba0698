"""Scripts that hang, or seem to, for real worker processes with torch and gloo, and what was said of them when."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tests.unit.worker import workers

LIMIT = 5  # restart.hangTimeout, seconds
PATIENCE = 200.0  # seconds; only reached by a test that fails

# read(2) goes on after a signal, sleep(3) does not.
# Rank 1 does what the first argument says when it has made two steps; the other ranks go on.
SCRIPT = """
import ctypes, os, signal, sys, time
import torch, torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset

torch.set_num_threads(1)
KIND = sys.argv[1]
FIRST = os.environ["K8SDDP_ATTEMPT"] == "0"

def stop():
    os.kill(os.getpid(), signal.SIGSTOP)

def loop():
    while True: pass

def sleep():
    time.sleep(1e6)

def gil():
    ends = os.pipe()
    ctypes.PyDLL(None).read(ends[0], bytes(1), 1)

def mismatch():
    dist.barrier()

def work(seconds):
    end, batch = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        batch += 1
        evaluate(batch % 60)

def evaluate(depth):
    time.sleep(0.003)
    if depth:
        evaluate(depth - 1)

def save(seconds):
    with open(os.path.join(os.environ["K8SDDP_SCRATCH_DIR"], "model"), "wb", buffering=0) as file:
        end = time.monotonic() + seconds
        while time.monotonic() < end: file.write(bytes(8192)); time.sleep(0.05)

class Data(Dataset):
    def __init__(self, rank):
        self.stuck = KIND == "loader" and rank == 1 and FIRST

    def __len__(self):
        return 16

    def __getitem__(self, index):
        if index == 4 and self.stuck:
            print("hangs now", flush=True)
            time.sleep(1000000)
        if index == 4 and KIND == "loader-of-all":
            time.sleep(9)
        return torch.ones(4)

def slow(graph, inputs):
    time.sleep(9)
    return graph.forward

def train(rank):
    dist.init_process_group("gloo", rank=rank, world_size=int(os.environ["WORLD_SIZE"]))
    model = DistributedDataParallel(torch.nn.Linear(4, 1))
    net = torch.compile(model, backend=slow) if KIND == "compile" else model
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    if KIND == "first-batch":
        time.sleep(9)
    for step, batch in enumerate(DataLoader(Data(rank), batch_size=2, num_workers=1)):
        if step == 2 and rank == 1 and FIRST:
            print("hangs now", flush=True)
            action = globals().get(KIND)
            if KIND in ("stop", "loop", "sleep", "gil", "mismatch"): action()
            elif KIND in ("work", "save"): action(float(sys.argv[2]))
        if KIND == "steady" and FIRST:
            steady(model)
        if step in (3, 6) and KIND == "pauses":
            if rank == 0:
                work(3)  # less than the limit, and the others wait
            dist.barrier()
        if step == 3 and KIND == "evaluation":
            evaluation(rank)
        optimizer.zero_grad()
        net(batch).sum().backward()
        optimizer.step()
    if KIND == "join":
        uneven(rank)
    if KIND == "stop" and FIRST:
        train_on(model)  # as long as it takes the test to see what is said of it
    print("done", flush=True)
    dist.destroy_process_group()

def evaluation(rank):
    flag = os.path.join(os.environ["FLAGS"], "evaluated")
    if rank == 0:
        time.sleep(9)
        open(flag, "w").close()
    while not os.path.exists(flag):
        time.sleep(0.05)

def steady(model):
    for number in range(300):
        if number == 3:
            print("trains on", flush=True)
        time.sleep(0.2)
        model(torch.ones(2, 4)).sum().backward()

def train_on(model):
    seen = torch.zeros(1)
    while not seen:
        time.sleep(0.1)
        model(torch.ones(2, 4)).sum().backward()
        seen[0] = os.path.exists(os.path.join(os.environ["FLAGS"], "seen"))
        dist.all_reduce(seen)

def uneven(rank):
    from torch.distributed.algorithms.join import Join
    model = DistributedDataParallel(torch.nn.Linear(4, 1))
    with Join([model]):
        for _ in range(5 if rank == 0 else 50):
            time.sleep(0.2)
            model(torch.ones(2, 4)).sum().backward()

def start(local):
    train(int(os.environ["NODE_RANK"]) + local)

if __name__ == "__main__":
    if os.environ["K8SDDP_LAUNCHER"] == "spawn":
        import torch.multiprocessing as mp
        mp.spawn(start, nprocs=1)
    else:
        train(int(os.environ["RANK"]))
"""


class Told(NamedTuple):
    """What was said of a hang, and how many seconds after it had begun."""

    text: str
    seconds: float


def start(folder: Path, *words: str, nnodes: int = 2, **options: str) -> workers.Gang:
    """Start a gang of one rank per node whose ranks may wait LIMIT for each other."""
    asked = {"hang_timeout": str(LIMIT), "on_hang": "fail", "launcher": "direct", "torch": "", **options}
    gang = workers.Gang(folder, SCRIPT, *words, nnodes=nnodes, **asked)
    return gang.start(FLAGS=str(folder))


def told(gang: workers.Gang, text: str, *, pod: int = 1) -> Told:
    """Wait until the hang has begun in `pod`, and then until node 0 says what holds `text`."""
    until(lambda: "hangs now" in gang.pods[pod].log, gang)
    begun = time.monotonic()
    until(lambda: text in gang.pods[0].log, gang)
    line = next(one for one in gang.pods[0].log.splitlines() if text in one)
    return Told(line, time.monotonic() - begun)


def until(condition: Callable[[], bool], gang: workers.Gang) -> None:
    """Wait for what the logs of a gang will tell."""
    end = time.monotonic() + PATIENCE
    while not condition():
        over = all(pod.process.poll() is not None for pod in gang.pods) and not condition()
        assert time.monotonic() < end and not over, "\n".join(pod.log for pod in gang.pods)
        time.sleep(0.02)


def processes_of(pod: workers.Pod) -> list[int]:
    """Return the processes of a pod, its worker the first."""
    found = [pid for pid in workers.alive(f"K8SDDP_TERMINATION_LOG={pod.folder}/") if pid != pod.process.pid]
    return [pod.process.pid, *found]


def line_of(text: str) -> int:
    """Return the number of the only line of SCRIPT with this text."""
    (number,) = [number for number, line in enumerate(SCRIPT.split("\n"), start=1) if text in line]
    return number


def said(pod: workers.Pod) -> list[str]:
    """Return what the worker of a pod has said."""
    return re.findall(r"^\[k8sddp\] (.*)$", pod.log, re.MULTILINE)


REPEATS = max(1, int(os.environ.get("K8SDDP_TEST_REPEATS", "1")))
