"""Logs over connections that break, end early, or say nothing."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from k8sddp import cluster, errors
from k8sddp.cluster import streams
from tests.contract.fake_cluster import FakeCluster, Fault
from tests.unit.cluster.connected import fake_and_cluster, make_cluster
from tests.unit.render import jobs


def running_pod(fake: FakeCluster, connection: cluster.Cluster) -> str:
    """Return the name of a pod that runs."""
    connection.apply(jobs.make_indexed_job())
    name = fake.pod("digits", 0)
    fake.run_pod(name)
    return name


def test_log_has_its_lines_without_time_stamps(tmp_path: Path) -> None:
    """Bytes as they were written."""
    with fake_and_cluster(tmp_path) as (fake, connection, _):
        pod = running_pod(fake, connection)
        fake.write_log(pod, b"[rank 0] \xff\xfe", b"", b"2026-01-01T00:00:00Z not a stamp")
        expected = [b"[rank 0] \xff\xfe", b"", b"2026-01-01T00:00:00Z not a stamp"]
        assert expected == list(cluster.logs(connection, pod))


def test_tail_is_the_last_lines(tmp_path: Path) -> None:
    """Of the whole log where no line is asked for above others."""
    with fake_and_cluster(tmp_path) as (fake, connection, _):
        pod = running_pod(fake, connection)
        fake.write_log(pod, b"1", b"2", b"3")
        assert [b"2", b"3"] == list(cluster.logs(connection, pod, tail=2))


@pytest.mark.parametrize("same_time", [False, True], ids=["own times", "one time"])
def test_cut_log_goes_on_without_losing_or_repeating_a_line(tmp_path: Path, same_time: bool) -> None:
    """sinceTime knows whole seconds only, so the server repeats lines: they are dropped here."""
    with fake_and_cluster(tmp_path) as (fake, connection, _):
        pod = running_pod(fake, connection)
        lines = [b"%d" % number for number in range(9)]
        fake.write_log(pod, *lines[:5], same_time=same_time)
        log = cluster.logs(connection, pod, follow=True)
        got = [next(log) for _ in range(3)]
        fake.cut()
        got += [next(log) for _ in range(2)]
        fake.cut()
        fake.write_log(pod, *lines[5:])
        fake.end_container(pod, 0)
        assert lines == got + list(log)


def test_followed_log_waits_for_the_container_to_start(tmp_path: Path) -> None:
    """With growing pauses; a pod that runs gives its log from the first line."""
    with fake_and_cluster(tmp_path) as (fake, connection, time):
        connection.apply(jobs.make_indexed_job())
        pod = fake.pod("digits", 0)

        def sleep(seconds: float, _woken: threading.Event) -> None:
            time.sleep(seconds)
            if len(time.pauses) == 3:
                fake.write_log(pod, b"hello")
                fake.run_pod(pod)
                fake.end_container(pod, 0)

        connection.transport.sleep = sleep
        assert [b"hello"] == list(cluster.logs(connection, pod, follow=True))
        assert [0.25, 0.5, 1.0] == time.pauses


def test_log_of_a_container_that_has_not_started_is_said(tmp_path: Path) -> None:
    """Without follow there is nothing to wait for."""
    with fake_and_cluster(tmp_path) as (fake, connection, _):
        fake.fail(Fault(status=400, body=_status('container "worker" in pod "p" is waiting to start: ErrImagePull')))
        with pytest.raises(errors.InvalidError) as caught:
            list(cluster.logs(connection, "p"))
        assert 'pods/p: container "worker" in pod "p" is waiting to start: ErrImagePull' == str(caught.value)


def test_followed_log_ends_when_its_pod_is_deleted(tmp_path: Path) -> None:
    """Also where it never said a word."""
    with fake_and_cluster(tmp_path) as (fake, connection, _):
        pod = running_pod(fake, connection)
        log = cluster.logs(connection, pod, follow=True)
        timer = threading.Timer(0.2, fake.store.delete, ("pods", "research", pod), {"policy": "Background"})
        timer.start()
        assert [] == list(log)
        timer.join()


def test_script_that_says_nothing_is_followed_on(tmp_path: Path) -> None:
    """Silence is no failure, however long; only a server that does not answer is."""
    with fake_and_cluster(tmp_path) as (fake, connection, time):
        pod = running_pod(fake, connection)
        log = cluster.logs(connection, pod, follow=True, silence=0.1)
        timer = threading.Timer(0.5, lambda: (fake.write_log(pod, b"at last"), fake.end_container(pod, 0)))
        timer.start()
        time.now += streams.PATIENCE + 1
        assert [b"at last"] == list(log)
        timer.join()


def test_log_of_an_unreachable_server_is_not_waited_for_at_first(tmp_path: Path) -> None:
    """A refused log is an error at once."""
    with fake_and_cluster(tmp_path) as (fake, _, _time):
        wrong = make_cluster(fake.url, token="wrong")
        with pytest.raises(errors.UnauthorizedError):
            list(cluster.logs(wrong, "p", follow=True))


def _status(message: str) -> dict[str, str]:
    return {"kind": "Status", "message": message}
