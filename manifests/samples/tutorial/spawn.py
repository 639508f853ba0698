"""The tutorial's second way: mp.spawn starts this machine's processes, each works out its own rank.

The environment says how many nodes there are and which one this is (WORLD_SIZE and RANK count *nodes* here, as in
PyTorch's ImageNet example); the script multiplies by the processes it starts. A device belongs to the *local* index.
"""

import os

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset


def train(local_rank, processes, node_rank, world_size):
    rank = node_rank * processes + local_rank
    gpu = torch.cuda.is_available()
    device = torch.device("cuda", local_rank) if gpu else torch.device("cpu")
    dist.init_process_group(
        "nccl" if gpu else "gloo",
        init_method=f"tcp://{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}",
        rank=rank,
        world_size=world_size,
    )
    try:
        torch.manual_seed(0)
        features = torch.randn(512, 10)
        dataset = TensorDataset(features, (features.sum(1) > 0).long())
        loader = DataLoader(dataset, batch_size=32, sampler=DistributedSampler(dataset))
        model = DistributedDataParallel(nn.Linear(10, 2).to(device), device_ids=[local_rank] if gpu else None)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
        for epoch in range(5):
            loader.sampler.set_epoch(epoch)
            for x, y in loader:
                optimizer.zero_grad()
                loss = nn.functional.cross_entropy(model(x.to(device)), y.to(device))
                loss.backward()
                optimizer.step()
        print(f"rank {rank} of {world_size}: loss {loss.item():.4f}")
    finally:
        dist.destroy_process_group()


def main():
    processes = int(os.environ["LOCAL_WORLD_SIZE"])
    nodes, node_rank = int(os.environ["WORLD_SIZE"]), int(os.environ["RANK"])
    mp.spawn(train, args=(processes, node_rank, nodes * processes), nprocs=processes)


if __name__ == "__main__":
    main()
