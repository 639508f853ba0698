"""A lost pod is replaced once, and only while its job needs it."""

from __future__ import annotations

from pathlib import Path

import pytest

from k8sddp import cluster, errors
from tests.contract.fake_cluster import FakeCluster
from tests.unit.cluster.connected import fake_and_cluster
from tests.unit.cluster.test_execution import apply


def lose(fake: FakeCluster, index: int = 0, exit_code: int = 137) -> str:
    """End the container of a pod; return the pod's uid."""
    name = fake.pod("digits", index)
    fake.run_pod(name)
    fake.end_container(name, exit_code)
    pod = fake.object("pods", name)
    assert pod is not None
    return str(pod["metadata"]["uid"])


def test_a_lost_pod_is_replaced_once(tmp_path: Path) -> None:
    """The second client finds the index served; one that asked at the same moment finds the name taken."""
    with fake_and_cluster(tmp_path) as (fake, connection, _):
        apply(connection)
        uid = lose(fake)
        name = cluster.replace_pod(connection, "digits", uid)
        made = fake.object("pods", name)
        assert made is not None
        counts = {key: value for key, value in made["metadata"]["annotations"].items() if "failure-count" in key}
        assert {"batch.kubernetes.io/job-index-failure-count": "1"} == counts
        assert "" == cluster.replace_pod(connection, "digits", uid)
        assert None is connection.create(
            {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {}}, "spec": {"containers": []}}
        )


def test_a_pod_whose_end_ends_the_job_is_not_replaced(tmp_path: Path) -> None:
    """Nor one of a job that is gone."""
    with fake_and_cluster(tmp_path) as (fake, connection, _):
        apply(connection)
        assert "" == cluster.replace_pod(connection, "digits", lose(fake, exit_code=3))
        assert "" == cluster.replace_pod(connection, "nothing", "uid")


def test_a_user_who_may_not_create_pods_is_told_so(tmp_path: Path) -> None:
    """The Job's own back-off then applies; the sentence names verb and namespace."""
    with fake_and_cluster(tmp_path) as (fake, connection, _):
        apply(connection)
        uid = lose(fake)
        fake.forbidden.add(("create", "pods"))
        with pytest.raises(errors.ForbiddenError, match="namespace research"):
            cluster.replace_pod(connection, "digits", uid)


def test_a_pod_on_a_dead_kube_node_is_replaced_when_the_caller_waited(tmp_path: Path) -> None:
    """Whatever the clocks say: its deletion lies far back, and only the caller knows since when it has seen it."""
    with fake_and_cluster(tmp_path) as (fake, connection, _):
        apply(connection)
        name = fake.pod("digits", 1)
        fake.run_pod(name)
        with fake.changing("pods", name) as pod:
            uid = str(pod["metadata"]["uid"])
            pod["metadata"].update(deletionTimestamp="2020-01-01T00:00:00Z", deletionGracePeriodSeconds=30)
            pod["status"]["conditions"].append({"type": "DisruptionTarget", "status": "True"})
        assert "" == cluster.replace_pod(connection, "digits", uid)
        assert "" != cluster.replace_pod(connection, "digits", uid, overdue=[uid])
