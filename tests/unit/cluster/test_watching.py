"""Following one job: snapshots until its end, and what a snapshot holds."""

from __future__ import annotations

import threading
from datetime import datetime, timezone
from pathlib import Path

import pytest

from k8sddp import cluster, errors, plan
from tests.unit.cluster.connected import config_map, fake_and_cluster
from tests.unit.cluster.test_execution import apply
from tests.unit.render import jobs

NOW = datetime(2026, 11, 24, tzinfo=timezone.utc)


def test_termination_message_of_a_deleted_pod_is_kept(tmp_path: Path) -> None:
    """At a failure the Job controller deletes the pods that still ran; their last words pass by once."""
    with fake_and_cluster(tmp_path) as (fake, connection, _):
        apply(connection)
        first, second = fake.pod("digits", 0), fake.pod("digits", 1)
        for pod in (first, second):
            fake.run_pod(pod)
        stream = cluster.follow(connection, "digits", timeout=10)
        next(stream)
        fake.end_container(second, 79, message="last words")
        while not any("last words" in str(pod) for pod in next(stream).pods):
            pass
        fake.store.delete("pods", "research", second, policy="Background")
        fake.end_container(first, 1)
        last = [*stream][-1]
        assert any("last words" in str(pod) for pod in last.pods)
        assert second not in [name.removeprefix("pods/") for name in fake.names()]


def test_follow_reads_events_only_while_the_job_waits(tmp_path: Path) -> None:
    """They say why; a job that runs has nothing to explain."""
    with fake_and_cluster(tmp_path) as (fake, connection, _):
        fake.jobs.refusal = "exceeded quota: compute"
        apply(connection)
        stream = cluster.follow(connection, "digits", timeout=10)
        current = next(stream)
        job = current.indexed_job("digits")
        assert job is not None
        assert "exceeded quota" in plan.reason(job, current.pods, current.events, now=NOW).sentence
        stream.close()  # type: ignore[attr-defined]


def test_follow_ends_at_its_timeout_and_leaves_no_thread(tmp_path: Path) -> None:
    """The job goes on without us."""
    with fake_and_cluster(tmp_path) as (_, connection, time):
        apply(connection)
        before = threading.active_count()
        ticks = iter(range(10_000))
        connection.transport.clock = lambda: time.now + next(ticks)
        with pytest.raises(errors.WaitTimeoutError, match="job digits is not finished after 9 s"):
            list(cluster.follow(connection, "digits", timeout=9))
        names = [thread.name for thread in threading.enumerate()]
        assert not [name for name in names if name.startswith("watch-")], (before, names)


def test_follow_passes_on_what_ends_a_watch(tmp_path: Path) -> None:
    """A user who may not watch pods is told so."""
    with fake_and_cluster(tmp_path) as (fake, connection, _):
        apply(connection)
        fake.forbidden.add(("list", "pods"))
        with pytest.raises(errors.ForbiddenError, match="may not list pods in namespace research"):
            list(cluster.follow(connection, "digits"))


def test_follow_of_an_earlier_namesakes_pods_shows_none(tmp_path: Path) -> None:
    """Their controller uid is another."""
    with fake_and_cluster(tmp_path) as (fake, connection, _):
        apply(connection)
        fake.store.lingering_pods = True
        cluster.delete(connection, "digits", report=lambda _line: None)
        connection.apply({**jobs.make_indexed_job(), "spec": {**jobs.make_indexed_job()["spec"], "suspend": True}})
        assert 2 == len(fake.pods("digits"))
        stream = cluster.follow(connection, "digits")
        assert () == next(stream).pods
        stream.close()  # type: ignore[attr-defined]


def test_observing_leaves_out_what_does_not_exist(tmp_path: Path) -> None:
    """None of the objects, or some."""
    with fake_and_cluster(tmp_path) as (_, connection, _time):
        objects = jobs.make_objects()
        assert {} == cluster.observe(connection, objects).objects
        connection.apply(config_map("digits-worker"))
        assert ["digits-worker"] == [ref.name for ref in cluster.observe(connection, objects).objects]
        assert plan.Snapshot() == cluster.observe_job(connection, "digits")


def test_events_of_a_waiting_job_are_read_every_three_seconds_however_often_it_changes(tmp_path: Path) -> None:
    """A thousand pods that come up one by one must not be a thousand readings of nine lists."""
    with fake_and_cluster(tmp_path) as (fake, connection, time):
        apply(connection)
        pod = fake.pod("digits", 0)
        stream = cluster.follow(connection, "digits", timeout=100)
        for number in range(40):
            current = next(stream)
            assert 2 == len(current.pods)
            with fake.changing("pods", pod) as one:
                one["metadata"]["annotations"] = {"n": str(number)}
            time.now += 0.2
        stream.close()  # type: ignore[attr-defined]
        rounds = [query for _, path, query in fake.requests if path.endswith("/events") and "name=digits" in str(query)]
        of_the_job = [query for query in rounds if "kind=Job" in str(query)]
        assert 2 <= len(of_the_job) <= 4
