"""The steps that bring a test bed up, and the one that starts a single component again.

The order is what each component needs of the one before; the two containerds load their images while the control plane
starts. Readiness is always asked of the component itself, never assumed after a pause.
"""

import shutil
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.cluster.errors import ClusterError
from tests.cluster.testbed import cgroups, components, configs, layout, namespaces, pki, site_packages

LOGS_KEPT = 5


def bring_up(lay: layout.Layout) -> None:
    """Bring everything up and return when both Nodes are Ready; the state folder must not exist."""
    _write_files(lay)
    cgroups.create(lay.cgroup, layout.NODE_ADDRESSES)
    made = namespaces.create(lay, site_packages.entries())
    default_spec = made.run((lay.program("ctr"), "oci", "spec"))
    (lay.state / "base-spec.json").write_text(configs.base_spec(default_spec, sys.version_info[:2]))
    with ThreadPoolExecutor(2) as pool:
        nodes = [pool.submit(_start_containerd, lay, made, node) for node in layout.NODE_ADDRESSES]
        _start_control_plane(lay, made)
        for job in nodes:
            job.result()
    for node in layout.NODE_ADDRESSES:
        start_component(lay, components.kubelet(lay, node))
    wait_nodes_ready(lay, tuple(layout.NODE_ADDRESSES))
    wait_ready(lay, components.coredns(lay))
    _finished(lay).touch()


def _finished(lay: layout.Layout) -> Path:
    return lay.state / "finished"


def _start_control_plane(lay: layout.Layout, made: namespaces.Namespaces) -> None:
    start_component(lay, components.etcd(lay))
    start_component(lay, components.apiserver(lay))
    wait_ready(lay, components.apiserver(lay))
    kubectl = (lay.program("kubectl"), f"--kubeconfig={lay.kubeconfig('admin')}")
    made.run((*kubectl, "create", "--filename=-"), stdin=configs.bootstrap())
    for make in (components.controller_manager, components.scheduler, components.kube_proxy, components.coredns):
        start_component(lay, make(lay))


def _start_containerd(lay: layout.Layout, made: namespaces.Namespaces, node: str) -> None:
    component = components.containerd(lay, node)
    start_component(lay, component)
    wait_ready(lay, component)
    archives = [str(lay.images / f"{image}.tar") for image in ("pause", "trainer")]
    for archive in archives:
        made.run((*components.ctr(lay, node), "image", "import", archive))


def _write_files(lay: layout.Layout) -> None:
    lay.state.mkdir(parents=True)
    lay.logs.mkdir(parents=True)
    for old in sorted(lay.logs.parent.iterdir())[:-LOGS_KEPT]:
        shutil.rmtree(old)
    (lay.state / "work").mkdir()
    pki.create(lay)
    files = {
        lay.state / "resolv.conf": f"nameserver {layout.DNS_ADDRESS}\n",
        lay.state / "Corefile": configs.corefile(lay),
        lay.state / "kube-proxy.json": configs.kube_proxy(lay),
    }
    for node in layout.NODE_ADDRESSES:
        files[lay.node(node) / "cni" / "10-testbed.conflist"] = configs.cni(lay, node)
        files[lay.node(node) / "containerd.toml"] = configs.containerd(lay, node)
        files[lay.node(node) / "kubelet.json"] = configs.kubelet(lay, node)
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for node, offset in layout.UTC_OFFSETS.items():
        (lay.node(node) / "localtime").write_bytes(configs.zone(offset))
    layout.save(lay)


def finished(lay: layout.Layout) -> bool:
    """Tell whether `bring_up` came to its end."""
    return _finished(lay).exists()


def start_component(lay: layout.Layout, component: components.Component) -> None:
    """Start one component; its log goes on where it was."""
    with (lay.logs / f"{component.name}.log").open("ab") as log:
        found(lay).start(
            component.name, component.argv, env={**components.environment(lay), **dict(component.variables)}, log=log
        )


def wait_ready(lay: layout.Layout, component: components.Component, seconds: float = 60) -> None:
    """Wait until the component's own question is answered."""
    poll(f"{component.name}: not ready", seconds, lambda: _succeeds(found(lay), component.ready))


def wait_nodes_ready(lay: layout.Layout, nodes: Sequence[str], seconds: float = 90) -> None:
    """Wait until these Nodes are there and Ready."""
    jsonpath = r'{range .items[*]}{.metadata.name}={.status.conditions[?(@.type=="Ready")].status}{"\n"}{end}'
    kubectl = (
        lay.program("kubectl"),
        f"--kubeconfig={lay.kubeconfig('admin')}",
        "get",
        "nodes",
        f"--output=jsonpath={jsonpath}",
    )
    wanted = {f"{node}=True" for node in nodes}
    inside = found(lay)
    poll(f"Nodes {', '.join(nodes)}: not ready", seconds, lambda: wanted <= set(_output(inside, kubectl).split()))


def found(lay: layout.Layout) -> namespaces.Namespaces:
    """Return the namespaces of a running test bed; ClusterError where it does not run."""
    there = namespaces.find(lay.state)
    if there is None:
        raise ClusterError(f"the test bed {lay.name} does not run: start it with `python -m tests.cluster up`")
    return there


def poll(fault: str, seconds: float, ready: Callable[[], bool]) -> None:
    """Wait until `ready` says so; after that time raise ClusterError with the fault."""
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            raise ClusterError(f"{fault} after {seconds:.0f} s")
        time.sleep(0.1)


def _succeeds(inside: namespaces.Namespaces, argv: Sequence[str]) -> bool:
    try:
        inside.run(argv)
    except ClusterError:
        return False
    return True


def _output(inside: namespaces.Namespaces, argv: Sequence[str]) -> str:
    try:
        return inside.run(argv)
    except ClusterError:
        return ""
