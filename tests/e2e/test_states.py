"""What `get` and `run` say while a node is away, frozen, lost, evicted or silent: each told apart, on a real cluster.

Nobody is attached but where a test says so: the Job alone never replaces a pod on a dead Kubernetes Node, and the user
must be told what helps. These faults come from outside the pods, so most need the test bed.
"""

import json
import shlex
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import faults
from tests.e2e import jobs
from tests.e2e.users import User, eventually

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]

QUIET = "import time\ntime.sleep(30)\nprint('at last', flush=True)\n"


@pytest.fixture
def bed(user: User) -> Iterator[User]:
    """Give the user of a test bed, where the Kubernetes Nodes are ours to break."""
    if user.cluster.backend != "testbed":
        pytest.skip(f"a Kubernetes Node is broken: that needs the test bed, and this is {user.cluster.backend}")
    yield user


def hold(user: User, folder: Path, name: str) -> tuple[str, str]:
    """Apply a gang of two that trains and prints once; return pod 1 and its Kubernetes Node."""
    assert 0 == user.k8sddp("apply", str(jobs.write(folder, name, jobs.HOLD, image=user.cluster.image, nnodes=2))).code
    user.await_ready(name, 2)
    pods = [user.pod(name, index) for index in range(2)]
    assert pods[0]["spec"]["nodeName"] != pods[1]["spec"]["nodeName"]
    return pods[1]["metadata"]["name"], pods[1]["spec"]["nodeName"]


def names(user: User, job: str) -> list[str]:
    """Return the names of all pods of a job."""
    return [str(pod["metadata"]["name"]) for pod in user.pods(job)]


def row(shown: str, node: int) -> list[str]:
    """Return the columns of a node in what `get NAME` shows."""
    return next(line.split() for line in shown.splitlines() if line.startswith(f"{node} "))


def test_a_kube_node_that_is_away_is_told_from_one_that_is_dead(bed: User, tmp_path: Path) -> None:
    """Its kubelet away: Unreachable, and ranks train on. Its time up: both ways out, and what is printed works."""
    name = "dead"
    pod, kube_node = hold(bed, tmp_path, name)
    with faults.node_lost(bed.cluster, kube_node):
        shown = eventually(lambda: bed.k8sddp("get", name).out, lambda out: "does not answer" in out)
        print(shown)
        assert "Unreachable" == row(shown, 1)[4]
        assert f"node 1 (pod {pod}): its Kubernetes Node {kube_node} does not answer; if it stays so for 30 s" in shown
        shown = eventually(lambda: bed.k8sddp("get", name).out, lambda out: "`k8sddp run FILE`" in out)
        print(shown)
        (line,) = [one for one in shown.splitlines() if one.startswith("waiting ")]
        assert f"node 1 (pod {pod}): given up with its Kubernetes Node {kube_node}, which does not answer; " in line
        by_hand = line.split("`")[3]
        assert pod == bed.pod(name, 1)["metadata"]["name"]  # nobody has replaced it
        for command in by_hand.split(" && "):
            bed.kubectl(*shlex.split(command)[1:])
        eventually(lambda: names(bed, name), lambda found: len(found) == 2 and pod not in found)
        bed.await_ready(name, 2)
    assert 0 == bed.k8sddp("delete", name).code


def test_a_frozen_worker_is_called_frozen(bed: User, tmp_path: Path) -> None:
    """Its Kubernetes Node is well, and the kubelet hears nothing of the worker."""
    name = "frozen"
    pod, _ = hold(bed, tmp_path, name)
    with faults.frozen(bed.cluster, bed.namespace, pod):
        shown = eventually(lambda: bed.k8sddp("get", name).out, lambda out: "Frozen" in out)
        print(shown)
        assert ["Frozen", "answers", "no", "probe"] == row(shown, 1)[4:]
        assert f"node 1 (pod {pod}): its worker answers no probe" in shown
    assert 0 == bed.k8sddp("delete", name).code


def test_an_evicted_gang_shows_its_restarts_while_it_runs(user: User, tmp_path: Path) -> None:
    """The third eviction of an endless job looks like the third, not like a job that has just begun."""
    name = "evicted"
    hold(user, tmp_path, name)
    assert "0" == user.k8sddp("get", name).out.splitlines()[1].split()[3]
    pod = user.pod(name, 1)["metadata"]["name"]
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": user.namespace}}
    path = f"/api/v1/namespaces/{user.namespace}/pods/{pod}/eviction"
    user.kubectl("create", "--raw", path, "--filename=-", stdin=json.dumps(eviction))
    eventually(lambda: {*names(user, name)} - {pod}, lambda found: len(found) == 2)
    user.await_ready(name, 2)
    shown = eventually(lambda: user.k8sddp("get", name).out, lambda out: "running: attempt 1" in out)
    print(shown)
    assert [name, "Running", "2/2", "1"] == shown.splitlines()[1].split()[:4]
    assert [name, "Running", "2/2", "1"] == user.k8sddp("get").out.splitlines()[1].split()[:4]
    (ended,) = [line for line in shown.splitlines() if line.startswith("attempt 0 ended: ")]
    assert ended.endswith("(a disruption, not counted)")
    assert "; 0 of 4 attempts used" in shown
    assert 0 == user.k8sddp("delete", name).code


def test_run_explains_a_silent_log_and_a_complete_job_is_ready(user: User, tmp_path: Path) -> None:
    """Nothing is printed for half a minute: what the ranks do is said. After the end nothing waits."""
    name = "quiet"
    started = time.monotonic()
    ran = user.k8sddp("run", str(jobs.write(tmp_path, name, QUIET, image=user.cluster.image, nnodes=2)))
    print(f"{time.monotonic() - started:.0f} s\n{ran.err}")
    assert (0, "[node 0] at last\n") == (ran.code, ran.out)
    (quiet, *_) = [line for line in ran.err.splitlines() if line.startswith("no output for ")]
    assert ": attempt 0, rank 0 " in quiet
    assert f"job.batch/{name} created (service, configmap, networkpolicy)" in ran.err.splitlines()
    _, end, after = ran.err.partition(f"{name} complete after ")
    assert end
    assert "waiting" not in after
    assert [name, "Complete", "2/2", "0"] == user.k8sddp("get").out.splitlines()[1].split()[:4]
    assert "waiting" not in user.k8sddp("get", name).out
