"""Each fault does what it says, Kubernetes notices, and afterwards all is as before."""

from pathlib import Path

import pytest

from tests.cluster import faults, lifecycle, pods
from tests.cluster.clusters import Cluster
from tests.cluster.errors import ClusterError
from tests.cluster.testbed import bed, bringup, layout, namespaces, processes

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]

# What a pod is asked prints its answer, or that there was none: an exec that fails would print nothing.
LOOK_UP = """
import socket
try:
    print(socket.getaddrinfo("kubernetes.default.svc.cluster.local", 1)[0][4][0])
except socket.gaierror as error:
    print("no answer" if error.errno == socket.EAI_AGAIN else error)
"""
DIAL = """
import socket
try:
    socket.create_connection(("{address}", 8000), 2)
    print("connected")
except TimeoutError:
    print("no answer")
"""
SERVE = "import http.server; http.server.test(HandlerClass=http.server.SimpleHTTPRequestHandler, port=8000)"
TICK = "import time\nwhile True: print('tick', flush=True); time.sleep(0.02)"


@pytest.fixture(autouse=True)
def _only_on_the_test_bed(cluster: Cluster) -> None:
    if cluster.backend != "testbed":
        pytest.skip(f"faults are made on the test bed only, and this is {cluster.backend}")


def node_is_ready(cluster: Cluster, kube_node: str) -> str:
    """Return the status of a Node's Ready condition."""
    path = '{.status.conditions[?(@.type=="Ready")].status}'
    return cluster.kubectl("get", "node", kube_node, f"--output=jsonpath={path}")


def run_pod(cluster: Cluster, namespace: str, program: str, *, name: str = "main") -> None:
    """Run one pod and wait until it is Ready."""
    pods.create(cluster, namespace, [pods.make_pod(name, program, image=cluster.image, kube_node=cluster.nodes[0])])
    pods.wait(cluster, namespace, "condition=Ready", name)


def turns(process: processes.Process) -> int:
    """Return how often the kernel took a process off a processor: the number stays while it does not run."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if "ctxt_switches" in line)


def component_pids(cluster: Cluster, kube_node: str) -> dict[str, list[int]]:
    """Return the pids of a Node's kubelet and containerd."""
    lay = layout.load(lifecycle.folder("testbed"), cluster.name)
    inside = processes.in_namespace(bringup.found(lay).first)
    return {
        program: [
            process.pid
            for process in inside
            if process.program == program and processes.variable(process, namespaces.MARK) == f"{program}-{kube_node}"
        ]
        for program in faults.NODE_COMPONENTS
    }


@pytest.mark.parametrize("component", ["kubelet", "containerd"])
def test_containers_outlive_their_kubelet_and_containerd(
    cluster: Cluster, restricted_namespace: str, component: str
) -> None:
    """A pod's process is the same before and after; exec works again."""
    run_pod(cluster, restricted_namespace, pods.SLEEP)
    before = faults.pod_processes(cluster, restricted_namespace, "main")
    with faults.component_down(cluster, f"{component}-{cluster.nodes[0]}"), pytest.raises(ClusterError):
        pods.execute(cluster, restricted_namespace, "main", "print(1)")
    after = faults.pod_processes(cluster, restricted_namespace, "main")
    assert 1 == len(before)
    assert [process.pid for process in before] == [process.pid for process in after]
    assert "1" == pods.eventually(lambda: pods.execute(cluster, restricted_namespace, "main", "print(1)"))


@pytest.mark.parametrize("component", ["apiserver", "etcd"])
def test_the_api_server_comes_back(cluster: Cluster, component: str) -> None:
    """While it or etcd is down no Node can be read; afterwards both are still there."""
    with faults.component_down(cluster, component), pytest.raises(ClusterError):
        cluster.kubectl("get", "node", cluster.nodes[0], "--request-timeout=3s")
    nodes = cluster.kubectl("get", "nodes", "--output=name").split()
    assert [f"node/{node}" for node in cluster.nodes] == nodes


def test_names_do_not_resolve_without_coredns(cluster: Cluster, restricted_namespace: str) -> None:
    """A look-up fails while CoreDNS is down and works after."""
    run_pod(cluster, restricted_namespace, pods.SLEEP)
    with faults.component_down(cluster, "coredns"):
        assert "no answer" == pods.execute(cluster, restricted_namespace, "main", LOOK_UP)
    assert layout.API_SERVICE == pods.execute(cluster, restricted_namespace, "main", LOOK_UP)


def test_a_pod_is_cut_from_dns(cluster: Cluster, restricted_namespace: str) -> None:
    """Only that pod's look-ups are dropped, and only meanwhile."""
    run_pod(cluster, restricted_namespace, pods.SLEEP)
    run_pod(cluster, restricted_namespace, pods.SLEEP, name="other")
    with faults.cut_from_dns(cluster, restricted_namespace, "main"):
        assert "no answer" == pods.execute(cluster, restricted_namespace, "main", LOOK_UP)
        assert layout.API_SERVICE == pods.execute(cluster, restricted_namespace, "other", LOOK_UP)
    assert layout.API_SERVICE == pods.execute(cluster, restricted_namespace, "main", LOOK_UP)


def test_a_pod_is_cut_from_another(cluster: Cluster, restricted_namespace: str) -> None:
    """A connection that worked hangs meanwhile, and works again after."""
    space = restricted_namespace
    run_pod(cluster, space, SERVE, name="server")
    run_pod(cluster, space, pods.SLEEP)
    address = cluster.kubectl("get", "pod", "server", f"--namespace={space}", "--output=jsonpath={.status.podIP}")
    dial = DIAL.format(address=address)
    assert "connected" == pods.eventually(lambda: pods.execute(cluster, space, "main", dial))
    with faults.cut_from(cluster, space, "main", address=address):
        assert "no answer" == pods.execute(cluster, space, "main", dial)
    assert "connected" == pods.execute(cluster, space, "main", dial)


def test_a_killed_process_ends_its_pod(cluster: Cluster, restricted_namespace: str) -> None:
    """SIGKILL of the container's process shows as exit code 137."""
    run_pod(cluster, restricted_namespace, pods.SLEEP)
    (process,) = faults.pod_processes(cluster, restricted_namespace, "main", containing="sleep(3600)")
    faults.kill(process)
    pods.wait(cluster, restricted_namespace, "jsonpath={.status.phase}=Failed", "main")
    path = "{.status.containerStatuses[0].state.terminated.exitCode}"
    where = f"--namespace={restricted_namespace}"
    assert "137" == cluster.kubectl("get", "pod", "main", where, f"--output=jsonpath={path}")


def test_a_test_bed_in_use_is_not_ended_by_who_wants_to_start_it(cluster: Cluster) -> None:
    """While its API server is down a second starter waits, and then refuses in one sentence."""
    base = lifecycle.folder("testbed")
    refused = pytest.raises(ClusterError, match=f"run `python -m tests.cluster down --name {cluster.name}`")
    with faults.component_down(cluster, "apiserver"), refused:
        bed.running(base, cluster.name, 1)
    assert bed.running(base, cluster.name) is not None


@pytest.mark.parametrize("way", ["stopped", "frozen"])
def test_a_halted_process_says_nothing_and_goes_on(cluster: Cluster, restricted_namespace: str, way: str) -> None:
    """The kernel does not run it while it is halted, which a stopped one shows as its state; it prints more after."""
    space = restricted_namespace
    run_pod(cluster, space, TICK)
    (process,) = faults.pod_processes(cluster, space, "main")

    def lines() -> int:
        return len(cluster.kubectl("logs", "main", f"--namespace={space}").splitlines())

    with faults.stopped(process) if way == "stopped" else faults.frozen(cluster, space, "main"):
        before, state = turns(process), processes.find(process.pid).state
        halted = lines()  # takes longer than a tick
        assert (way == "stopped", before) == (state == "T", turns(process))
    assert pods.eventually(lambda: lines() > halted)


@pytest.mark.parametrize("way", ["stopped", "frozen"])
def test_a_fault_ends_with_the_test_that_fails_in_it(cluster: Cluster, restricted_namespace: str, way: str) -> None:
    """The process goes on, and the failure is seen as it was."""
    space = restricted_namespace
    run_pod(cluster, space, TICK)
    (process,) = faults.pod_processes(cluster, space, "main")
    fault = faults.stopped(process) if way == "stopped" else faults.frozen(cluster, space, "main")
    with pytest.raises(ZeroDivisionError), fault:
        raise ZeroDivisionError
    before = turns(process)
    assert pods.eventually(lambda: turns(process) > before)


def test_a_component_that_still_runs_is_not_started_twice(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault that fails half-way, because a process does not die, is undone as well."""
    kube_node = cluster.nodes[0]

    def refuse(process: processes.Process) -> None:
        if process.program == "containerd":
            raise ClusterError("does not die")
        assert not processes.kill_all((process,))

    monkeypatch.setattr(faults, "kill", refuse)
    before = component_pids(cluster, kube_node)
    with pytest.raises(ClusterError, match="does not die"), faults.node_lost(cluster, kube_node):
        pass
    after = component_pids(cluster, kube_node)
    assert (1, 1) == (len(after["kubelet"]), len(after["containerd"]))
    assert before["containerd"] == after["containerd"]
    assert before["kubelet"] != after["kubelet"]


def test_a_lost_node_is_noticed_and_comes_back(cluster: Cluster, restricted_namespace: str) -> None:
    """Its containers die with it, its Ready condition goes Unknown, and after its return it runs pods again."""
    kube_node = cluster.nodes[0]
    run_pod(cluster, restricted_namespace, pods.SLEEP)
    assert 1 == len(faults.pod_processes(cluster, restricted_namespace, "main"))
    with faults.node_lost(cluster, kube_node):
        assert () == faults.pod_processes(cluster, restricted_namespace, "main")
        assert pods.eventually(lambda: node_is_ready(cluster, kube_node) == "Unknown", 90)
    assert "True" == node_is_ready(cluster, kube_node)
    run_again = pods.make_pod("again", pods.SLEEP, image=cluster.image, kube_node=kube_node)
    pods.create(cluster, restricted_namespace, [run_again])
    pods.wait(cluster, restricted_namespace, "condition=Ready", "again", seconds=90)
