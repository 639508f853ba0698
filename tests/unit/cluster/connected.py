"""Builders: a connection to a fake API server whose pauses are recorded instead of waited for."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import kubernetes.client

from k8sddp import cluster
from k8sddp.cluster import transport
from k8sddp.cluster.answers import Target
from k8sddp.manifest import Manifest
from tests.contract.fake_cluster import FakeCluster


class Time:
    """A clock that only pauses move."""

    def __init__(self) -> None:
        self.now = 0.0
        self.pauses: list[float] = []

    def sleep(self, seconds: float, _woken: threading.Event | None = None) -> None:
        self.pauses.append(seconds)
        self.now += seconds

    def clock(self) -> float:
        return self.now


def make_cluster(
    url: str, time: Time | None = None, *, token: str = "fake-token", timeout: float = 2.0
) -> cluster.Cluster:
    """Return a connection to `url` in namespace research; with `time` nothing sleeps."""
    time = time or Time()
    settings = kubernetes.client.Configuration()
    settings.api_key["BearerToken"] = settings.api_key["authorization"] = f"Bearer {token}"
    return cluster.Cluster(
        transport.Transport(
            kubernetes.client.ApiClient(settings),
            Target(url, "fake", "research"),
            request_timeout=timeout,
            sleep=time.sleep,
            clock=time.clock,
        )
    )


@contextlib.contextmanager
def fake_and_cluster(folder: Path) -> Iterator[tuple[FakeCluster, cluster.Cluster, Time]]:
    """Give a fake server, a connection that has been answered once, and its time."""
    time = Time()
    with FakeCluster(folder) as fake:
        connection = make_cluster(fake.url, time)
        connection.server_version()
        fake.requests.clear()
        yield fake, connection, time


def config_map(name: str = "settings", **data: str) -> Manifest:
    """Return a ConfigMap."""
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def write_kubeconfig(path: Path, **changes: Any) -> Path:
    """Write a kubeconfig of one context `here`, with `cluster`, `user`, `context` or top-level entries changed."""
    cluster_entry = {"server": "https://127.0.0.1:6443", **changes.pop("cluster", {})}
    context = {"cluster": "c", "user": "u", **changes.pop("context", {})}
    config: Mapping[str, Any] = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "clusters": [{"name": "c", "cluster": cluster_entry}],
        "contexts": [{"name": "here", "context": context}],
        "users": [{"name": "u", "user": changes.pop("user", {"token": "t"})}],
        **{key.replace("_", "-"): value for key, value in changes.items()},
    }
    path.write_text(json.dumps(config))
    return path
