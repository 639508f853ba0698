"""The fault that restarts are measured with, and what the ranks' notes say about it.

Two nodes of one rank each. Rank 1 kills itself with SIGKILL at its 20th step until FAULTS have been noted; each rank
notes the machine's monotonic clock when its process starts and at its first step. From that: fault -> first step of
both ranks, and the system's own share of it, fault -> start of the last new process. Where the notes go (a file, a
socket) is the caller's business: it puts the definition of `note` before TRAINING.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tests.bench import measuring

FAULTS = 5
SHOWN = (1, 2, 5)  # the first, second and fifth fault

# `note(event)` notes the event with this rank and the clock, and returns how many faults have been noted so far.
TRAINING = """
past = note("start")
import torch, torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
dist.init_process_group("gloo")
model = DistributedDataParallel(torch.nn.Linear(64, 64))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(30):
    optimizer.zero_grad()
    model(torch.randn(8, 64)).sum().backward()
    optimizer.step()
    if step == 0:
        note("step")
    if step == 20 and rank == 1 and past < faults:
        note("fault")
        os.kill(os.getpid(), 9)
dist.barrier()
dist.destroy_process_group()
"""

Note = tuple[str, int, float]  # event, rank, the machine's monotonic clock


class Run(NamedTuple):
    """One run: whether it completed, and for each fault the seconds to the last new process and the last first step."""

    complete: bool
    shares: tuple[float, ...]
    restarts: tuple[float, ...]
    launch: float  # seconds from the start of the commands to the first step of both ranks


def judge(noted: Sequence[Note], begun: float, *, complete: bool, faults: int) -> Run:
    """Return what the ranks' notes say."""

    def together(event: str, since: float) -> float | None:
        firsts = [
            min((at for what, rank, at in noted if (what, rank) == (event, node) and at > since), default=None)
            for node in range(2)
        ]
        return None if None in firsts else max(first for first in firsts if first is not None) - since

    moments = [at for what, _, at in noted if what == "fault"]
    shares = [together("start", at) for at in moments]
    steps = [together("step", at) for at in moments]
    return Run(
        complete and len(moments) == faults,
        tuple(share for share in shares if share is not None),
        tuple(step for step in steps if step is not None),
        together("step", begun) or float("nan"),
    )


def table(found: Mapping[str, Sequence[Run]], plain: Sequence[float], *, start: str) -> list[dict[str, object]]:
    """Return a row for each system and shown fault, and one for a start without faults."""
    rows = [row(system, runs, number, plain) for system, runs in found.items() for number in SHOWN]
    cost = {"figure": start, "median": measuring.median(plain), "worst": round(max(plain), 3), "n": len(plain)}
    return [*rows, cost]


def row(system: str, runs: Sequence[Run], number: int, plain: Sequence[float]) -> dict[str, object]:
    """Return the figures of one system's Nth fault."""
    restarts = [one.restarts[number - 1] for one in runs if len(one.restarts) >= number]
    shares = [one.shares[number - 1] for one in runs if len(one.shares) >= number]
    return {
        "figure": f"{system}: fault {number} -> first step",
        "complete": f"{sum(one.complete for one in runs)} of {len(runs)}",
        "median": measuring.median(restarts) if restarts else None,
        "worst": round(max(restarts), 3) if restarts else None,
        "own_share": measuring.median(shares) if shares else None,
        "over_a_start": round(statistics.median(restarts) - statistics.median(plain), 3) if restarts else None,
        "n": len(restarts),
    }
