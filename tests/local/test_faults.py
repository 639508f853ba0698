"""`run --local --fault`: what a user breaks on purpose heals, in as few attempts as can be, and is named."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is not installed: pip install 'k8sddp[torch]'")
pytestmark = pytest.mark.torch

K8SDDP = str(Path(sys.executable).with_name("k8sddp"))
SCRIPT = """
import os, sys
import torch, torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
torch.set_num_threads(1)
dist.init_process_group("gloo")
model = DistributedDataParallel(torch.nn.Linear(4, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
print("pid", os.getpid(), flush=True)
for step in range(1, 9):
    optimizer.zero_grad()
    model(torch.ones(2, 4)).sum().backward()
    optimizer.step()
print("steps done in attempt", os.environ["K8SDDP_ATTEMPT"])
dist.destroy_process_group()
"""


def write_job(folder: Path, **spec: object) -> Path:
    """Write a job of two nodes with one rank each; return the path of job.yaml."""
    (folder / "train.py").write_text(SCRIPT)
    fields = {
        "image": "none",
        "command": ["train.py"],
        "code": {"path": "."},
        "nnodes": 2,
        "launcher": "direct",
        "terminationGracePeriodSeconds": 5,
        **spec,
    }
    job = {"apiVersion": "k8sddp.dev/v1alpha1", "kind": "DDPJob", "metadata": {"name": "broken"}, "spec": fields}
    (folder / "job.yaml").write_text(json.dumps(job))
    return folder / "job.yaml"


def command(job: Path, faults: Sequence[str]) -> list[str]:
    """Return the command line that breaks a run."""
    options = [word for fault in faults for word in ("--fault", fault)]
    return [K8SDDP, "run", "--local", str(job), "--work-dir", str(job.parent / "work"), *options]


def run(job: Path, *faults: str) -> subprocess.CompletedProcess[str]:
    """Run a job to its end, with these faults."""
    return subprocess.run(command(job, faults), capture_output=True, text=True, timeout=110, check=False)


@pytest.mark.parametrize(
    ("fault", "launcher", "said"),
    [
        pytest.param("kill rank=1 step=3", "torchrun", "was killed by SIGKILL", id="kill-torchrun"),
        pytest.param("kill rank=0 step=3", "direct", "was killed by SIGKILL", id="kill"),
        pytest.param("exit rank=1 step=3 code=5", "direct", "exited with code 5", id="exit"),
        pytest.param("exit rank=1 step=3 code=0", "direct", "exited with code 0 while other ranks", id="exit-0"),
        pytest.param("raise rank=1 step=3", "torchrun", "raised RuntimeError: fault injected: raise", id="raise"),
        pytest.param("segfault rank=1 step=3", "direct", "was killed by SIGSEGV", id="segfault"),
    ],
)
def test_a_broken_rank_costs_one_attempt(tmp_path: Path, fault: str, launcher: str, said: str) -> None:
    """The gang restarts once, every rank does all its steps in attempt 1, and the log names who failed and how."""
    rank = fault.split("rank=")[1][0]
    done = run(write_job(tmp_path, launcher=launcher), fault)

    assert (0, "") == (done.returncode, "" if done.returncode == 0 else done.stdout + done.stderr)
    ended = [line for line in done.stdout.splitlines() if "[k8sddp] attempt 0 ended: " in line]
    assert 2 == len(ended), done.stdout
    assert all(f"attempt 0 ended: rank {rank} (pod broken-{rank}, node " in line and said in line for line in ended)
    if "code 0" in said:  # an early exit counts when all ranks have ended, and only node 0 says so
        assert "[k8sddp] the last attempt counts: 1 of 4 attempts used" in done.stdout
    else:
        assert all("; 1 of 4 attempts used" in line for line in ended)
    assert f"[rank {rank}] fault injected: {fault.split(maxsplit=1)[0]} " in done.stdout
    for number in (0, 1):
        assert f"[rank {number}] steps done in attempt 1" in done.stdout
    assert "never happened" not in done.stderr
    assert "replaces it" not in done.stderr  # both pods survive


@pytest.mark.parametrize("node", [0, 1])
def test_a_lost_node_is_replaced_and_costs_nothing(tmp_path: Path, node: int) -> None:
    """The other pod stays and waits, another pod takes the place, and no attempt of the budget is used."""
    done = run(write_job(tmp_path, restart={"maxAttempts": 1}), f"lose-node {node} step=3")

    assert (0, "") == (done.returncode, "" if done.returncode == 0 else done.stdout + done.stderr)
    assert f"pod broken-{node} was lost with its node; broken-{node}-2 replaces it in 1 s" in done.stderr
    assert f"pod broken-{1 - node} " not in done.stderr
    for rank in (0, 1):
        assert f"[rank {rank}] steps done in attempt 1" in done.stdout


def test_the_budget_counts_what_was_broken(tmp_path: Path) -> None:
    """Two attempts, two faults: the job fails with the second one's name, and the third fault never happens."""
    job = write_job(tmp_path, restart={"maxAttempts": 2})
    done = run(job, "raise rank=0 step=1", "kill rank=1 step=2 attempt=1", "kill rank=1 step=2 attempt=2")

    assert 64 == done.returncode, done.stdout + done.stderr
    last = done.stderr.splitlines()[-1]
    assert "rank 1 (pod broken-1, node " in last
    assert "was killed by SIGKILL" in last
    assert "2 of 2 attempts used" in done.stdout
    missed = [line for line in done.stderr.splitlines() if "never happened" in line]
    assert 1 == len(missed)
    assert missed[0].startswith(
        "the fault `kill rank=1 step=2 attempt=2` never happened: in attempt 2, rank 1 made no "
    )


def test_an_exit_code_of_fail_on_ends_the_job_at_once(tmp_path: Path) -> None:
    """Nothing is tried again after a code that the user calls final."""
    done = run(write_job(tmp_path, restart={"failOn": [5]}), "exit rank=1 step=3 code=5")

    assert 5 == done.returncode, done.stdout + done.stderr
    assert "steps done" not in done.stdout
    assert "exited with code 5" in done.stderr.splitlines()[-1]


def test_a_stopped_rank_costs_one_attempt(tmp_path: Path) -> None:
    """It is found by those that wait for it, named, and the gang trains on."""
    job = write_job(tmp_path, restart={"hangTimeout": "3s"})
    done = run(job, "stop rank=1 step=3")

    assert (0, "") == (done.returncode, "" if done.returncode == 0 else done.stdout + done.stderr)
    assert "attempt 0 ended: rank 1 (pod broken-1, node " in done.stdout
    assert "hangs: its process is stopped (SIGSTOP), for " in done.stdout
    assert "; the other rank waits in backward; 1 of 4 attempts used" in done.stdout
    for rank in (0, 1):
        assert f"[rank {rank}] steps done in attempt 1" in done.stdout


def test_control_c_ends_a_stopped_rank(tmp_path: Path) -> None:
    """And all others."""
    job = write_job(tmp_path)
    pids: dict[str, int] = {}
    with subprocess.Popen(command(job, ["stop rank=1 step=3"]), stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if "] pid " in line:
                    pids[line.split("]")[0]] = int(line.split()[-1])
                if len(pids) == 2:
                    break
            until_stopped(pids["[rank 1"])
            process.send_signal(signal.SIGINT)
            process.stdout.read()
            assert 130 == process.wait(timeout=30)
        finally:
            process.kill()
    for pid in pids.values():
        assert not Path(f"/proc/{pid}").exists()


def until_stopped(pid: int) -> None:
    """Wait until the kernel has stopped a process, which nothing announces."""
    end = time.monotonic() + 30
    status = Path(f"/proc/{pid}/stat")
    while status.exists():
        if status.read_text().rpartition(") ")[2].startswith("T"):
            return
        assert time.monotonic() < end, "the rank was never stopped"
        time.sleep(0.01)
    raise AssertionError("the rank has ended")
