"""Gangs under real torchrun on the real cluster that are broken in every way we know: each time they go on.

Without K8SDDP_TEST_REPEATS a few of the faults are brought about, once each, to keep `make e2e` short, and two others
in turn: K8SDDP_TEST_REPEATS=5 runs all of them, a fault of a rank or pod five times and of the cluster three times.
Faults that come from outside a pod need the test bed.
"""

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests import breaking
from tests.cluster import faults
from tests.cluster.testbed import processes
from tests.e2e import jobs
from tests.e2e.users import LIMIT, Running, User, eventually

pytestmark = [pytest.mark.cluster, pytest.mark.torch, pytest.mark.timeout(400)]

REPEATS = int(os.environ.get("K8SDDP_TEST_REPEATS", "0"))
HOLD = 20  # seconds that attempt 0 trains while a test breaks something
WIDE = {"resources": {"cpu": "500m", "memory": "1536Mi"}}  # two fit on one Kubernetes Node of two cores
UNDISTURBED = "finished in attempt 0"

often = pytest.mark.parametrize("time_of", range(max(1, REPEATS)))
seldom = pytest.mark.parametrize("time_of", range(max(1, min(3, REPEATS))))
on_request = pytest.mark.on_request


@pytest.fixture(autouse=True)
def on_the_test_bed(user: User) -> None:
    """Skip where a test cannot kill what runs the pods."""
    if user.cluster.backend != "testbed":
        pytest.skip(
            f"these faults come from outside the pods: they need the test bed, and this is {user.cluster.backend}"
        )


def write(user: User, folder: Path, name: str, *words: str) -> Path:
    """Write a job of two nodes that runs tests/breaking.py's script."""
    command = ["main.py", *words]
    more = {"command": command, "nnodes": 2, "launcher": "torchrun", **WIDE}
    return jobs.write(folder, name, breaking.SCRIPT, image=user.cluster.image, **more)


@contextlib.contextmanager
def holding(user: User, folder: Path, name: str, *, attempts: int = 1) -> Iterator[Running]:
    """Give an attached `run` whose gang trains in attempt 0; the job is deleted at the end."""
    try:
        with user.running("run", str(write(user, folder, name, "hold", str(HOLD), str(attempts)))) as run:
            run.until("training on in attempt 0")
            yield run
    finally:
        user.k8sddp("delete", name)


def workers(user: User, pods: Sequence[str]) -> list[processes.Process]:
    """Return the first process of each pod."""
    return [faults.pod_processes(user.cluster, user.namespace, pod, containing="worker.pyz")[0] for pod in pods]


def rank_process(user: User, pod: str) -> processes.Process:
    """Return the rank of a pod, which is younger than its launcher."""
    return faults.pod_processes(user.cluster, user.namespace, pod, containing="main.py")[-1]


def name_of(user: User, job: str, index: int) -> str:
    """Return the name of the youngest pod of an index."""
    return str(user.pod(job, index)["metadata"]["name"])


def kube_node_of(user: User, job: str, index: int) -> str:
    """Return the Kubernetes Node of the youngest pod of an index."""
    return str(user.pod(job, index)["spec"]["nodeName"])


def completes(run: Running, name: str, *, seconds: float = LIMIT) -> None:
    """Await that `run` says so and ends with 0."""
    run.until(f"{name} complete after", seconds=seconds)
    assert 0 == run.process.wait(LIMIT)


@often
@pytest.mark.parametrize(
    ("fault", "said"),
    [
        pytest.param("raise", breaking.RAISED, marks=on_request),
        pytest.param("kill", breaking.KILLED, marks=on_request),
        pytest.param("segfault", breaking.SEGFAULT, marks=on_request),
        ("launcher", breaking.KILLED),
        pytest.param("leave", breaking.LEFT_EARLY, marks=on_request),
        pytest.param("hoard", "ran out of memory (OOMKilled, limit 1536Mi)", marks=on_request),
    ],
    ids=["raises", "is killed", "segfaults", "loses its torchrun", "exits with 0 early", "runs out of memory"],
)
def test_a_rank_that_fails_costs_one_attempt_and_no_pod(
    user: User, tmp_path: Path, fault: str, said: str, time_of: int
) -> None:
    """Rank 1 fails in attempt 0: both pods stay, attempt 1 finishes, and `get` names rank 1 alone, with its reason."""
    name = f"{fault}-{time_of}"
    ran = user.k8sddp("run", str(write(user, tmp_path, name, fault, "1")))
    try:
        assert 0 == ran.code, ran
        assert "finished in attempt 1" in ran.out.splitlines()
        assert 2 == len(user.pods(name))
        pod = user.pod(name, 1)
        who = f"(pod {pod['metadata']['name']}, node {pod['spec']['nodeName']})"
        first = "torchrun on node 1" if fault == "launcher" else "rank 1"
        (line,) = [line for line in user.k8sddp("get", name).out.splitlines() if line.startswith("attempt ")]
        assert line.startswith(f"attempt 0 ended: {first} {who} {said}")
    finally:
        user.k8sddp("delete", name)


@often
@pytest.mark.parametrize(
    "victims",
    [pytest.param((1,), marks=on_request), pytest.param((0,), marks=on_request), (0, 1)],
    ids=["pod 1", "pod 0", "both pods"],
)
def test_killed_pods_are_replaced_at_once_while_run_is_attached(
    user: User, tmp_path: Path, victims: tuple[int, ...], time_of: int
) -> None:
    """Each killed pod gets one replacement, the others stay, and the job completes."""
    name = f"pods-{''.join(map(str, victims))}-{time_of}"
    with holding(user, tmp_path, name) as run:
        before = [name_of(user, name, index) for index in range(2)]
        doomed = workers(user, [before[index] for index in victims])
        killed = time.monotonic()
        for process in doomed:
            faults.kill(process)
        replaced = [run.until("; replaced by ").rpartition(" ")[2] for _ in victims]
        for pod in replaced:
            user.kubectl("wait", "--for=jsonpath={.status.phase}=Running", f"--timeout={LIMIT - 5:g}s", f"pod/{pod}")
        print(f"{name}: killed -> replacements Running {time.monotonic() - killed:.2f} s")
        completes(run, name)
        assert {*before, *replaced} == {pod["metadata"]["name"] for pod in user.pods(name)}
        if len(victims) == 1:  # a survivor remembers, and says whose loss it was
            said = f"attempt 0 ended: node {victims[0]} (pod {before[victims[0]]}"
            assert said in user.k8sddp("get", name).out


@on_request
@seldom
def test_a_lost_kube_node_is_left_behind(user: User, tmp_path: Path, time_of: int) -> None:
    """Its pod is replaced on the other Kubernetes Node as soon as Kubernetes gives it up; Job alone never would."""
    name, index = f"node-{time_of}", time_of % 2
    with holding(user, tmp_path, name) as run:
        old, lost = name_of(user, name, index), kube_node_of(user, name, index)
        with faults.node_lost(user.cluster, lost):
            run.until(f"pod {old}", "; replaced by ", seconds=200)
            completes(run, name)
            assert lost != kube_node_of(user, name, index)
    eventually(lambda: user.pods(name), lambda found: not found)


@on_request
@seldom
def test_training_goes_on_while_the_api_server_restarts(user: User, tmp_path: Path, time_of: int) -> None:
    """Nothing in a pod needs the API server; `run` comes back to it and tells the end."""
    name = f"apiserver-{time_of}"
    with holding(user, tmp_path, name) as run:
        with faults.component_down(user.cluster, "apiserver"):
            pass
        run.until(UNDISTURBED)
        completes(run, name)


@on_request
@seldom
def test_training_goes_on_while_kubelet_and_containerd_restart(user: User, tmp_path: Path, time_of: int) -> None:
    """Containers outlive both, and so does the first attempt."""
    name = f"kubelet-{time_of}"
    with holding(user, tmp_path, name) as run:
        kube_node = kube_node_of(user, name, 1)
        for component in ("kubelet", "containerd"):
            with faults.component_down(user.cluster, f"{component}-{kube_node}"):
                pass
        run.until(UNDISTURBED)
        completes(run, name)
        assert 2 == len(user.pods(name))


@on_request
@seldom
def test_a_gang_that_starts_without_dns_waits_for_it(user: User, tmp_path: Path, time_of: int) -> None:
    """Node 1 says which name does not resolve; the first attempt starts once CoreDNS answers."""
    name = f"no-dns-{time_of}"
    try:
        with contextlib.ExitStack() as stack:
            with faults.component_down(user.cluster, "coredns"):
                run = stack.enter_context(user.running("run", str(write(user, tmp_path, name, "hold", "1"))))
                run.until("waiting for node 1 of 2")
                said = f" so far: {name}-0.{name}.{user.namespace}.svc.cluster.local does not resolve"
                eventually(lambda: user.kubectl("logs", name_of(user, name, 1), check=False), lambda log: said in log)
            run.until(UNDISTURBED)
            completes(run, name)
    finally:
        user.k8sddp("delete", name)


@on_request
@seldom
def test_a_gang_restarts_without_dns(user: User, tmp_path: Path, time_of: int) -> None:
    """Members that are connected need no name and ranks have an address: CoreDNS is down all the while."""
    name = f"dns-{time_of}"
    with holding(user, tmp_path, name) as run:
        victim = rank_process(user, name_of(user, name, 1))
        with faults.component_down(user.cluster, "coredns"):
            faults.kill(victim)
            run.until("finished in attempt 1")
        completes(run, name)


@seldom
def test_a_job_deleted_and_applied_again_at_once_is_a_new_gang(user: User, tmp_path: Path, time_of: int) -> None:
    """The same name while the old pods are still going: the new gang completes, and no old pod takes part."""
    name = f"anew-{time_of}"
    with holding(user, tmp_path, name) as first:
        old = {pod["metadata"]["uid"] for pod in user.pods(name)}
        user.kubectl("delete", "job", name, "--wait=false")
        again = user.k8sddp("run", str(write(user, tmp_path, name, "hold", "1")))
        assert 0 == again.code, again
        assert "finished in attempt 0" in again.out.splitlines()
        assert old.isdisjoint(pod["metadata"]["uid"] for pod in user.pods(name))
        assert first.process.wait(LIMIT) not in (0, 130)


@on_request
@seldom
def test_a_pod_that_was_replaced_while_it_slept_ends_when_it_wakes(user: User, tmp_path: Path, time_of: int) -> None:
    """Frozen while it trains, on a Kubernetes Node without its kubelet: its successor trains before it has ended."""
    name = f"sleeps-{time_of}"
    with holding(user, tmp_path, name, attempts=2) as run:
        stale, kube_node = name_of(user, name, 1), kube_node_of(user, name, 1)
        alive = faults.pod_processes(user.cluster, user.namespace, stale)
        with faults.component_down(user.cluster, f"kubelet-{kube_node}"):
            with faults.frozen(user.cluster, user.namespace, stale):
                run.until(f"attempt 0 ended: node 1 (pod {stale}", "its worker said nothing for 20 s")
                run.until(f"pod {stale}", "; replaced by ", seconds=200)
                run.until("training on in attempt 1")
                assert not any(processes.wait_gone(process, 0) for process in alive)
            assert all(processes.wait_gone(process, LIMIT) for process in alive)
            completes(run, name)


@on_request
@seldom
def test_a_stale_pod_is_turned_away(user: User, tmp_path: Path, time_of: int) -> None:
    """Frozen before it could join, replaced, then awake again: it tries to join what trains, and is refused."""
    name = f"stale-{time_of}"
    with contextlib.ExitStack() as stack:
        stack.callback(user.k8sddp, "delete", name)
        frozen = stack.enter_context(contextlib.ExitStack())
        with faults.component_down(user.cluster, "coredns"):
            run = stack.enter_context(user.running("run", str(write(user, tmp_path, name, "hold", str(HOLD)))))
            run.until("waiting for node 1 of 2")
            stale, kube_node = name_of(user, name, 1), kube_node_of(user, name, 1)
            eventually(lambda: user.kubectl("logs", stale, check=False), lambda log: "looks for node 0" in log)
            alive = faults.pod_processes(user.cluster, user.namespace, stale)
            stack.enter_context(faults.component_down(user.cluster, f"kubelet-{kube_node}"))
            frozen.enter_context(faults.frozen(user.cluster, user.namespace, stale))
        run.until(f"pod {stale}", "; replaced by ", seconds=200)
        run.until("training on in attempt 0")
        frozen.close()
        run.until(f"pod {stale}", f"superseded by pod {name_of(user, name, 1)}")
        assert all(processes.wait_gone(process, LIMIT) for process in alive)
        run.until(UNDISTURBED)
        completes(run, name)
