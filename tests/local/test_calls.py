"""What a rank is inside, as torch's own entry points tell the page: counted, named, timed, and in nobody's way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from k8sddp.worker import main
from k8sddp.worker.gang import progress
from k8sddp.worker.ranks import rank_page

pytest.importorskip("torch", reason="torch is not installed: pip install 'k8sddp[torch]'")
pytestmark = pytest.mark.torch

# Two ranks: the first has a page, the second is a process that it has forked and counts nothing
SCRIPT = """
import json, os, sys, threading, time, warnings
sys.path.insert(0, sys.argv[1])
import k8sddp_hooks, k8sddp_page
from k8sddp_words import *
counter = k8sddp_page.counter
counter.start(sys.argv[2])
k8sddp_hooks.watch_group()
import torch, torch.distributed as dist
from torch.distributed import distributed_c10d as c10d
from torch.nn.parallel import DistributedDataParallel as DDP
from torch.utils.data import DataLoader
asked, answer = os.pipe()
rank = 1 if os.fork() == 0 else 0
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method="file://" + sys.argv[2] + ".store", rank=rank, world_size=2)
page = counter.page
x = torch.ones(4)

def inside(thread, name):
    frame = sys._current_frames().get(thread.ident)
    while frame is not None and frame.f_code.co_name != name:
        frame = frame.f_back
    return frame is not None

def late(first, second=None):
    # lets rank 1 come only when rank 0 waits, which prints what it waits in
    if rank:
        os.read(asked, 1)
        return (second or first)()
    def look():
        while not page[COLLECTIVE] and page[BACKWARD_ENTERED] == page[BACKWARD_LEFT]:
            time.sleep(0.001)
        print(json.dumps([CALLS[page[COLLECTIVE]], page[BACKWARD_ENTERED] - page[BACKWARD_LEFT]]))
        os.write(answer, b"x")
    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        return first()
    finally:
        watcher.join()

"""


def ran(folder: Path, text: str) -> tuple[progress.Rank, str]:
    """Return what the page of the first of two ranks says at their end, and what that rank has printed."""
    page = folder / "page"
    fd = rank_page.create(str(page))
    ending = "\ndist.barrier()\nif rank:\n    os._exit(0)\nos.wait()\nos._exit(0)"
    argv = [sys.executable, "-c", SCRIPT + text + ending, main.instrument_dir(), str(page)]
    environ = {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    done = subprocess.run(argv, check=True, timeout=100, env=environ, stdout=subprocess.PIPE, text=True)
    found = rank_page.read(fd, 0, now=0.0)
    os.close(fd)
    return found, done.stdout


def test_one_step_of_ddp(tmp_path: Path) -> None:
    """Each thing once a step, and the rank is outside of all at the end; the second step's own time is the first."""
    found, _ = ran(
        tmp_path,
        """
model = DDP(torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.BatchNorm1d(4)))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for batch in DataLoader(torch.ones(6, 4), batch_size=2):
    model(batch).sum().backward()
    optimizer.step()
""",
    )
    assert (3, 3, 3) == (found.step, found.forward_left, found.backward_left)
    assert (3, 3, 4, 4) == (found.forward_entered, found.backward_entered, found.batches_asked, found.batches_got)
    assert ("", None, "between", 2) == (found.collective, found.waiting, found.phase, found.own_steps)
    assert 1 + 3 + 1 == found.collectives  # the constructor, the buffers of each forward, the barrier
    assert 0 < found.own_time


def test_what_a_rank_waits_in_has_its_name(tmp_path: Path) -> None:
    """The outermost call, what async_op=True returns, DDP's constructor, and backward; a call that fails is left."""
    _, said = ran(
        tmp_path,
        """
late(lambda: dist.all_reduce(x))
late(lambda: dist.barrier())
late(lambda: dist.all_gather_object([None, None], "a"))
work = None if rank else dist.all_reduce(x, async_op=True)
assert rank or page[SINCE] == 0
late(lambda: (work or dist).wait() if work else dist.all_reduce(x))
late(lambda: dist.recv(x, 1), lambda: dist.send(x, 0))
model = late(lambda: DDP(torch.nn.Linear(4, 1)))
loss = model(x).sum()
late(loss.backward)
try:
    dist.all_reduce("no tensor")
except TypeError:
    assert rank or page[SINCE] == page[COLLECTIVE] == 0
""",
    )
    names = ["all_reduce", "barrier", "all_gather_object", "Work.wait", "recv", "DistributedDataParallel"]
    assert [[name, 0] for name in names] + [["", 1]] == [json.loads(line) for line in said.splitlines()]


def test_another_thread_is_not_where_the_training_is(tmp_path: Path) -> None:
    """A collective that waits in a background thread, as a checkpoint's does, is nothing that the rank is inside."""
    _, said = ran(
        tmp_path,
        """
other = dist.new_group()
if rank:
    os.read(asked, 1)
    dist.barrier(other)
else:
    before = page[COLLECTIVES]
    thread = threading.Thread(target=dist.barrier, args=(other,))
    thread.start()
    while not inside(thread, "barrier"):
        time.sleep(0.001)
    print(json.dumps([page[COLLECTIVES] - before, page[SINCE], thread.is_alive()]))
    os.write(answer, b"x")
    thread.join()
""",
    )
    assert [0, 0, True] == json.loads(said)


def test_own_time_is_without_the_waiting(tmp_path: Path) -> None:
    """A rank that works 0.1 s itself, and then waits for one that needs 3 s, has not made a step of 3 s."""
    found, _ = ran(
        tmp_path,
        """
model = DDP(torch.nn.Linear(4, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for pause in ((0.1, 3)[rank], 0):
    model(x).sum().backward()
    optimizer.step()
    time.sleep(pause)
    dist.all_reduce(x)
""",
    )
    assert (1, True) == (found.own_steps, 0.1 <= found.own_time < 1.5), found.own_time


def test_the_functions_are_what_they_were(tmp_path: Path) -> None:
    """The same in both modules, with their signatures, known to P2POp by identity, and TorchScript is not touched."""
    _, said = ran(
        tmp_path,
        """
import inspect
assert all(getattr(dist, name, None) is getattr(c10d, name, None) for name in FUNCTIONS if name in c10d.__all__)
assert torch.autograd._engine_run_backward is torch.autograd.graph._engine_run_backward
assert "async_op" in inspect.signature(dist.all_reduce).parameters
assert "bucket_cap_mb" in inspect.signature(DDP.__init__).parameters
operation = dist.P2POp(dist.irecv if rank else dist.isend, x, 1 - rank)
for work in dist.batch_isend_irecv([operation]):
    work.wait()
scripted = torch.jit.script(torch.nn.Linear(4, 1))
scripted(x).sum().backward()
class Work(dist.Work):  # pybind11 looks for a method of Python's in such a class
    pass
import datetime
try:
    Work().wait(datetime.timedelta(milliseconds=50))
except RuntimeError as error:
    print(error)
""",
    )
    assert "timed out" in said


COMPILED = """
import sys
if len(sys.argv) > 2:
    sys.path.insert(0, sys.argv[1])
    import k8sddp_page
    k8sddp_page.counter.start(sys.argv[2])
import json, torch, torch.distributed as dist
from torch._dynamo.testing import CompileCounter
from torch._dynamo.utils import counters
dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
torch.set_num_threads(1)
found = {}
x = torch.ones(4)

def count(function, **options):
    torch._dynamo.reset()
    counters.clear()
    counter = CompileCounter()
    compiled = torch.compile(function, backend=counter, **options)
    for _ in range(3):
        compiled(x)
    breaks = sum(counters["graph_break"].values())
    found[len(found)] = counter.frame_count, counter.op_count, counters["frames"]["total"], breaks

def reduce(t):
    t = t * 2
    dist.all_reduce(t)
    return t + 1

def meet(t):
    t = t * 2
    dist.barrier()
    return t + 1

def wait(t):
    dist.all_reduce(t, async_op=True).wait()
    return t + 1

def train(t):
    loss = model(t).sum()
    loss.backward()
    optimizer.step()
    return loss

model = torch.nn.parallel.DistributedDataParallel(torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.ReLU()))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
count(reduce, fullgraph=True)
assert torch.equal(torch.compile(reduce, backend="eager")(x), torch.full((4,), 3.0))
for function in meet, wait, model, train:
    count(function)
print(json.dumps(found), flush=True)
import os
os._exit(0)
"""


@pytest.mark.timeout(400)
def test_torch_compile_sees_the_same(tmp_path: Path) -> None:
    """The same graphs, operations, frames and breaks with our hooks as without, and a collective in one full graph."""
    page = tmp_path / "page"
    fd = rank_page.create(str(page))
    said = []
    for words in ([], [main.instrument_dir(), str(page)]):
        argv = [sys.executable, "-W", "ignore", "-c", COMPILED, *words]
        done = subprocess.run(argv, check=True, timeout=180, stdout=subprocess.PIPE, text=True)
        said.append(json.loads(done.stdout))
    assert said[0] == said[1]
    assert (6, 6) == (rank_page.read(fd, 0, now=0.0).forward_entered, rank_page.read(fd, 0, now=0.0).forward_left)
    os.close(fd)
