"""A rank hangs: what k8sddp, plain torchrun and NVIDIA's ft_launcher notice, after how long, and whom they name.

The same script everywhere, two ranks under gloo on this machine; rank 1 is the culprit. Where a limit can be set it is
HANG_TIMEOUT. ft_launcher finds hangs by heartbeats that the script sends, so it runs twice: with the script as it is,
and with the lines that its manual asks for. It is installed apart (`pip install nvidia-resiliency-ext`), and
K8SDDP_BENCH_FT_LAUNCHER names it; without it its rows are left out. What counts as noticed is the first line of output,
after the fault, that a table below knows; the ranks in all such lines within SETTLE seconds are those named.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.bench import launching, measuring, restarting

HANG_TIMEOUT = 10  # seconds
LIMIT = 60.0  # seconds after the fault in which something may be noticed
SETTLE = 3.0  # seconds after the first notice in which others count too
START = 180.0  # seconds for the fault to come
FT_LAUNCHER = os.environ.get("K8SDDP_BENCH_FT_LAUNCHER", "")

KINDS = ("sigstop", "loop", "sleep", "gil", "dataloader", "collective")

SCRIPT = """
import ctypes, os, signal, sys, time
path, kind, beats = sys.argv[1], sys.argv[2], sys.argv[3] == "beats"
rank = int(os.environ["RANK"])
import torch, torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

def hang():
    with open(path, "a") as file:
        file.write("%f\\n" % time.monotonic())
    if kind == "sigstop":
        os.kill(os.getpid(), signal.SIGSTOP)
    while kind == "loop":
        pass
    if kind == "sleep":
        time.sleep(1e6)
    if kind == "gil":
        ctypes.PyDLL(None).read(os.pipe()[0], bytes(1), 1)
    if kind == "collective":
        dist.barrier()

class Data(torch.utils.data.Dataset):
    def __len__(self):
        return 100000
    def __getitem__(self, index):
        if kind == "dataloader" and rank == 1 and index == 8 * 40:
            with open(path, "a") as file:
                file.write("%f\\n" % time.monotonic())
            time.sleep(1e6)
        return torch.randn(64)

if __name__ == "__main__":
    client = None
    if beats:
        import nvidia_resiliency_ext.fault_tolerance as ft
        client = ft.RankMonitorClient()
        client.init_workload_monitoring()
    dist.init_process_group("gloo")
    model = DistributedDataParallel(torch.nn.Linear(64, 64))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    workers = 1 if kind == "dataloader" else 0
    for step, batch in enumerate(torch.utils.data.DataLoader(Data(), batch_size=8, num_workers=workers)):
        optimizer.zero_grad()
        model(batch).sum().backward()
        optimizer.step()
        if client:
            client.send_heartbeat()
        if step == 40 and rank == 1 and kind != "dataloader":
            hang()
        time.sleep(0.02)
"""
JOB = """
apiVersion: k8sddp.dev/v1alpha1
kind: DDPJob
metadata: {name: hang}
spec:
  image: none
  command: [train.py, %s, %s, plain]
  code: {path: .}
  nnodes: 2
  backend: gloo
  resources: {cpu: 1}
  restart: {maxAttempts: 1, hangTimeout: %ds}
"""


class System(NamedTuple):
    """How one starts, and what its output says when it has noticed; group 1 of `notice` is a rank that it names."""

    command: Callable[[Path, Path, str], Sequence[str]]
    notice: re.Pattern[str]


def k8sddp(folder: Path, events: Path, kind: str) -> list[str]:
    """Return the command of a local run."""
    job = folder / "job.yaml"
    job.write_text(JOB % (json.dumps(str(events)), kind, HANG_TIMEOUT))
    return [str(Path(sys.executable).with_name("k8sddp")), "run", "--local", str(job)]


def torchrun(folder: Path, events: Path, kind: str) -> list[str]:
    """Return the command of torchrun with both ranks."""
    words = ["--nnodes=1", "--nproc-per-node=2", f"--master-port={restarting.PORT}", "--max-restarts=0"]
    return [sys.executable, "-m", "torch.distributed.run", *words, str(folder / "train.py"), str(events), kind, "plain"]


def ft_launcher(folder: Path, events: Path, kind: str, *, beats: str) -> list[str]:
    """Return the command of ft_launcher with both ranks, every time-out that it has at HANG_TIMEOUT."""
    words = ["--nnodes=1", "--nproc-per-node=2", "--max-restarts=0", "--ignore-missing-fault-tol-cfg"]
    words += ["--rdzv-backend=c10d", f"--rdzv-endpoint=127.0.0.1:{restarting.PORT}", "--ft-enable_nic_monitor=False"]
    words += [f"--ft-param-rank_heartbeat_timeout={HANG_TIMEOUT}", "--ft-param-workload_check_interval=1"]
    return [FT_LAUNCHER, *words, str(folder / "train.py"), str(events), kind, beats]


ELASTIC = re.compile(r"rank *: (\d+)|local_rank: (\d+)")  # torchrun's summary of a failure
FT = re.compile(r"RankMonServer\d+@\S*:(\d+)\] Did not get")  # each rank has a monitor, which knows its own rank alone
SYSTEMS = {
    "k8sddp": System(k8sddp, re.compile(r"rank (\d+) \(pod [^)]*\) hangs")),
    "torchrun": System(torchrun, ELASTIC),
    "ft_launcher": System(lambda *words: ft_launcher(*words, beats="plain"), FT),
    "ft_launcher, script with heartbeats": System(lambda *words: ft_launcher(*words, beats="beats"), FT),
}


class Seen(NamedTuple):
    """What one run noticed: seconds from the fault to the first notice (None: nothing), the ranks named."""

    after: float | None
    named: tuple[int, ...]


def run(folder: Path, system: System, kind: str) -> Seen | None:
    """Hang once; None where the fault did not come."""
    events, output = folder / "events", folder / "output"
    events.write_text("")
    command = system.command(folder, events, kind)
    with (
        output.open("wb") as file,
        restarting.started([command], {**os.environ, "OMP_NUM_THREADS": "1"}, file) as running,
    ):
        if not _wait(lambda: bool(events.read_text()), START, running[0]):
            return None
        fault = float(events.read_text().split()[0])
        seen = _wait(lambda: bool(system.notice.search(output.read_text(errors="replace"))), LIMIT, running[0])
        after = time.monotonic() - fault
        _wait(lambda: False, SETTLE, running[0])
    if not seen:
        return Seen(None, ())
    found = system.notice.findall(output.read_text(errors="replace"))
    ranks = {int(one) for groups in found for one in ([groups] if isinstance(groups, str) else groups) if one}
    return Seen(after, tuple(sorted(ranks)))


def _wait(holds: Callable[[], bool], seconds: float, running: subprocess.Popen[bytes]) -> bool:
    """Wait until it holds or the time is over; what ends says nothing more."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and running.poll() is None:
        if holds():
            return True
        time.sleep(0.1)
    return holds()


def figures(*, rounds: int = 3) -> Iterator[dict[str, object]]:
    """Yield a row for each kind and system, as they come: all take an hour and a half."""
    launching.CACHE.mkdir(parents=True, exist_ok=True)
    systems = {name: one for name, one in SYSTEMS.items() if FT_LAUNCHER or not name.startswith("ft_launcher")}
    with tempfile.TemporaryDirectory(dir=launching.CACHE) as name:
        folder = Path(name)
        (folder / "train.py").write_text(SCRIPT)
        for kind in KINDS:
            for label, system in systems.items():
                runs = [one for one in (run(folder, system, kind) for _ in range(rounds)) if one]
                noticed = [one.after for one in runs if one.after is not None]
                yield {
                    "figure": f"{kind}: {label}",
                    "noticed": f"{len(noticed)} of {len(runs)}",
                    "median": measuring.median(noticed) if noticed else None,
                    "worst": round(max(noticed), 1) if noticed else None,
                    "named": sorted({one.named for one in runs if one.after is not None}),
                    "limit": LIMIT,
                }
