"""What `delete` removes by hand, what it leaves, and what it says."""

from __future__ import annotations

from pathlib import Path

import pytest

from k8sddp import cluster, errors
from tests.unit.cluster.connected import fake_and_cluster
from tests.unit.cluster.test_execution import apply
from tests.unit.render import jobs


def test_delete_finds_what_no_owner_takes_along(tmp_path: Path) -> None:
    """Somebody deleted the Job with --cascade=orphan."""
    with fake_and_cluster(tmp_path) as (fake, connection, _):
        apply(connection)
        fake.store.delete("jobs", "research", "digits", policy="Orphan")
        lines: list[str] = []
        cluster.delete(connection, "digits", report=lines.append)
        assert [] == fake.names()
        assert 6 == len(lines)


def test_delete_of_nothing_says_where_it_looked(tmp_path: Path) -> None:
    """A misspelt name, or another namespace."""
    with fake_and_cluster(tmp_path) as (_, connection, _time):
        with pytest.raises(errors.NotFoundError) as caught:
            cluster.delete(connection, "nothing", report=print)
        expected = "there is no job nothing in namespace research (context fake); `k8sddp get` lists those there are"
        assert expected == str(caught.value)


def test_delete_leaves_a_job_that_is_not_ours(tmp_path: Path) -> None:
    """And says how to delete it all the same."""
    with fake_and_cluster(tmp_path) as (fake, connection, _):
        job = jobs.make_indexed_job()
        connection.apply({**job, "metadata": {"name": "digits"}})
        with pytest.raises(errors.RefusedError, match="`kubectl delete job digits` deletes it"):
            cluster.delete(connection, "digits", report=print)
        assert fake.object("jobs", "digits") is not None


def test_delete_of_a_job_that_is_going_says_so(tmp_path: Path) -> None:
    """Its pods may take their grace period."""
    with fake_and_cluster(tmp_path) as (fake, connection, _):
        apply(connection)
        fake.store.lingering_pods = True
        fake.store.delete("jobs", "research", "digits", policy="Foreground")
        lines: list[str] = []
        cluster.delete(connection, "digits", report=lines.append)
        assert ["job.batch/digits is already being deleted"] == lines


def test_delete_leaves_a_job_of_another_manager(tmp_path: Path) -> None:
    """Somebody copied our labels, all but the one that says who manages it."""
    with fake_and_cluster(tmp_path) as (fake, connection, _):
        job = jobs.make_indexed_job()
        labels = {**job["metadata"]["labels"], "app.kubernetes.io/managed-by": "argo"}
        connection.apply({**job, "metadata": {"name": "digits", "labels": labels}})
        with pytest.raises(errors.RefusedError, match=r"it has no label app\.kubernetes\.io/managed-by=k8sddp"):
            cluster.delete(connection, "digits", report=print)
        assert fake.object("jobs", "digits") is not None
