"""What runs in a test bed: each component's command line and how to ask whether it is ready.

A table of values, so that starting a component for the first time and starting it again after a fault are the same.
"""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from tests.cluster.testbed import layout

ETCD = "http://127.0.0.1:2379"


@dataclass(frozen=True)
class Component:
    """One process of the test bed; `name` marks it in its environment and names its log."""

    name: str
    argv: tuple[str, ...]
    ready: tuple[str, ...]  # command that exits 0 when the component answers
    variables: tuple[tuple[str, str], ...] = ()  # of its environment, beside what all of them have


def environment(lay: layout.Layout) -> Mapping[str, str]:
    """Return what components find in their environment: nothing of the user's."""
    path = [*map(str, lay.programs), *os.defpath.split(os.pathsep), "/usr/local/sbin", "/usr/sbin", "/sbin"]
    return {"PATH": os.pathsep.join(path), "HOME": str(lay.state), "TMPDIR": "/tmp"}


def named(lay: layout.Layout, name: str) -> Component:
    """Return one component; KeyError where there is none of that name."""
    return {component.name: component for component in every(lay)}[name]


def every(lay: layout.Layout) -> tuple[Component, ...]:
    """Return all components in the order of their start."""
    per_node = [make(lay, node) for make in (containerd, kubelet) for node in layout.NODE_ADDRESSES]
    return (
        etcd(lay),
        apiserver(lay),
        controller_manager(lay),
        scheduler(lay),
        kube_proxy(lay),
        coredns(lay),
        *per_node,
    )


def etcd(lay: layout.Layout) -> Component:
    """Return etcd, which does not flush to disk: its data die with the cluster."""
    argv = (
        lay.program("etcd"),
        f"--data-dir={lay.state / 'etcd'}",
        f"--listen-client-urls={ETCD}",
        f"--advertise-client-urls={ETCD}",
        "--listen-peer-urls=http://127.0.0.1:2380",
        "--unsafe-no-fsync",
        "--log-level=warn",
    )
    return Component("etcd", argv, _answers(f"{ETCD}/health"))


def apiserver(lay: layout.Layout) -> Component:
    """Return the API server; pods reach it through the default endpoint reconciler's Service kubernetes.default."""
    pki = lay.pki
    argv = (
        lay.program("kube-apiserver"),
        f"--etcd-servers={ETCD}",
        "--bind-address=0.0.0.0",
        f"--advertise-address={next(iter(layout.NODE_ADDRESSES.values()))}",
        f"--secure-port={layout.API_PORT}",
        f"--service-cluster-ip-range={layout.SERVICE_CIDR}",
        f"--client-ca-file={pki / 'ca.crt'}",
        f"--tls-cert-file={pki / 'apiserver.crt'}",
        f"--tls-private-key-file={pki / 'apiserver.key'}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",  # kubeadm's habit; Pod Security is on by default
        "--allow-privileged=true",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={pki / 'sa.pub'}",
        f"--service-account-signing-key-file={pki / 'sa.key'}",
        f"--kubelet-client-certificate={pki / 'kubelet-client.crt'}",
        f"--kubelet-client-key={pki / 'kubelet-client.key'}",
        f"--kubelet-certificate-authority={pki / 'ca.crt'}",
        "--kubelet-preferred-address-types=InternalIP",
    )
    kubectl = (lay.program("kubectl"), f"--kubeconfig={lay.kubeconfig('admin')}", "--request-timeout=5s")
    ready = (*kubectl, "get", "--raw=/readyz")
    return Component("apiserver", argv, ready)


def controller_manager(lay: layout.Layout) -> Component:
    """Return the controller manager."""
    pki = lay.pki
    argv = (
        lay.program("kube-controller-manager"),
        *_identity(lay, "controller-manager"),
        f"--service-account-private-key-file={pki / 'sa.key'}",
        f"--root-ca-file={pki / 'ca.crt'}",
        f"--cluster-signing-cert-file={pki / 'ca.crt'}",
        f"--cluster-signing-key-file={pki / 'ca.key'}",
        "--use-service-account-credentials=true",
        f"--node-monitor-grace-period={lay.options.node_monitor_grace_seconds}s",
    )
    return Component("controller-manager", argv, _answers("https://127.0.0.1:10257/healthz"))


def scheduler(lay: layout.Layout) -> Component:
    """Return the scheduler."""
    argv = (lay.program("kube-scheduler"), *_identity(lay, "scheduler"))
    return Component("scheduler", argv, _answers("https://127.0.0.1:10259/healthz"))


def _identity(lay: layout.Layout, user: str) -> tuple[str, ...]:
    """Return the flags that controller manager and scheduler share."""
    config = lay.kubeconfig(user)
    return (
        f"--kubeconfig={config}",
        f"--authentication-kubeconfig={config}",
        f"--authorization-kubeconfig={config}",
        "--authentication-skip-lookup=true",  # else both wait for a ConfigMap that is made a little later
        "--bind-address=127.0.0.1",
        "--leader-elect=false",
    )


def kube_proxy(lay: layout.Layout) -> Component:
    """Return kube-proxy."""
    argv = (lay.program("kube-proxy"), f"--config={lay.state / 'kube-proxy.json'}")
    return Component("kube-proxy", argv, _answers("http://127.0.0.1:10256/healthz"))


def coredns(lay: layout.Layout) -> Component:
    """Return CoreDNS."""
    argv = (lay.program("coredns"), "-conf", str(lay.state / "Corefile"))
    return Component("coredns", argv, _answers("http://127.0.0.1:8181/ready"))


def containerd(lay: layout.Layout, node: str) -> Component:
    """Return one Node's containerd, which writes the stamps of container logs in the Node's time zone."""
    argv = (lay.program("containerd"), "--config", str(lay.node(node) / "containerd.toml"))
    zone = (("TZ", str(lay.node(node) / "localtime")),)
    return Component(f"containerd-{node}", argv, (*ctr(lay, node), "version"), zone)


def ctr(lay: layout.Layout, node: str) -> tuple[str, ...]:
    """Return the client of one Node's containerd, in the namespace that the kubelet uses."""
    return (lay.program("ctr"), "--address", str(lay.containerd_socket(node)), "--namespace", "k8s.io")


def kubelet(lay: layout.Layout, node: str) -> Component:
    """Return one Node's kubelet."""
    argv = (
        lay.program("kubelet"),
        f"--config={lay.node(node) / 'kubelet.json'}",
        f"--kubeconfig={lay.kubeconfig(node)}",
        f"--hostname-override={node}",
        f"--root-dir={lay.node(node) / 'kubelet'}",
        f"--node-ip={layout.NODE_ADDRESSES[node]}",
        "-v=2",
    )
    return Component(f"kubelet-{node}", argv, _answers(f"http://127.0.0.1:{layout.KUBELET_HEALTH_PORTS[node]}/healthz"))


def _answers(url: str) -> tuple[str, ...]:
    """Return a command that exits 0 when the URL answers 200; some of these ports have a certificate of their own."""
    ask = f"import ssl, urllib.request as r; r.urlopen('{url}', timeout=2, context=ssl._create_unverified_context())"
    return (sys.executable, "-c", ask)
