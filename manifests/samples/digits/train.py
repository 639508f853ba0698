"""Recognise handwritten digits with DistributedDataParallel: the whole loop, in plain PyTorch.

Every process runs this file. The launcher has told each of them who it is (RANK, WORLD_SIZE, LOCAL_RANK) and where to
meet (MASTER_ADDR, MASTER_PORT); nothing here knows about Kubernetes.
"""

import argparse
import csv
import gzip
import os
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset


def load_digits(path):
    """Return (training set, test set): images as float [N, 64] in 0..1, digits as int64 [N]."""
    with gzip.open(path, "rt", newline="") as file:
        rows = torch.tensor([[int(cell) for cell in row] for row in csv.reader(file)])
    rows = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))]  # the same split on every rank
    images, digits = rows[:, :64].float() / 16, rows[:, 64]
    return TensorDataset(images[:1437], digits[:1437]), TensorDataset(images[1437:], digits[1437:])


def train(model, loader, device, optimizer):
    """Take one pass over this rank's part of the data; return its mean loss."""
    total = 0.0
    for images, digits in loader:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(images.to(device)), digits.to(device))
        loss.backward()  # DDP averages the gradients over all ranks here
        optimizer.step()
        total += loss.item()
    return total / len(loader)


@torch.no_grad()
def accuracy(model, test_set, device):
    """Return the share of right answers: every rank tests its part, the sums are added up."""
    images, digits = test_set[dist.get_rank() :: dist.get_world_size()]
    right = (model(images.to(device)).argmax(1) == digits.to(device)).sum()
    counts = torch.tensor([right, len(digits)], dtype=torch.float64, device=device)
    dist.all_reduce(counts)
    return (counts[0] / counts[1]).item()


@torch.no_grad()
def parameters_agree(model):
    """Return whether all ranks hold the same parameters, bit for bit."""
    mine = nn.utils.parameters_to_vector(model.parameters())
    low, high = mine.clone(), mine.clone()
    dist.all_reduce(low, dist.ReduceOp.MIN)
    dist.all_reduce(high, dist.ReduceOp.MAX)
    return torch.equal(low, high)


def save(model, path):
    """Write the model so that no reader ever sees half of it."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(model.module.state_dict(), path.with_suffix(".tmp"))
    path.with_suffix(".tmp").replace(path)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=32, help="of one rank")
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("--data", default=Path(__file__).with_name("digits.csv.gz"))
    parser.add_argument("--out", default="digits.pt", help="where rank 0 saves the model")
    args = parser.parse_args()

    gpu = torch.cuda.is_available()
    dist.init_process_group("nccl" if gpu else "gloo")
    try:
        rank = dist.get_rank()
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if gpu else torch.device("cpu")
        if gpu:
            torch.cuda.set_device(device)
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10)).to(device)
        model = DistributedDataParallel(net, device_ids=[device.index] if gpu else None)
        optimizer = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=0.9)

        train_set, test_set = load_digits(args.data)
        sampler = DistributedSampler(train_set)  # gives every rank its own part
        loader = DataLoader(train_set, batch_size=args.batch_size, sampler=sampler)
        if rank == 0:
            print(f"{len(train_set)} images to learn from, {len(loader.sampler)} of them on each rank")
        for epoch in range(args.epochs):
            sampler.set_epoch(epoch)  # another shuffle each epoch
            loss = train(model, loader, device, optimizer)
            share = accuracy(model, test_set, device)
            if rank == 0:
                print(f"epoch {epoch + 1}/{args.epochs}  loss {loss:.4f}  test accuracy {share:.4f}")

        agree = parameters_agree(model)
        if rank == 0:
            save(model, args.out)
            print(f"world size {dist.get_world_size()}, parameters equal on all ranks: {'yes' if agree else 'NO'}")
            print(f"test accuracy {share:.4f}, model saved to {args.out}")
    finally:
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
