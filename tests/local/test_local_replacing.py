"""Pods that are lost in a local run: ended whole, replaced by the Job's rules, and not after the run's end."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from k8sddp.local import faults
from tests.local import pods

pytestmark = pytest.mark.usefixtures("nothing_left")


def test_a_lost_pods_processes_end_while_others_run(tmp_path: Path) -> None:
    """What a killed keeper leaves is ended at once, not when the whole run ends."""
    go = tmp_path / "go"
    left: list[int] = []

    def watch(data: bytes) -> None:
        if b"up" in data:
            os.kill(int(data.split()[1]), signal.SIGKILL)
        elif b"tail" in data:
            left.extend(pods.alive(run.mark))
            go.touch()

    run = pods.Run(tmp_path, on_line=watch)
    waits = f"import os, time\nwhile not os.path.exists({str(go)!r}): time.sleep(0.01)"
    loses = pods.STUBBORN.replace('print("up"', 'print("up", os.getppid(), end="\\ntail"')
    program = f"import os\nexec({waits!r} if os.environ['K8SDDP_NODE_RANK'] == '0' else {loses!r})"

    result = run(program, nnodes=2, backoffLimitPerIndex=1, successPolicy={"rules": [{"succeededIndexes": "0"}]})

    assert "complete" == result.state
    assert 2 == len(left), "the other pod and its keeper"


# The first pod of index 1 kills itself and leaves orphans; its replacement says who it is and what is left of the old
# one, and lets index 0 complete the Job.
LOSES_ITSELF = """
import os, signal, subprocess, sys, time
name, go = os.environ["K8SDDP_POD_NAME"], "GO"
if os.environ["K8SDDP_NODE_RANK"] == "0":
    while not os.path.exists(go):
        time.sleep(0.01)
elif name == "digits-1":
    open(os.environ["K8SDDP_SCRATCH_DIR"] + "/k8sddp-fault-0", "w")
    sleep = [sys.executable, "-S", "-c", "import time; time.sleep(300)"]
    subprocess.Popen(sleep, start_new_session=True)
    os.kill(os.getpid(), signal.SIGKILL)
else:
    left = 0
    for entry in os.listdir("/proc"):
        try:
            left += b"K8SDDP_POD_NAME=digits-1\\0" in open(f"/proc/{entry}/environ", "rb").read()
        except OSError:
            continue
    print(name, os.environ["K8SDDP_FAILURE_COUNT"], os.environ["K8SDDP_IGNORED_COUNT"] or "-", end=" ")
    print(left, os.listdir(os.environ["TMPDIR"]))
    open(go, "w")
"""
INDEX_0_DECIDES = {"successPolicy": {"rules": [{"succeededIndexes": "0"}]}}
IGNORES_LOST_NODES = {
    "podFailurePolicy": {
        "rules": [{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]
    }
}


@pytest.mark.parametrize(
    ("asked", "rules", "counts", "how"),
    [
        pytest.param((), {"backoffLimitPerIndex": 1}, "1 -", "was killed by SIGKILL", id="killed: counted"),
        pytest.param(
            (faults.Fault(faults.LOSE_NODE, 1, 1),),
            IGNORES_LOST_NODES,
            "0 1",
            "was lost with its node",
            id="lost with its node: ignored",
        ),
    ],
)
def test_a_lost_pod_is_replaced_when_all_of_it_has_ended(
    tmp_path: Path, asked: Sequence[faults.Fault], rules: dict[str, Any], counts: str, how: str
) -> None:
    """A pod of the same index with a new name and the Job's counts starts after the last process of the old one."""
    run = pods.Run(tmp_path)

    program = LOSES_ITSELF.replace("GO", str(tmp_path / "go"))

    result = run(program, asked=asked, nnodes=2, **INDEX_0_DECIDES | rules)

    assert ("complete", "SuccessPolicy") == (result.state, result.reason)
    assert [f"digits-1-2 {counts} 0 []"] == run.printed.decode().splitlines()
    assert [f"pod digits-1 {how}; digits-1-2 replaces it in 1 s"] == run.reported
    assert [] == pods.alive(run.mark)


def test_the_limit_of_an_index_is_the_jobs(tmp_path: Path) -> None:
    """A pod that is killed once too often fails the Job, in the name of the last one."""
    run = pods.Run(tmp_path)

    result = run("import os; print('up', flush=True); os.kill(os.getpid(), 9)", backoffLimitPerIndex=1)

    assert ("failed", 137, "MaxFailedIndexesExceeded") == (result.state, result.exit_code, result.reason)
    assert [b"up", b"up"] == run.printed.splitlines()
    assert "pod digits-0-2 was killed by SIGKILL" in result.message


IGNORES = {
    "podFailurePolicy": {"rules": [{"action": "Ignore", "onExitCodes": {"operator": "In", "values": [79, 143]}}]}
}


def test_a_follower_that_leaves_is_not_replaced_before_the_job_ends(tmp_path: Path) -> None:
    """It leaves with 79 when the gang has ended; index 0 follows with the result, and nothing is said of it."""
    run = pods.Run(tmp_path)
    program = (
        "import os, sys, time\nprint('up', flush=True)\nif os.environ['K8SDDP_NODE_RANK'] == '1': sys.exit(79)\n"
        "time.sleep(1.5)"  # longer than the back-off after any other end
    )

    result = run(program, nnodes=2, **INDEX_0_DECIDES | IGNORES)

    assert "complete" == result.state
    assert [b"up", b"up"] == run.printed.splitlines()
    assert [] == run.reported


def test_nothing_is_replaced_after_control_c(tmp_path: Path) -> None:
    """Also while no pod runs and one is due."""
    run = pods.Run(tmp_path, on_report=lambda _: os.kill(os.getpid(), signal.SIGINT))

    result = run("import sys; print('up', flush=True); sys.exit(143)", **IGNORES)

    assert ("interrupted", 130) == (result.state, result.exit_code)
    assert b"up\n" == run.printed
    assert ["pod digits-0 was stopped by SIGTERM; digits-0-2 replaces it in 1 s"] == run.reported


def test_nothing_is_replaced_after_the_deadline(tmp_path: Path) -> None:
    """activeDeadlineSeconds ends a Job that waits for a replacement."""
    run = pods.Run(tmp_path)
    started = time.monotonic()

    result = run("import sys; print('up', flush=True); sys.exit(79)", activeDeadlineSeconds=1, **IGNORES)

    assert ("failed", "DeadlineExceeded") == (result.state, result.reason)
    assert b"up\n" == run.printed
    assert time.monotonic() - started < 9  # the back-off is 10 s


def test_a_fault_that_never_happened_is_said(tmp_path: Path) -> None:
    """The ranks get the fault, none brings it about, and the run ends with a sentence about it."""
    run = pods.Run(tmp_path)

    result = run(
        "import os; print(os.environ['K8SDDP_FAULTS'])", asked=[faults.parse("lose-node 0", nnodes=1, nproc_per_node=1)]
    )

    assert "complete" == result.state
    assert b"lose-node node=0 step=1 attempt=0\n" == run.printed
    assert [
        "the fault `lose-node node=0 step=1 attempt=0` never happened: in attempt 0, node 0 made no optimizer step 1"
    ] == run.reported
