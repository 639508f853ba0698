"""Asking a pod through the API server: its words for what cannot be, on the fake as on the real one.

That a worker's answer comes through is tested end to end: it takes a pod that runs.
"""

from __future__ import annotations

from typing import Any

import pytest

from k8sddp import cluster, errors
from k8sddp.manifest import Manifest
from tests.contract.under_test import UnderTest


def as_if_running(pod: Manifest) -> dict[str, Any]:
    """Return a pod as it looks while its container runs: our picture of it is always a little old."""
    container = {"name": "worker", "state": {"running": {"startedAt": "2026-11-27T00:00:00Z"}}}
    return {**pod, "status": {"phase": "Running", "containerStatuses": [container]}}


def test_a_pod_without_an_address_and_one_that_is_gone_are_told_apart(cluster_under_test: UnderTest) -> None:
    """Both by the API server's own answer; neither is taken for a worker's."""
    connection = cluster_under_test.connect()
    cluster_under_test.apply(connection, cluster_under_test.objects())
    first, second = map(as_if_running, cluster_under_test.pods_are(connection, 2))
    with pytest.raises(errors.InvalidError, match=r"^pods/\S+: address not allowed$"):
        cluster.get_from_pod(connection, first, "/stacks")
    second["metadata"] = {**second["metadata"], "name": f"{cluster_under_test.name}-none"}
    with pytest.raises(errors.NotFoundError, match=rf"^pod {cluster_under_test.name}-none does not exist any more$"):
        cluster.get_from_pod(connection, second, "/stacks")


def test_the_right_that_is_missing_is_named(cluster_under_test: UnderTest) -> None:
    """It is checked before the pod is looked for."""
    namespace = cluster_under_test.forbidden_namespace()
    port = {"name": "http", "containerPort": 29401}
    pod = as_if_running({"metadata": {"name": "some"}, "spec": {"containers": [{"name": "worker", "ports": [port]}]}})
    with pytest.raises(
        errors.ForbiddenError, match=rf"^user '\S+' may not get pods/proxy in namespace {namespace}; ask"
    ):
        cluster.get_from_pod(cluster_under_test.connect(namespace=namespace), pod, "/stacks")
