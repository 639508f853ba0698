"""Pods that are drained, evicted, deleted and preempted while they train: every rank of the gang saves, and it is free.

Two pods of two ranks each, with DataLoader workers. The stopped pod's ranks get SIGTERM, and the others because their
node is told; all agree on a step, and one rank leaves with a code long before its neighbour has saved. The grace period
is longer than a test may take, so a pod that waits for more than its ranks fails it.

Without K8SDDP_TEST_REPEATS each launcher is stopped in one way; K8SDDP_TEST_REPEATS=5 does everything five times.
"""

import json
import os
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path

import pytest

from tests import saving
from tests.e2e import jobs
from tests.e2e.users import LIMIT, User, eventually

pytestmark = [pytest.mark.cluster, pytest.mark.torch, pytest.mark.timeout(600)]

REPEATS = int(os.environ.get("K8SDDP_TEST_REPEATS", "0"))
GRACE = 1200  # seconds
PRIORITY = "e2e-saving"


def drain(user: User, pod: str) -> None:
    """Do what somebody does who takes a Kubernetes Node out of service."""
    kube_node = user.object("pod", pod)["spec"]["nodeName"]
    try:
        admin = ("drain", kube_node, "--ignore-daemonsets", "--delete-emptydir-data", f"--timeout={LIMIT:g}s")
        user.cluster.kubectl(*admin, "--pod-selector=k8sddp.dev/job", timeout=LIMIT + 10)
    finally:
        user.cluster.kubectl("uncordon", kube_node)


def evict(user: User, pod: str) -> None:
    """Do what an autoscaler does."""
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": user.namespace}}
    path = f"/api/v1/namespaces/{user.namespace}/pods/{pod}/eviction"
    user.cluster.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(eviction))


def delete(user: User, pod: str) -> None:
    """Do what somebody does who clears up."""
    user.kubectl("delete", "pod", pod, "--wait=false")


def preempt(user: User, pod: str) -> None:
    """Ask for what is free on the pod's Kubernetes Node and a little more, with a higher priority."""
    kube_node = user.object("pod", pod)["spec"]["nodeName"]
    there = json.loads(
        user.cluster.kubectl("get", "pods", "-A", f"--field-selector=spec.nodeName={kube_node}", "--output=json")
    )["items"]
    living = [one for one in there if one["status"]["phase"] in ("Pending", "Running")]
    taken = sum(millicores(box["resources"].get("requests", {})) for one in living for box in one["spec"]["containers"])
    allocatable = millicores(
        json.loads(user.cluster.kubectl("get", "node", kube_node, "-o", "json"))["status"]["allocatable"]
    )
    safe = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    box = {
        "name": "main",
        "image": user.cluster.image,
        "command": ["python3", "-c", "pass"],
        "resources": {"requests": {"cpu": f"{allocatable - taken + 100}m"}},
        "securityContext": {
            **safe,
            "runAsNonRoot": True,
            "runAsUser": 1000,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    spec = {
        "priorityClassName": PRIORITY,
        "nodeSelector": {"kubernetes.io/hostname": kube_node},
        "restartPolicy": "Never",
        "containers": [box],
    }
    more_important = {"apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "urgent-"}, "spec": spec}
    user.kubectl("create", "-f", "-", stdin=json.dumps(more_important))


def millicores(amounts: dict[str, str]) -> int:
    """Return the cpu of requests or of what a Kubernetes Node gives, in thousandths."""
    cpu = amounts.get("cpu", "0")
    return int(cpu[:-1]) if cpu.endswith("m") else int(cpu) * 1000


@pytest.fixture(scope="module", autouse=True)
def priority_class(user: User) -> Iterator[None]:
    """Make the priority that preempts, and remove it."""
    made = {
        "apiVersion": "scheduling.k8s.io/v1",
        "kind": "PriorityClass",
        "metadata": {"name": PRIORITY},
        "value": 1000,
    }
    user.cluster.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(made))
    yield
    user.cluster.kubectl("delete", "priorityclass", PRIORITY, "--ignore-not-found")


def cases() -> Iterator[object]:
    """Yield launcher, way, index of the stopped pod and number of the repetition."""
    ways = (drain, evict, delete, preempt)
    few = {("torchrun", drain), ("spawn", evict), ("direct", preempt)}
    for number in range(max(1, REPEATS)):
        for place, launcher in enumerate(("torchrun", "spawn", "direct")):
            for turn, way in enumerate(ways):
                if REPEATS or (launcher, way) in few:
                    index = (number + place + turn) % 2
                    yield pytest.param(launcher, way, index, number, id=f"{launcher}-{way.__name__}-{number}")


@pytest.mark.parametrize(("launcher", "stop", "index", "number"), list(cases()))
def test_every_rank_saves_when_a_pod_is_stopped(
    user: User, tmp_path: Path, launcher: str, stop: Callable[[User, str], None], index: int, number: int
) -> None:
    """All four ranks say so, the pod ends with the last of its own, and attempt 1 of a budget of one completes."""
    name = f"{launcher}-{stop.__name__}-{number}"
    spec = {
        "nnodes": 2,
        "nprocPerNode": 2,
        "launcher": launcher,
        "restart": {"maxAttempts": 1},
        "terminationGracePeriodSeconds": GRACE,
        "resources": {"cpu": "500m", "memory": "1536Mi"},
    }
    file = jobs.write(tmp_path, name, saving.SCRIPT, image=user.cluster.image, **spec)
    try:
        with user.running("run", str(file)) as run:
            run.until(saving.TRAINS)
            pods = [user.pod(name, node)["metadata"]["name"] for node in range(2)]
            background = futures.ThreadPoolExecutor(1)  # a drain waits for the pod's end
            with background, user.following(pods[0]) as zero, user.following(pods[1]) as one:
                stopping = background.submit(stop, user, pods[index])
                stopped, other = (zero, one) if index == 0 else (one, zero)
                stopped.until("SIGTERM: stopping")
                began = time.monotonic()
                stopped.until("(exit 143)")
                stopped.process.wait(LIMIT)
                took = time.monotonic() - began
                stopping.result(LIMIT)
                other.until("attempt 0 ended", f"(pod {pods[index]})", "was asked to stop (SIGTERM)", "not counted")
                run.until(f"{name} complete after")
                assert 0 == run.process.wait(LIMIT)
                said = sorted(line for line in (*zero.lines, *one.lines) if line.endswith("] saved"))
            lines = [line for line in stopped.lines if "[W" not in line]
        print(f"\n{name}: {len(said)} of 4 ranks saved; SIGTERM to the pod's end {took:.2f} s; {len(lines)} lines")
        assert [f"[rank {rank}] saved" for rank in range(4)] == said
        assert not [line for line in lines if "Traceback" in line or "SignalException" in line]
        now = user.pod(name, index)
        assert pods[index] != now["metadata"]["name"]
        assert now["metadata"]["annotations"].get("batch.kubernetes.io/job-index-failure-count", "0") == "0"
    finally:
        user.k8sddp("delete", name)
        user.kubectl("delete", "pods", "--all", "--wait=false", "--grace-period=0", "--force")
        eventually(lambda: user.pods(name), lambda found: not found)
