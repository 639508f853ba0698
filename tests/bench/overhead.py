"""What our part of an undisturbed run costs: memory of the worker, steps per second, and microseconds in the hooks.

The steps of `run --local` (launcher torchrun) stand beside two plain static torchruns of the same script. Both run in
one round, their order turned round from one to the next (ABBA), so that whatever else the machine does falls on both.
That difference holds everything of ours together, the workers' own CPU time included; noise of a shared machine is
wider than the promise, so the interval is given, and the hooks are timed by themselves as well. No GPU is used.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

from k8sddp.worker import main
from tests.bench import launching, measuring

STEPS, WARM_UP = 600, 60
# Writes seconds per step, over STEPS steps of one rank. One thread; a step takes some 5 to 10 ms.
SCRIPT = f"""
import os, sys, time, torch, torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
dist.init_process_group("gloo")
torch.manual_seed(0)
layers = [torch.nn.Linear(256, 256) for _ in range(6)]
model = DistributedDataParallel(torch.nn.Sequential(*layers))
optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
batch = torch.randn(128, 256)
for step in range({WARM_UP + STEPS}):
    if step == {WARM_UP}:
        dist.barrier()
        started = time.perf_counter()
    optimizer.zero_grad()
    model(batch).square().mean().backward()
    optimizer.step()
seconds = (time.perf_counter() - started) / {STEPS}
with open(os.path.join(sys.argv[1], os.environ["RANK"]), "w") as file:
    file.write(repr(seconds))
dist.barrier()
dist.destroy_process_group()
"""
# One process: times what a step of DDP enters with our hooks and without; prints the rounds' differences, microseconds
# of its main thread's CPU time: what else the machine does would be counted several times over.
HOOKS = """
import json, os, sys, time
sys.path.insert(0, sys.argv[1])
import k8sddp_page
os.truncate(os.open(sys.argv[2], os.O_RDWR | os.O_CREAT), k8sddp_page.SIZE)
k8sddp_page.counter.start(sys.argv[2])
import torch, torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, TensorDataset, dataloader
dist.init_process_group("gloo", init_method="file://" + sys.argv[2] + ".store", rank=0, world_size=1)
torch.set_num_threads(1)
model = DistributedDataParallel(torch.nn.Linear(1, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
loss = torch.zeros(1)
batches = iter(DataLoader(TensorDataset(torch.zeros(10**6, 1))))

def step():
    batch, = next(batches)
    model(batch).sum().backward()
    dist.all_reduce(loss)
    optimizer.step()

def microseconds(count):
    started = time.thread_time()
    for _ in range(count):
        step()
    return (time.thread_time() - started) / count * 1e6

places = [
    (dataloader._BaseDataLoaderIter, "__next__"),
    (DistributedDataParallel, "forward"),
    (torch.autograd, "_engine_run_backward"),
    (dist, "all_reduce"),
    (dist.Work, "wait"),
]
ours = [getattr(*place) for place in places]
handles = sys.modules["torch.optim.optimizer"]._global_optimizer_post_hooks
kept = dict(handles)

def switch(on):
    for (owner, name), function in zip(places, ours):
        setattr(owner, name, function if on else function.__wrapped__)
    handles.clear()
    handles.update(kept if on else {})

differences = []
microseconds(200)
for number in range(121):
    order = (True, False) if number % 2 else (False, True)
    found = {}
    for on in order:
        switch(on)
        found[on] = microseconds(200)
    differences.append(found[True] - found[False])
print(json.dumps(differences[1:]))
os._exit(0)
"""
JOB = """
apiVersion: k8sddp.dev/v1alpha1
kind: DDPJob
metadata: {name: overhead}
spec:
  image: none
  command: [train.py, %s]
  code: {path: .}
  nnodes: 2
  backend: gloo
  resources: {cpu: 1}
  rendezvous: {port: 27900}
"""
PLAIN_PORT = 27950


def seconds_per_step(commands: Sequence[Sequence[str]], marks: Path) -> float:
    """Run the commands together; return the mean of the ranks' seconds per step."""
    launching.timed(commands, marks)
    return statistics.mean(float(mark.read_text()) for mark in marks.iterdir())


def resident_of_workers(command: Sequence[str], mark: str) -> list[float]:
    """Return the most MB that each worker below `command` was seen with, every 0.2 s from its start to its end.

    A worker is a process whose command line names worker.pyz and, in the user's words after it, `mark`; the local
    run's keeper, whose words contain the worker's, is none.
    """
    most: dict[int, float] = {}
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.2):
            for entry in Path("/proc").iterdir():
                try:
                    words = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
                    if b"worker.pyz" not in words or b"keeper.py" in words or mark.encode() not in words:
                        continue
                    status = (entry / "status").read_text().partition("VmRSS:")[2].split()
                except OSError:
                    continue  # it has ended
                if status:
                    most[int(entry.name)] = max(most.get(int(entry.name), 0.0), int(status[0]) * 1024 / 1e6)

    watch = threading.Thread(target=look)
    watch.start()
    try:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=120)
    finally:
        over.set()
        watch.join()
    return list(most.values())


def memory(ours: Sequence[Sequence[str]], mark: str) -> dict[str, object]:
    """Return the worst worker's VmRSS in a run of two nodes."""
    resident = resident_of_workers(ours[0], mark)
    if len(resident) != 2:
        raise RuntimeError(f"{len(resident)} workers were seen, not 2")
    return {"figure": "VmRSS of a worker while it trains, most seen, MB", "worst": round(max(resident), 2), "limit": 20}


def steps(
    ours: Sequence[Sequence[str]], plain: Sequence[Sequence[str]], marks: Path, *, pairs: int
) -> dict[str, object]:
    """Return how much longer a step takes than under plain torchrun, in percent; a negative number is chance."""
    found: list[tuple[float, float]] = []
    for number in range(pairs):
        order = (ours, plain) if number % 2 else (plain, ours)
        seconds = {id(way): seconds_per_step(way, marks) for way in order}
        found.append((seconds[id(ours)], seconds[id(plain)]))
    percent = [100 * (mine / other - 1) for mine, other in found]
    return {
        "figure": "run --local, time per step beside two torchruns, percent longer",
        "difference": round(statistics.median(percent), 3),
        "interval_95": measuring.interval_95(percent),
        "limit": 0.5,
        "ours_steps_per_second": round(1 / statistics.median(mine for mine, _ in found), 1),
        "plain_steps_per_second": round(1 / statistics.median(other for _, other in found), 1),
        "n": pairs,
        "load_average": os.getloadavg()[0],
    }


def hooks(page: Path, seconds: float) -> dict[str, object]:
    """Return what our hooks add to batch, forward, backward, all_reduce and step, beside `seconds` of a plain step.

    Each step drives our code out of the caches again, so this is several times what tests/unit/worker/test_rank_page.py
    finds in a loop of nothing else, the more so the busier the machine is.
    """
    argv = [sys.executable, "-c", HOOKS, main.instrument_dir(), str(page)]
    environ = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(argv, check=True, stdout=subprocess.PIPE, env=environ, timeout=300)
    differences = json.loads(done.stdout)
    return {
        "figure": "our hooks in DataLoader, DDP, autograd, all_reduce and optimizer, us per step",
        "difference": round(statistics.median(differences), 3),
        "interval_95": measuring.interval_95(differences),
        "percent_of_step": round(statistics.median(differences) / seconds / 1e4, 4),
        "percent_of_10_ms": round(statistics.median(differences) / 100, 4),
        "limit_of_10_ms": 0.05,
        "load_average": os.getloadavg()[0],
        "n": len(differences),
    }


def figures(*, pairs: int = 9) -> list[dict[str, object]]:
    """Return the three figures."""
    launching.CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=launching.CACHE) as folder:
        root = Path(folder)
        marks, code = root / "marks", root / "code"
        marks.mkdir()
        code.mkdir()
        script, job = code / "train.py", code / "job.yaml"
        script.write_text(SCRIPT)
        job.write_text(JOB % json.dumps(str(marks)))
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1"]
        torchrun += ["--master-addr", "127.0.0.1", "--master-port", str(PLAIN_PORT)]
        plain = [[*torchrun, "--node-rank", str(node), str(script), str(marks)] for node in range(2)]
        k8sddp = str(Path(sys.executable).with_name("k8sddp"))
        ours = [[k8sddp, "run", "--local", str(job), "--work-dir", str(root / "work")]]
        seconds_per_step(plain, marks)  # thrown away
        resident = memory(ours, str(marks))
        compared = steps(ours, plain, marks, pairs=pairs)
        return [resident, compared, hooks(root / "page", 1 / float(str(compared["plain_steps_per_second"])))]
