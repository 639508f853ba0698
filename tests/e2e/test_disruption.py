"""A gang whose pod is stopped or lost: the others keep their pods, and the gang goes on with the Job's replacement.

A stop is a disruption: the pod leaves with 143, which the Job ignores, and no attempt is counted, so it holds for a job
of one attempt too. A pod that dies of its own counts. The Job makes the new pod after its back-off of ten seconds.
"""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cluster import faults
from tests.e2e import jobs
from tests.e2e.users import LIMIT, User, eventually

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

TERMINATE = "import os, signal; os.kill(1, signal.SIGTERM)"
SLOW = """
import signal, sys, time

def save(*_):
    print("saved", flush=True)
    sys.exit(0)

signal.signal(signal.SIGTERM, save)
print("up", flush=True)
time.sleep(600)
"""


ONCE = """
import os, time
print("up", flush=True)
if os.environ["K8SDDP_ATTEMPT"] == "0":
    time.sleep(600)
"""


def send_sigterm(user: User, pod: str) -> None:
    """Do what the kubelet does to a container that is to stop."""
    user.execute(pod, TERMINATE)


def delete_pod(user: User, pod: str) -> None:
    """Do what somebody does who clears up."""
    user.kubectl("delete", "pod", pod, "--wait=false")


def exit_code(user: User, pod: str) -> int:
    """Return what the pod's container ends with."""
    user.kubectl("wait", "--for=jsonpath={.status.phase}=Failed", f"--timeout={LIMIT - 5:g}s", f"pod/{pod}")
    (container,) = user.object("pod", pod)["status"]["containerStatuses"]
    return int(container["state"]["terminated"]["exitCode"])


@pytest.mark.parametrize(("index", "stop"), [(0, send_sigterm), (1, delete_pod)], ids=["node 0 asked", "pod 1 deleted"])
def test_a_stopped_pod_leaves_alone_and_is_not_called_a_failure(
    user: User, tmp_path: Path, index: int, stop: Callable[[User, str], None]
) -> None:
    """`run` and `get` say what is awaited, the ranks may save, the other pod stays, and attempt 1 trains."""
    name = ("asked", "deleted")[index]
    file = jobs.write(tmp_path, name, SLOW, image=user.cluster.image, nnodes=2, restart={"maxAttempts": 1})
    with user.running("run", "--no-replace", str(file)) as run:
        run.until("[node 0] up")
        user.await_ready(name, 2)
        first = [user.pod(name, node)["metadata"]["name"] for node in range(2)]
        stop(user, first[index])
        run.until("[node 0] saved")
        # the log and the watch are two connections: either line may be the first
        waits = f"node {index}"
        eventually(
            lambda: [line for line in run.lines if line.startswith("waiting ") and waits in line],
            lambda seen: "; the Job makes a new " in str(seen),
        )
        shown = user.k8sddp("get", name).out
        assert "Failing" not in shown
        assert "first failure" not in shown
        if stop is send_sigterm:
            assert 143 == exit_code(user, first[index])
        run.until("[node 0] up")
        user.await_ready(name, 2)
        now = [user.pod(name, node)["metadata"]["name"] for node in range(2)]
        assert (first[1 - index], True) == (now[1 - index], first[index] != now[index])
        said = (
            f"attempt 0 ended: node {index} (pod {first[index]}) was asked to stop (SIGTERM); a disruption, not counted"
        )
        assert said in user.kubectl("logs", first[1 - index])
        assert 130 == run.interrupt()


@pytest.mark.parametrize("max_attempts", [1, 2], ids=["the only attempt", "one of two"])
def test_a_worker_that_is_killed_costs_an_attempt(user: User, tmp_path: Path, max_attempts: int) -> None:
    """SIGKILL of all of pod 1: nobody inside can report it; the Job's count does, and `run` and `get` name that pod."""
    if user.cluster.backend != "testbed":
        pytest.skip("only on the test bed can a test kill the first process of a container")
    name = f"killed-{max_attempts}"
    file = jobs.write(
        tmp_path, name, jobs.HOLD, image=user.cluster.image, nnodes=2, restart={"maxAttempts": max_attempts}
    )
    with user.running("run", "--no-replace", str(file)) as run:
        run.until("[node 0] up")
        user.await_ready(name, 2)
        pod = user.pod(name, 1)["metadata"]["name"]
        faults.kill(faults.pod_processes(user.cluster, user.namespace, pod, containing="worker.pyz")[0])
        if max_attempts == 1:
            end = run.until(f"{name} failed after ")
            assert pod in end
            assert run.process.wait(LIMIT) not in (0, 130)
            assert f"first failure: {end.partition(': ')[2]}" in user.k8sddp("get", name).out
        else:
            run.until("[node 0] up")
            user.await_ready(name, 2)
            said = f"attempt 0 ended: node 1 (pod {pod}"
            assert said in user.kubectl("logs", user.pod(name, 0)["metadata"]["name"])
            assert 130 == run.interrupt()


@pytest.mark.parametrize("index", [0, 1], ids=["pod 0", "pod 1"])
def test_an_attached_run_replaces_a_lost_pod_at_once(user: User, tmp_path: Path, index: int) -> None:
    """The index gets one new pod, with the Job's own counts; attempt 1 trains and the job completes."""
    if user.cluster.backend != "testbed":
        pytest.skip("only on the test bed can a test kill the first process of a container")
    name = f"replaced-{index}"
    file = jobs.write(tmp_path, name, ONCE, image=user.cluster.image, nnodes=2, restart={"maxAttempts": 2})
    with user.running("run", str(file)) as run:
        run.until("[node 0] up")
        user.await_ready(name, 2)
        pod = user.pod(name, index)
        old = pod["metadata"]["name"]
        faults.kill(faults.pod_processes(user.cluster, user.namespace, old, containing="worker.pyz")[0])
        killed = time.monotonic()
        new = run.until(f"pod {old}", "; replaced by ").rpartition(" ")[2]
        print(f"pod {index} killed; replaced after {time.monotonic() - killed:.2f} s")
        run.until(f"{name} complete after")
        assert 0 == run.process.wait(LIMIT)
    found = [one for one in user.pods(name) if one["metadata"]["name"].startswith(f"{name}-{index}-")]
    assert {new} == {one["metadata"]["name"] for one in found} - {old}
    assert "1" == found[-1]["metadata"]["annotations"]["batch.kubernetes.io/job-index-failure-count"]
