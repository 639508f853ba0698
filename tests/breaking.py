"""A training script that breaks itself, and what is to be said about it: the faults that a gang must survive.

`train.py FAULT VICTIM`: both ranks train ten steps; after the sixth one of attempt 0 the rank VICTIM does what FAULT
says. `train.py hold SECONDS [ATTEMPTS]` breaks nothing: attempt 0, or the first ATTEMPTS, train on for that long, and
say so, while a test does something to them from outside. Shared by the tests of local runs and of the real cluster.
"""

SCRIPT = """
import ctypes, os, sys, time, torch, torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

def parent(pid):
    return int(open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[1])

def kill_pod():
    pid = os.getpid()
    while "k8sddp.worker" not in (line := open(f"/proc/{pid}/cmdline").read()) and "worker.pyz" not in line:
        pid = parent(pid)
    os.kill(pid, 9)

def fail():
    raise ValueError("batch 5 is empty")

def hoard():
    kept = []
    while True:
        kept.append(b"x" * (1 << 24))

FAULTS = {
    "raise": fail,
    "kill": lambda: os.kill(os.getpid(), 9),
    "segfault": lambda: ctypes.string_at(0),
    "launcher": lambda: os.kill(os.getppid(), 9),
    "pod": kill_pod,
    "leave": lambda: os._exit(0),
    "hoard": hoard,
}
fault, number = sys.argv[1], int(sys.argv[2])
dist.init_process_group("gloo")
rank, attempt = dist.get_rank(), int(os.environ["K8SDDP_ATTEMPT"])
pause = 0.1 if fault == "hold" and attempt < int([*sys.argv, 1][3]) else 0.0
model = DistributedDataParallel(torch.nn.Linear(8, 8))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(number * 10 if pause else 10):
    optimizer.zero_grad()
    model(torch.randn(4, 8)).sum().backward()
    optimizer.step()
    time.sleep(pause)
    if step == 5 and pause:
        print("training on in attempt", attempt)
    elif step == 5 and attempt == 0 and rank == number and fault in FAULTS:
        FAULTS[fault]()
        time.sleep(60)
print("finished in attempt", attempt)
dist.destroy_process_group()
"""

# What is said of rank 1, by fault, after "rank 1 (pod ..., node ...) "; torchrun itself for the last
RAISED = "raised ValueError: batch 5 is empty"
KILLED = "was killed by SIGKILL"
SEGFAULT = "was killed by SIGSEGV"
LEFT_EARLY = "exited with code 0 while other ranks still trained"
LOST = "its pod was lost without a word, or its network"
