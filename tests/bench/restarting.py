"""A rank is killed again and again: how long until all ranks step together, k8sddp beside torchrun's own restarts.

Two nodes of one rank each on this machine; `recovery` says what is measured. A run that hangs is ended at LIMIT and is
no success. The last row is what a start costs without any fault, in the same rounds.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO

from tests.bench import launching, recovery

LIMIT = 120.0  # seconds for a run; all faults together take about 35 where nothing hangs
PORT = 27600

# Notes go to a file that both ranks append to.
SCRIPT = (
    """
import json, os, sys, time
path, faults, rank = sys.argv[1], int(sys.argv[2]), int(os.environ["RANK"])

def note(event):
    with open(path, "a+") as file:
        file.write(json.dumps([event, rank, time.monotonic()]) + "\\n")
        file.seek(0)
        return file.read().count("fault")

"""
    + recovery.TRAINING
)
JOB = """
apiVersion: k8sddp.dev/v1alpha1
kind: DDPJob
metadata: {name: restart}
spec:
  image: none
  command: [train.py, %s, "%d"]
  code: {path: .}
  nnodes: 2
  backend: gloo
  launcher: %s
  resources: {cpu: 1}
  restart: {maxAttempts: %d}
  rendezvous: {port: 27700}
"""


def k8sddp(folder: Path, events: Path, launcher: str, faults: int) -> list[list[str]]:
    """Return the command of a local run."""
    job = folder / "job.yaml"
    job.write_text(JOB % (json.dumps(str(events)), faults, launcher, faults + 1))
    return [[str(Path(sys.executable).with_name("k8sddp")), "run", "--local", str(job)]]


def torchruns(folder: Path, events: Path, faults: int, *options: str) -> list[list[str]]:
    """Return the two torchruns of a gang that restarts itself."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1"]
    torchrun += ["--max-restarts", str(faults + 1) if faults else "0", *options]
    words = [str(folder / "train.py"), str(events), str(faults)]
    return [[*torchrun, "--node-rank", str(node), *words] for node in range(2)]


STATIC = ("--master-addr=127.0.0.1", f"--master-port={PORT}")
C10D = ("--rdzv-backend=c10d", f"--rdzv-endpoint=127.0.0.1:{PORT}", "--rdzv-id=restart")
UNSHARED = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}

Commands = Callable[[Path, Path, int], list[list[str]]]
SYSTEMS: dict[str, tuple[Commands, dict[str, str]]] = {
    "k8sddp, torchrun": (lambda folder, events, faults: k8sddp(folder, events, "torchrun", faults), {}),
    "k8sddp, direct": (lambda folder, events, faults: k8sddp(folder, events, "direct", faults), {}),
    "torchrun --max-restarts, static": (lambda folder, events, n: torchruns(folder, events, n, *STATIC), {}),
    "torchrun --max-restarts, c10d": (lambda folder, events, n: torchruns(folder, events, n, *C10D), {}),
    "torchrun --max-restarts, c10d, own store": (
        lambda folder, events, n: torchruns(folder, events, n, *C10D),
        UNSHARED,
    ),
}


@contextlib.contextmanager
def started(
    commands: Sequence[Sequence[str]], environ: dict[str, str], output: IO[bytes] | int = subprocess.DEVNULL
) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Start the commands in sessions of their own, what they say to `output`; at the end nothing of them is left."""
    mark = f"K8SDDP_BENCH={time.monotonic_ns()}"
    name, _, value = mark.partition("=")
    running = [
        subprocess.Popen(
            argv,
            env={**environ, name: value},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        for argv in commands
    ]
    try:
        yield running
    finally:
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError, ValueError):
                if mark.encode() in (entry / "environ").read_bytes():
                    os.kill(int(entry.name), signal.SIGKILL)
        for process in running:
            process.wait()


def run(folder: Path, system: str, faults: int) -> recovery.Run:
    """Run one system once."""
    build, extra = SYSTEMS[system]
    events = folder / "events"
    events.write_text("")
    environ = {**os.environ, "OMP_NUM_THREADS": "1", **extra}
    begun = time.monotonic()
    with started(build(folder, events, faults), environ) as running:
        codes: list[int | None] = []
        for process in running:
            try:
                codes.append(process.wait(timeout=max(0.1, begun + LIMIT - time.monotonic())))
            except subprocess.TimeoutExpired:
                codes.append(None)
    noted = [json.loads(line) for line in events.read_text().splitlines()]
    return recovery.judge(noted, begun, complete=codes == [0] * len(codes), faults=faults)


def figures(*, rounds: int = 3) -> list[dict[str, object]]:
    """Return a row for each system and fault, and one for a start without faults."""
    launching.CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=launching.CACHE) as name:
        folder = Path(name)
        (folder / "train.py").write_text(SCRIPT)
        static = "torchrun --max-restarts, static"
        starts = [run(folder, static, 0)]  # the first one warms the page cache and is thrown away
        found: dict[str, list[recovery.Run]] = {system: [] for system in SYSTEMS}
        for _ in range(rounds):
            starts.append(run(folder, static, 0))
            for system, runs in found.items():
                runs.append(run(folder, system, recovery.FAULTS))
    plain = [one.launch for one in starts[1:] if one.complete]
    return recovery.table(found, plain, start="two torchruns, launch to first step")
