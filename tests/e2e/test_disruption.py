"""A gang whose pod is stopped from outside: nothing has failed, and the Job starts the whole gang anew.

That holds for a job of one attempt too: a disruption is no attempt that failed. Every member leaves (143 the one that
was asked, 79 the others), the Job ignores both codes, and makes new pods after its back-off of ten seconds.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cluster import faults
from tests.e2e import jobs
from tests.e2e.users import LIMIT, User

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
def test_a_stopped_pod_restarts_the_gang_and_is_not_called_a_failure(
    user: User, tmp_path: Path, index: int, stop: Callable[[User, str], None]
) -> None:
    """`run` and `get` say what is awaited, the ranks may save, and both nodes are ready again with new pods."""
    name = ("asked", "deleted")[index]
    file = jobs.write(tmp_path, name, SLOW, image=user.cluster.image, nnodes=2)
    with user.running("run", str(file)) as run:
        run.until("[node 0] up")
        user.await_ready(name, 2)
        first = [user.pod(name, node)["metadata"]["name"] for node in range(2)]
        stop(user, first[index])
        run.until(f"node {index} (pod {first[index]}) was asked to stop (SIGTERM)")
        run.until("[node 0] saved" if index == 0 else "job deleted stopped (exit 79)")
        run.until("waiting: pod ", "; its replacement comes" if stop is delete_pod else "; the Job makes a new one")
        shown = user.k8sddp("get", name).out
        assert "Failing" not in shown
        assert "first failure" not in shown
        left = {node: exit_code(user, pod) for node, pod in enumerate(first) if stop is send_sigterm or node != index}
        assert {index: 143, 1 - index: 79} == {index: 143, **left}
        run.until("[node 0] up")
        user.await_ready(name, 2)
        assert set(first).isdisjoint(user.pod(name, node)["metadata"]["name"] for node in range(2))
        assert 130 == run.interrupt()


def test_a_worker_that_is_killed_is_named_with_its_pod(user: User, tmp_path: Path) -> None:
    """SIGKILL of all of pod 1: nobody inside can report it; `run` ends, and it and `get` name that pod."""
    if user.cluster.backend != "testbed":
        pytest.skip("only on the test bed can a test kill the first process of a container")
    file = jobs.write(tmp_path, "killed", jobs.HOLD, image=user.cluster.image, nnodes=2)
    with user.running("run", str(file)) as run:
        run.until("[node 0] up")
        user.await_ready("killed", 2)
        pod = user.pod("killed", 1)["metadata"]["name"]
        faults.kill(faults.pod_processes(user.cluster, user.namespace, pod, containing="worker.pyz")[0])
        end = run.until("killed failed after ")
        assert pod in end
        assert run.process.wait(LIMIT) not in (0, 130)
    assert f"first failure: {end.partition(': ')[2]}" in user.k8sddp("get", "killed").out
