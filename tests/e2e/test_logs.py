"""Logs over what happens to kubelets and API servers, on a Kubernetes Node in another time zone."""

from pathlib import Path

import pytest

from tests.cluster import faults
from tests.e2e import jobs
from tests.e2e.users import Running, User

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

RESTARTS = 3
ABROAD = {"scheduling": {"nodeSelector": {"kubernetes.io/hostname": "node-b"}}}  # tests/cluster/testbed/layout.py
TICKS = """
import itertools, os, time
for number in itertools.count():
    print("tick", number, flush=True)
    time.sleep(0.05)
    if os.path.exists("/tmp/stop"):
        break
"""


def ticks(run: Running) -> list[int]:
    """Return the numbers that the script printed, as they were shown."""
    return [int(line.rpartition(" ")[2]) for line in run.lines if line.startswith(("tick ", "[node 0] tick "))]


def end(user: User, name: str, run: Running) -> None:
    """Let the script end, and see that each of its lines was shown once and in order."""
    user.execute(user.pod(name, 0)["metadata"]["name"], "open('/tmp/stop', 'w').close()")
    assert 0 == run.process.wait(120)
    run.until(f"{name} complete")
    shown = ticks(run)
    assert list(range(len(shown))) == shown
    whole = user.kubectl("logs", f"job/{name}").splitlines()
    assert len(shown) == len([line for line in whole if " tick " in line])


def test_a_log_goes_on_over_kubelets_that_restart(user: User, tmp_path: Path) -> None:
    """A kubelet that has just started answers 404 for a second; its Node's stamps carry their own offset."""
    file = jobs.write(tmp_path, "kubelet", TICKS, image=user.cluster.image, **ABROAD)
    with user.running("run", str(file)) as run:
        run.until("tick 20")
        pod = user.pod("kubelet", 0)["metadata"]["name"]
        stamped = user.kubectl("logs", pod, "--timestamps", "--tail=1")
        assert "+05:30 " in stamped
        for _ in range(RESTARTS):
            with faults.component_down(user.cluster, "kubelet-node-b"):
                pass
            last = ticks(run)[-1]
            run.until(f"tick {last + 20}")
        end(user, "kubelet", run)
        told = [
            line for line in run.lines if "unable to retrieve container logs" in line or "resolving symlinks" in line
        ]
        assert [] == told


def test_an_api_server_that_is_away_is_said_and_costs_no_line(user: User, tmp_path: Path) -> None:
    """One line after five seconds, one when it is back; the log goes on where it was."""
    file = jobs.write(tmp_path, "away", TICKS, image=user.cluster.image, **ABROAD)
    with user.running("run", str(file)) as run:
        run.until("tick 20")
        with faults.component_down(user.cluster, "apiserver"):
            run.until("the API server does not answer since ", "; the job runs on", seconds=30)
        run.until("the API server answers again, after ")
        last = ticks(run)[-1]
        run.until(f"tick {last + 20}")
        end(user, "away", run)


def test_tail_of_a_rank_is_lines_of_that_rank(user: User, tmp_path: Path) -> None:
    """Among eight ranks of one node, which print by turns."""
    script = "import os\nfor step in range(40):\n    print('rank', os.environ['RANK'], 'step', step, flush=True)\n"
    file = jobs.write(tmp_path, "tail", script, image=user.cluster.image, nprocPerNode=4, launcher="direct")
    assert 0 == user.k8sddp("run", str(file)).code
    ended = user.k8sddp("logs", "tail", "--rank", "2", "--tail", "5")
    assert [f"rank 2 step {step}" for step in range(35, 40)] == ended.out.splitlines()
