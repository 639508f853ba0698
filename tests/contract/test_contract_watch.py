"""Reads that last: watches that see every change, across connections that are cut; following a job to its end."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from k8sddp import cluster, constants, plan
from k8sddp.manifest import ref_of
from tests.contract import relay
from tests.contract.under_test import UnderTest, changes


def words(stream: Iterator[cluster.Change], count: int) -> list[str]:
    """Return the types of the next changes."""
    return [next(stream).type for _ in range(count)]


def selector(under_test: UnderTest) -> str:
    """Return what selects the objects of this test."""
    return f"{constants.LABEL_JOB}={under_test.name}"


def test_watch_tells_what_there_is_then_every_change(cluster_under_test: UnderTest) -> None:
    """LISTED with all, then one word per change; objects of others are not told."""
    connection = cluster_under_test.connect()
    ref = ref_of(connection.apply(cluster_under_test.config_map(a="1")).manifest)
    with changes(connection, "v1", "ConfigMap", label_selector=selector(cluster_under_test)) as stream:
        listed = next(stream)
        assert ("LISTED", [ref]) == (listed.type, [ref_of(one) for one in listed.items])
        connection.apply(cluster_under_test.config_map(a="2"))
        changed = next(stream)
        assert ("MODIFIED", {"a": "2"}) == (changed.type, changed.items[0]["data"])
        connection.delete(ref)
        connection.apply(cluster_under_test.config_map(a="3"))
        assert ["DELETED", "ADDED"] == words(stream, 2)
    connection.delete(ref)


def test_watch_survives_cut_connections_without_missing_a_change(cluster_under_test: UnderTest) -> None:
    """It goes on where it was: no second list, no change twice."""
    connection = cluster_under_test.connect()
    connection.apply(cluster_under_test.config_map(a="1"))
    with relay.relay(connection.server) as between:
        config = cluster_under_test.kubeconfig_with(server=between.url)
        watching = cluster_under_test.connect(kubeconfig=config)
        with changes(watching, "v1", "ConfigMap", label_selector=selector(cluster_under_test)) as stream:
            assert ["LISTED"] == words(stream, 1)
            for value in ("2", "3", "4"):
                between.cut()
                connection.apply(cluster_under_test.config_map(a=value))
                change = next(stream)
                assert ("MODIFIED", {"a": value}) == (change.type, change.items[0]["data"])
        assert between.accepted >= 3
    connection.delete(ref_of(cluster_under_test.config_map()))


def test_follow_sees_the_pods_come_and_ends_with_the_job(cluster_under_test: UnderTest) -> None:
    """Snapshots on the way, an empty one when the Job is gone."""
    connection = cluster_under_test.connect()
    cluster_under_test.apply(connection, cluster_under_test.objects())
    most = 0
    with contextlib.closing(cluster.follow(connection, cluster_under_test.name, timeout=30)) as snapshots:  # type: ignore[type-var]
        for current in snapshots:
            if len(current.pods) == 2 and most < 2:
                cluster.delete(connection, cluster_under_test.name, report=lambda _line: None)
            most = max(most, len(current.pods))
    assert (2, plan.Snapshot()) == (most, current)


def test_following_the_log_of_a_pod_waits_until_the_pod_is_gone(cluster_under_test: UnderTest) -> None:
    """A pod that no Kubernetes Node has taken has no log yet; that is no error."""
    connection = cluster_under_test.connect()
    cluster_under_test.apply(connection, cluster_under_test.objects())
    pod = cluster_under_test.pods_are(connection, 2)[0]["metadata"]["name"]
    stop = cluster.Stop()
    connection.transport.sleep = lambda _seconds, _woken: stop.set()  # the first pause of this reader
    assert [] == list(cluster.logs(connection, pod, follow=True, stop=stop))
    assert stop.is_set()
