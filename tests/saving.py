"""A training script that saves when it is asked to stop, in the ways that a launcher can spoil.

Two ranks in each pod, with DataLoader workers. All ranks agree on the step after which they save, by what any of them
was told; the odd ones leave at once, with a code, the even ones save for two seconds more and need their DataLoader for
it. It starts its ranks itself where no launcher has. Shared by the tests of worker processes and of the real cluster.
"""

TRAINS = "five steps made"

# Attempt 0 trains until it is stopped; from attempt 1 on there is nothing left to do.
SCRIPT = """
import os, signal, sys, time
from itertools import count

def train(rank, world):
    import torch, torch.distributed as dist
    from torch.utils.data import DataLoader
    stop = []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
    dist.init_process_group("gloo", rank=rank, world_size=world)
    loader = DataLoader(list(range(64)), num_workers=1, persistent_workers=True)
    for step, _ in enumerate(batch for _ in count() for batch in loader):
        flag = torch.tensor(len(stop))
        dist.all_reduce(flag)
        if step == 5:
            print("five steps made", flush=True)
        if flag:
            break
        time.sleep(0.05)
    if rank % 2 == 0:
        time.sleep(2)
        assert 64 == len(list(loader))
    print("saved", flush=True)
    os._exit(3 if rank % 2 else 0)

def spawned(local_rank):
    train(int(os.environ["NODE_RANK"]) * 2 + local_rank, int(os.environ["NNODES"]) * 2)

if __name__ == "__main__":
    if os.environ["K8SDDP_ATTEMPT"] != "0":
        print("resumed")
    elif "LOCAL_RANK" in os.environ:
        train(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))
    else:
        import torch.multiprocessing
        torch.multiprocessing.spawn(spawned, nprocs=2)
"""
