"""Break a test bed on purpose, and always mend it.

Every fault that can be undone is a context manager whose end restores what it broke, also when the test inside fails.
Faults are given to the thing itself (SIGKILL, the freezer, packet filter rules in the pod's own network namespace),
never through Kubernetes' API: Kubernetes is to find out. Only the test bed backend can do this; elsewhere each raises
ClusterUnavailableError.
"""

import contextlib
import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.cluster import lifecycle
from tests.cluster.clusters import Cluster
from tests.cluster.errors import ClusterError, ClusterUnavailableError
from tests.cluster.testbed import bringup, cgroups, components, layout, namespaces, processes

NODE_COMPONENTS = ("containerd", "kubelet")  # in the order of their start
HALT_SECONDS = 10


@contextlib.contextmanager
def component_down(cluster: Cluster, name: str) -> Iterator[None]:
    """Kill `apiserver`, `etcd`, `coredns`, `kubelet-node-a`, ... and start it again at the end; containers live on."""
    lay = _layout(cluster)
    component = components.named(lay, name)
    try:
        _kill(lay, component)
        yield
    finally:
        _mend(lay, component)
        if name == "etcd":
            bringup.wait_ready(lay, components.apiserver(lay))
        kube_node = name.partition("-")[2]
        if kube_node in layout.NODE_ADDRESSES:
            bringup.wait_nodes_ready(lay, (kube_node,))


@contextlib.contextmanager
def node_lost(cluster: Cluster, kube_node: str) -> Iterator[None]:
    """Take a Node's power: containerd, kubelet and every container at once; it boots again at the end.

    For a Node that is only unreachable, whose containers live on, take `component_down(cluster, "kubelet-NODE")`.
    """
    lay = _layout(cluster)
    down = [components.named(lay, f"{kind}-{kube_node}") for kind in NODE_COMPONENTS]
    try:
        for component in reversed(down):
            _kill(lay, component)
        _kill_containers(lay, kube_node)
        yield
    finally:
        for component in down:
            _mend(lay, component)
        bringup.wait_nodes_ready(lay, (kube_node,))


def pod_processes(cluster: Cluster, namespace: str, pod: str, *, containing: str = "") -> tuple[processes.Process, ...]:
    """Return the processes of a pod's containers whose command line contains the text, oldest first."""
    everything = (process for process in _in_pod(cluster, namespace, pod) if process.program != "pause")
    chosen = (process for process in everything if containing in " ".join(process.argv))
    return tuple(sorted(chosen, key=lambda process: (process.started, process.pid)))


def kill(process: processes.Process) -> None:
    """SIGKILL a process for good."""
    if processes.kill_all((process,)):
        raise ClusterError(f"pid {process.pid} ({process.program}): still runs after SIGKILL")


@contextlib.contextmanager
def stopped(process: processes.Process) -> Iterator[None]:
    """SIGSTOP a process; it can see that it was stopped, and a debugger can too."""
    try:
        processes.send(process, signal.SIGSTOP)
        bringup.poll(f"pid {process.pid} ({process.program}): not stopped", HALT_SECONDS, lambda: _is_stopped(process))
        yield
    finally:
        processes.send(process, signal.SIGCONT)


@contextlib.contextmanager
def frozen(cluster: Cluster, namespace: str, pod: str) -> Iterator[None]:
    """Freeze all processes of a pod with the kernel's freezer: they notice nothing but the time that has passed."""
    lay = _layout(cluster)
    folders = _pod_cgroups(lay, pod, _uid(cluster, namespace, pod))
    try:
        for folder in folders:
            _freeze(folder, frozen_now=True)
        what = f"pod {namespace}/{pod}: not frozen"
        bringup.poll(what, HALT_SECONDS, lambda: all(_is_frozen(folder) for folder in folders))
        yield
    finally:
        for folder in folders:
            with contextlib.suppress(OSError):  # the pod, and its cgroup, may be gone
                _freeze(folder, frozen_now=False)


@contextlib.contextmanager
def cut_from(cluster: Cluster, namespace: str, pod: str, *, address: str) -> Iterator[None]:
    """Drop every packet between a pod and an address, silently, both ways."""
    rules = f"ip saddr {address} drop; ip daddr {address} drop"
    with _filtered(cluster, namespace, pod, rules):
        yield


@contextlib.contextmanager
def cut_from_dns(cluster: Cluster, namespace: str, pod: str) -> Iterator[None]:
    """Drop what a pod asks any name server."""
    with _filtered(cluster, namespace, pod, "udp dport 53 drop; tcp dport 53 drop"):
        yield


@contextlib.contextmanager
def ports_closed(
    cluster: Cluster, namespace: str, pod: str, *, first: int, last: int, silently: bool = False
) -> Iterator[None]:
    """Refuse TCP connections to and from a pod at these ports, as a firewall does that rejects, or that drops."""
    verdict = "drop" if silently else "reject with tcp reset"
    rules = f"tcp dport {first}-{last} tcp flags & (syn | ack) == syn {verdict}"
    with _filtered(cluster, namespace, pod, rules):
        yield


@contextlib.contextmanager
def _filtered(cluster: Cluster, namespace: str, pod: str, rules: str) -> Iterator[None]:
    table = "inet k8sddp_fault"
    chain = "chain {0} {{ type filter hook {0} priority 0; {1}; }}\n"
    chains = "".join(chain.format(hook, rules) for hook in ("input", "output"))
    members = _in_pod(cluster, namespace, pod)
    if not members:
        raise ClusterError(f"pod {namespace}/{pod}: no process of it runs")
    with Path(f"/proc/{members[0].pid}/ns/net").open() as network:  # held open: the pod may die before the end
        enter = ("nsenter", f"--net=/proc/self/fd/{network.fileno()}", "nft")
        _nft(enter, network.fileno(), f"table {table} {{ {chains}}}")
        try:
            yield
        finally:
            _nft(enter, network.fileno(), f"delete table {table}")


def _nft(enter: tuple[str, ...], descriptor: int, rules: str) -> None:
    argv = (*enter, "-f", "-")
    done = subprocess.run(argv, input=rules, pass_fds=(descriptor,), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ClusterError(f"nft: exit {done.returncode}: {done.stderr.strip()}")


def _freeze(folder: Path, *, frozen_now: bool) -> None:
    if (folder / "freezer.state").exists():
        (folder / "freezer.state").write_text("FROZEN" if frozen_now else "THAWED")
    elif (folder / "cgroup.freeze").exists():
        (folder / "cgroup.freeze").write_text("1" if frozen_now else "0")


def _is_frozen(folder: Path) -> bool:
    # What was written is only asked for: a process in the kernel freezes when it leaves it.
    if (folder / "freezer.state").exists():
        return (folder / "freezer.state").read_text().strip() == "FROZEN"
    return "frozen 1" in (folder / "cgroup.events").read_text().splitlines()


def _is_stopped(process: processes.Process) -> bool:
    now = processes.find(process.pid)
    return now is not None and (now.started, now.state) == (process.started, "T")


def _pod_cgroups(lay: layout.Layout, pod: str, uid: str) -> tuple[Path, ...]:
    """Return the pod's cgroups that have a freezer.

    On a hybrid machine that is the old freezer alone: what it holds never counts as frozen in the unified hierarchy.
    """
    tops = [hierarchy.path / lay.cgroup for hierarchy in cgroups.hierarchies()]
    found = [folder for top in tops for folder in top.rglob(f"pod{uid}")]
    old = [folder for folder in found if (folder / "freezer.state").exists()]
    freezers = old or [folder for folder in found if (folder / "cgroup.freeze").exists()]
    if not freezers:
        raise ClusterError(f"pod {pod}: has no cgroup with a freezer")
    return tuple(freezers)


def _in_pod(cluster: Cluster, namespace: str, pod: str) -> tuple[processes.Process, ...]:
    # A container has a PID namespace of its own below the test bed's; our cgroup is what tells that it is ours.
    ours = processes.in_cgroup(processes.every(), f"/{_layout(cluster).cgroup}/")
    return processes.in_cgroup(ours, f"/pod{_uid(cluster, namespace, pod)}")


def _uid(cluster: Cluster, namespace: str, pod: str) -> str:
    found = json.loads(cluster.kubectl("get", "pod", pod, f"--namespace={namespace}", "--output=json"))
    uid: str = found["metadata"]["uid"]
    return uid


def _kill(lay: layout.Layout, component: components.Component) -> None:
    for process in _running(lay, component):
        kill(process)


def _kill_containers(lay: layout.Layout, kube_node: str) -> None:
    inside = processes.in_namespace(bringup.found(lay).first)
    shims = [process for process in inside if processes.variable(process, namespaces.MARK) == f"containerd-{kube_node}"]
    cgroup = f"/{lay.cgroup}/{kube_node}"
    cgroups.thaw(cgroup.lstrip("/"))
    if left := processes.kill_all((*shims, *processes.in_cgroup(processes.every(), f"{cgroup}/"))):
        raise ClusterError(f"pid {left[0].pid} ({left[0].program}) of {kube_node}: still runs after SIGKILL")


def _mend(lay: layout.Layout, component: components.Component) -> None:
    if not _running(lay, component):  # it runs where the fault itself failed half-way
        bringup.start_component(lay, component)
    bringup.wait_ready(lay, component)


def _running(lay: layout.Layout, component: components.Component) -> tuple[processes.Process, ...]:
    program = Path(component.argv[0]).name
    return tuple(
        process
        for process in processes.in_namespace(bringup.found(lay).first)
        if process.program == program and processes.variable(process, namespaces.MARK) == component.name
    )


def _layout(cluster: Cluster) -> layout.Layout:
    if cluster.backend != "testbed":
        raise ClusterUnavailableError(f"faults need the test bed, and this is {cluster.backend}: unset its variables")
    return layout.load(lifecycle.folder("testbed"), cluster.name)
