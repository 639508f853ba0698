"""Gangs under real torchrun that lose a rank, a launcher or a pod in the middle of training: each time they go on.

K8SDDP_TEST_REPEATS=20 repeats every fault twenty times, under every launcher. Without it those run that `--fault`
cannot bring about; test_faults.py has the others.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import breaking

pytest.importorskip("torch", reason="torch is not installed: pip install 'k8sddp[torch]'")
pytestmark = pytest.mark.torch

REPEATS = int(os.environ.get("K8SDDP_TEST_REPEATS", "0"))
K8SDDP = str(Path(sys.executable).with_name("k8sddp"))
FAULTS = [
    pytest.param("raise", 1, "rank 1 (pod again-1, node {node}) " + breaking.RAISED, id="rank raises"),
    pytest.param("kill", 1, "rank 1 (pod again-1, node {node}) " + breaking.KILLED, id="rank killed"),
    pytest.param("kill", 0, "rank 0 (pod again-0, node {node}) " + breaking.KILLED, id="rank 0 killed"),
    pytest.param("segfault", 1, "rank 1 (pod again-1, node {node}) " + breaking.SEGFAULT, id="segfault"),
    pytest.param("launcher", 1, "torchrun on node 1 (pod again-1, node {node}) " + breaking.KILLED, id="torchrun"),
    pytest.param("pod", 1, "node 1 (pod again-1, node {node}): " + breaking.LOST, id="pod killed"),
    pytest.param("pod", 0, "node 0 (pod again-0, node {node}): " + breaking.LOST, id="pod 0 killed"),
    pytest.param(
        "leave",
        1,
        "rank 1 (pod again-1, node {node}) " + breaking.LEFT_EARLY,
        id="rank leaves early",
    ),
]
ONLY_HERE = [one for one in FAULTS if one.values[:2] in (("launcher", 1), ("pod", 0))]


TCP = breaking.SCRIPT.replace(
    '"gloo"',
    '"gloo", init_method="tcp://%(MASTER_ADDR)s:%(MASTER_PORT)s" % os.environ, '
    'rank=int(os.environ["RANK"]), world_size=int(os.environ["WORLD_SIZE"])',
)
SPAWN = """
import os, runpy
import torch.multiprocessing as mp

def train(local_rank):
    os.environ["RANK"] = os.environ["NODE_RANK"]
    runpy.run_path("train.py", run_name="__main__")

if __name__ == "__main__":
    os.environ["WORLD_SIZE"] = os.environ["NNODES"]
    mp.spawn(train)
"""


def finish(folder: Path, *command: str, launcher: str) -> set[str]:
    """Run `command` on two nodes; both ranks finish in attempt 1. Return what is said of attempt 0's end."""
    spec = {
        "image": "none",
        "command": list(command),
        "code": {"path": "."},
        "nnodes": 2,
        "launcher": launcher,
        "restart": {"maxAttempts": 2},
    }
    job = {"apiVersion": "k8sddp.dev/v1alpha1", "kind": "DDPJob", "metadata": {"name": "again"}, "spec": spec}
    (folder / "job.yaml").write_text(json.dumps(job))
    argv = [K8SDDP, "run", "--local", str(folder / "job.yaml"), "--work-dir", str(folder / "work")]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=110, check=False)
    text = done.stdout + done.stderr
    assert 0 == done.returncode, text
    assert ["finished in attempt 1"] * 2 == sorted(
        line.partition("] ")[2] for line in done.stdout.splitlines() if "finished" in line
    ), text
    ended = {line.partition("ended: ")[2] for line in done.stdout.splitlines() if "] attempt 0 ended: " in line}
    assert ended, text
    return ended


@pytest.mark.timeout(120)
@pytest.mark.parametrize("time", range(max(1, REPEATS)))
@pytest.mark.parametrize("launcher", ["torchrun", "direct"] if REPEATS else ["torchrun"])
@pytest.mark.parametrize(("fault", "rank", "cause"), FAULTS if REPEATS else ONLY_HERE)
def test_one_fault_costs_one_attempt(
    tmp_path: Path, fault: str, rank: int, cause: str, launcher: str, time: int
) -> None:
    """Both ranks finish in attempt 1; the log names what ended attempt 0, and nothing else."""
    if launcher == "direct" and fault == "launcher":
        pytest.skip("`direct` has no launcher that could be killed")
    (tmp_path / "train.py").write_text(breaking.SCRIPT)
    for line in finish(tmp_path, "train.py", fault, str(rank), launcher=launcher):
        assert line.startswith(cause.format(node=os.uname().nodename))


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("script", "main", "launcher"),
    [(TCP, "train.py", "direct"), (breaking.SCRIPT, "spawn.py", "spawn")],
    ids=["tcp", "mp.spawn"],
)
def test_scripts_that_name_the_master_themselves_restart_too(
    tmp_path: Path, script: str, main: str, launcher: str
) -> None:
    """`tcp://MASTER_ADDR:MASTER_PORT` names a fresh port in attempt 1, and so it does for spawned ranks."""
    (tmp_path / "train.py").write_text(script)
    (tmp_path / "spawn.py").write_text(SPAWN)
    said = f"rank 1 (pod again-1, node {os.uname().nodename}) {breaking.RAISED}"
    assert all(line.startswith(said) for line in finish(tmp_path, main, "raise", "1", launcher=launcher))
