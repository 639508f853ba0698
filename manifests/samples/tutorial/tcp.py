"""The tutorial's first way: one process per rank from the launch tool, joined by tcp://<master ip>:<port>."""

import os

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset


def main():
    rank, world_size, local_rank = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
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


if __name__ == "__main__":
    main()
