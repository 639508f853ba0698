"""Launch to first optimizer step and to exit: `run --local` with two nodes beside two plain static torchruns."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.bench import measuring

# Writes the machine's monotonic clock when this rank has made its first step.
SCRIPT = """
import os, sys, time, torch, torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
dist.init_process_group("gloo")
model = DistributedDataParallel(torch.nn.Linear(64, 64))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
model(torch.randn(8, 64)).sum().backward()
optimizer.step()
with open(os.path.join(sys.argv[1], os.environ["RANK"]), "w") as file:
    file.write(repr(time.monotonic()))
dist.barrier()
dist.destroy_process_group()
"""
JOB = """
apiVersion: k8sddp.dev/v1alpha1
kind: DDPJob
metadata: {name: launch}
spec:
  image: none
  command: [first_step.py, %s]
  code: {path: .}
  nnodes: 2
  backend: gloo
  resources: {cpu: 1}
  rendezvous: {port: 27400}
"""
PLAIN_PORT = 27500
CACHE = Path.home() / ".cache/k8sddp/bench"


def timed(commands: Sequence[Sequence[str]], marks: Path) -> tuple[float, float]:
    """Start the commands together; return seconds to the last rank's first step and to the last exit."""
    for mark in marks.iterdir():
        mark.unlink()
    environ = {**os.environ, "OMP_NUM_THREADS": "1"}
    started = time.monotonic()
    running = [subprocess.Popen(argv, env=environ, stdout=subprocess.DEVNULL) for argv in commands]
    codes = [process.wait(timeout=120) for process in running]
    ended = time.monotonic()
    if any(codes):
        raise RuntimeError(f"{commands} ended with {codes}")
    return max(float(mark.read_text()) for mark in marks.iterdir()) - started, ended - started


def figures(*, rounds: int = 7) -> list[dict[str, object]]:
    """Return the paired differences in seconds, with their 95 % interval."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:  # not below /tmp, which is a folder of the pod's own
        root = Path(folder)
        marks, code = root / "marks", root / "code"
        marks.mkdir()
        code.mkdir()
        script, job = code / "first_step.py", code / "job.yaml"
        script.write_text(SCRIPT)
        job.write_text(JOB % json.dumps(str(marks)))
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1"]
        torchrun += ["--master-addr", "127.0.0.1", "--master-port", str(PLAIN_PORT)]
        plain = [[*torchrun, "--node-rank", str(node), str(script), str(marks)] for node in range(2)]
        k8sddp = str(Path(sys.executable).with_name("k8sddp"))
        ours = [[k8sddp, "run", "--local", str(job), "--work-dir", str(root / "work")]]
        timed(plain, marks)
        timed(ours, marks)
        pairs = [(timed(ours, marks), timed(plain, marks)) for _ in range(rounds)]
    return [
        {
            "figure": f"run --local, launch to {what}, beside two torchruns",
            "difference": measuring.median(differences := [ours[place] - plain[place] for ours, plain in pairs]),
            "interval_95": measuring.interval_95(differences),
            "limit": 0.5,
            "ours": measuring.median([ours[place] for ours, _ in pairs]),
            "plain": measuring.median([plain[place] for _, plain in pairs]),
            "n": rounds,
        }
        for place, what in enumerate(("first step", "exit"))
    ]
