"""The cluster that a contract test is about: the fake, or a real one, behind the same few methods.

Every test has a job name of its own, so one namespace serves them all. What is awaited is awaited by a watch.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from k8sddp import cluster, constants, manifest, plan
from k8sddp.manifest import Manifest, Ref
from k8sddp.plan import snapshot
from tests.unit.render import jobs

# No Kubernetes Node has it, so the pods stay Pending and their objects still.
NOWHERE = {"nodeSelector": {"k8sddp.dev/contract-test": "nowhere"}}
CHILDREN = (("v1", "Service"), ("v1", "ConfigMap"), ("networking.k8s.io/v1", "NetworkPolicy"))
EVERY_KIND = (*CHILDREN, ("batch/v1", "Job"), ("v1", "Pod"))


@dataclasses.dataclass
class UnderTest:
    """One cluster, seen by a user with the role `edit` in `namespace`."""

    kubeconfig: Path
    namespace: str
    folder: Path
    forbidden_namespace: Callable[[], str]  # where this user may not apply a Service or use pods/proxy
    admin_kubeconfig: Path
    name: str = dataclasses.field(default_factory=lambda: f"job-{uuid.uuid4().hex[:8]}")

    def connect(self, *, namespace: str | None = None, kubeconfig: Path | None = None) -> cluster.Cluster:
        """Return a new connection."""
        return cluster.connect(kubeconfig=str(kubeconfig or self.kubeconfig), namespace=namespace or self.namespace)

    def kubeconfig_with(self, *, server: str = "", user: Mapping[str, Any] | None = None) -> Path:
        """Return a copy of the kubeconfig with another server or user."""
        config = yaml.safe_load(self.kubeconfig.read_text())
        if server:
            config["clusters"][0]["cluster"]["server"] = server
        if user is not None:
            config["users"][0]["user"] = dict(user)
        path = self.folder / f"{uuid.uuid4().hex}.yaml"
        path.write_text(json.dumps(config))
        return path

    # objects

    def objects(self, **fields: Any) -> tuple[Manifest, ...]:
        """Return the rendered objects of this test's job."""
        fields = {"nnodes": 2, "scheduling": NOWHERE, "metadata": {"name": self.name}, **fields}
        return jobs.make_objects(**fields)

    def config_map(self, **data: str) -> dict[str, Any]:
        """Return a ConfigMap of this test's name."""
        return {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": self.name, "labels": {constants.LABEL_JOB: self.name}},
            "data": data,
        }

    @property
    def job_ref(self) -> Ref:
        """Return the reference of this test's Job."""
        return snapshot.job_ref(self.name)

    # verbs

    def diff(self, connection: cluster.Cluster, objects: Sequence[Manifest], *, replace: bool = False) -> plan.Plan:
        """Return the plan for the objects as the cluster is now."""
        return plan.diff(objects, cluster.observe(connection, objects), replace=replace)

    def apply(self, connection: cluster.Cluster, objects: Sequence[Manifest], *, replace: bool = False) -> list[str]:
        """Observe, diff and execute, as `k8sddp apply` does; return the report."""
        lines: list[str] = []
        cluster.execute(self.diff(connection, objects, replace=replace), connection, report=lines.append)
        return lines

    def listed(self, connection: cluster.Cluster, api_version: str, kind: str) -> tuple[Manifest, ...]:
        """Return the objects of a kind that belong to this test's job."""
        return connection.list(api_version, kind, label_selector=f"{constants.LABEL_JOB}={self.name}").items

    def versions(self, connection: cluster.Cluster, objects: Sequence[Manifest]) -> dict[str, str]:
        """Return the resourceVersion of each object."""
        found = cluster.observe(connection, objects).objects
        return {str(ref): one["metadata"]["resourceVersion"] for ref, one in found.items()}

    def pods_are(self, connection: cluster.Cluster, count: int) -> tuple[Manifest, ...]:
        """Wait until the job has that many pods."""
        return self.until(connection, "v1", "Pod", lambda pods: len(pods) == count)

    def job_is(self, connection: cluster.Cluster, holds: Callable[[Manifest], object]) -> Manifest:
        """Wait until this test's Job is as asked."""
        return self.until(connection, "batch/v1", "Job", lambda found: any(map(holds, found)))[0]

    def is_gone(self, connection: cluster.Cluster) -> bool:
        """Wait until nothing of this test's job is left."""
        for api_version, kind in EVERY_KIND:
            self.until(connection, api_version, kind, lambda found: not found)
        return True

    def until(
        self,
        connection: cluster.Cluster,
        api_version: str,
        kind: str,
        holds: Callable[[tuple[Manifest, ...]], object],
    ) -> tuple[Manifest, ...]:
        """Return the job's objects of a kind as soon as `holds` says so; fails after 30 seconds."""
        found: tuple[Manifest, ...] = ()
        selector = f"{constants.LABEL_JOB}={self.name}"
        for found in states(connection, api_version, kind, label_selector=selector):
            if holds(found):
                return found
        raise AssertionError(f"30 s of waiting for {kind}: {[one['metadata'] for one in found]}")


def states(
    connection: cluster.Cluster, api_version: str, kind: str, *, label_selector: str, limit: float = 30
) -> Iterator[tuple[Manifest, ...]]:
    """Yield the objects selected after every change, for at most `limit` seconds."""
    with changes(connection, api_version, kind, label_selector=label_selector, limit=limit) as stream:
        known: dict[Ref, Manifest] = {}
        for change in stream:
            if change.type == "LISTED":
                known.clear()
            for one in change.items:
                known[manifest.ref_of(one)] = one
                if change.type == "DELETED":
                    del known[manifest.ref_of(one)]
            yield tuple(known.values())


@contextlib.contextmanager
def changes(
    connection: cluster.Cluster, api_version: str, kind: str, *, label_selector: str, limit: float = 30
) -> Iterator[Iterator[cluster.Change]]:
    """Give a watch that ends after `limit` seconds or with the block."""
    stop = cluster.Stop()
    timer = threading.Timer(limit, stop.set)
    timer.daemon = True
    timer.start()
    stream = cluster.watch(connection, api_version, kind, label_selector=label_selector, stop=stop)
    try:
        with contextlib.closing(stream):  # type: ignore[type-var]
            yield stream
    finally:
        timer.cancel()
