"""Watches and logs over connections that break, end early, or say nothing."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from k8sddp import cluster, errors
from k8sddp.cluster import streams
from k8sddp.cluster.streams import Change
from tests.contract.fake_cluster import FakeCluster, Fault
from tests.unit.cluster.connected import config_map, fake_and_cluster, make_cluster
from tests.unit.render import jobs


def watching(connection: cluster.Cluster, stop: cluster.Stop, *, silence: float = 5) -> Iterator[Change]:
    """Return a watch of ConfigMaps."""
    return cluster.watch(connection, "v1", "ConfigMap", stop=stop, silence=silence)


def seen(change: Change) -> tuple[str, list[str]]:
    """Return the type and the names."""
    return change.type, [one["metadata"]["name"] for one in change.items]


def test_expired_position_lists_again(tmp_path: Path) -> None:
    """410: changes were missed, so everything is told again."""
    with fake_and_cluster(tmp_path) as (fake, connection, _):
        stop = cluster.Stop()
        stream = watching(connection, stop)
        assert ("LISTED", []) == seen(next(stream))
        connection.apply(config_map("a"))
        fake.store.compact()
        assert ("LISTED", ["a"]) == seen(next(stream))
        stop.set()


def test_refused_position_lists_again(tmp_path: Path) -> None:
    """The 410 may come before the stream instead of in it."""
    with fake_and_cluster(tmp_path) as (fake, connection, _):
        fake.fail(Fault(status=410, body={"kind": "Status", "code": 410}, after=1))
        stop = cluster.Stop()
        stream = watching(connection, stop)
        assert [("LISTED", []), ("LISTED", [])] == [seen(next(stream)) for _ in range(2)]
        stop.set()


def test_bookmarks_move_the_position(tmp_path: Path) -> None:
    """A quiet watch does not fall behind the history that the server keeps."""
    with fake_and_cluster(tmp_path) as (fake, connection, _):
        stop = cluster.Stop()
        stream = watching(connection, stop)
        next(stream)
        connection.apply(config_map("a"))
        assert ("ADDED", ["a"]) == seen(next(stream))
        with fake.store.changed:
            fake.store.version += 5  # others change other kinds, nothing of ours
            fake.store.changed.wait_for(lambda: False, timeout=0.5)  # the fake sends a bookmark every 0.2 s
            fake.store.compact()
        fake.cut()
        connection.apply(config_map("b"))
        assert ("ADDED", ["b"]) == seen(next(stream))
        stop.set()


def test_silent_watch_is_opened_again(tmp_path: Path) -> None:
    """A connection that died without a word looks like a quiet one."""
    with fake_and_cluster(tmp_path) as (fake, connection, _):
        fake.bookmarks = False
        stop = cluster.Stop()
        stream = watching(connection, stop, silence=0.2)
        next(stream)
        timer = threading.Timer(0.7, connection.apply, (config_map("a"),))
        timer.start()
        assert ("ADDED", ["a"]) == seen(next(stream))
        timer.join()
        assert len([1 for _, _, query in fake.requests if query.get("watch")]) >= 2
        stop.set()


def test_server_that_ends_every_watch_at_once_is_not_asked_in_a_loop(tmp_path: Path) -> None:
    """Each fruitless try waits longer."""
    with fake_and_cluster(tmp_path) as (fake, connection, time):
        stop = cluster.Stop()

        def sleep(seconds: float) -> None:
            time.sleep(seconds)
            if len(time.pauses) == 4:
                stop.set()

        connection.transport.sleep = sleep
        stream = watching(connection, stop)
        next(stream)
        fake.fail(*[Fault(status=200)] * 5)
        assert [] == list(stream)
        assert [0.25, 0.5, 1.0, 2.0] == time.pauses


def test_watch_gives_up_when_patience_ends(tmp_path: Path) -> None:
    """Nobody answers for five minutes: the error says so."""
    with fake_and_cluster(tmp_path) as (fake, connection, time):
        stream = watching(connection, cluster.Stop())
        next(stream)
        fake.dies_after(0)
        with pytest.raises(errors.UnreachableError, match="the connection was lost"):
            next(stream)
        assert streams.PATIENCE < time.now < streams.PATIENCE + 60


@pytest.mark.parametrize("status", [401, 403])
def test_watch_that_is_refused_ends(tmp_path: Path, status: int) -> None:
    """Trying again cannot help."""
    with fake_and_cluster(tmp_path) as (fake, connection, time):
        fake.fail(Fault(status=status, body={"kind": "Status", "message": "no"}, after=1))
        stream = watching(connection, cluster.Stop())
        next(stream)
        with pytest.raises(errors.ClusterError):
            next(stream)
        assert [] == time.pauses


def test_event_that_is_cut_off_is_read_again(tmp_path: Path) -> None:
    """Half a line is no event, and no traceback."""
    with fake_and_cluster(tmp_path) as (fake, connection, _):
        stop = cluster.Stop()
        stream = watching(connection, stop)
        next(stream)
        connection.apply(config_map("a"))
        fake.fail(Fault(status=200, body=b'{"type": "ADDED", "obj'))
        assert ("ADDED", ["a"]) == seen(next(stream))
        stop.set()


def test_stop_wakes_a_watch_that_waits(tmp_path: Path) -> None:
    """From another thread, at once."""
    with fake_and_cluster(tmp_path) as (fake, connection, _):
        fake.bookmarks = False
        stop = cluster.Stop()
        stream = watching(connection, stop, silence=60)
        next(stream)
        timer = threading.Timer(0.2, stop.set)
        timer.start()
        assert [] == list(stream)
        timer.join()


# logs


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


def test_tail_is_passed_on(tmp_path: Path) -> None:
    """The server counts the lines."""
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

        def sleep(seconds: float) -> None:
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


def test_message_of_the_kubelet_in_a_log_is_passed_on(tmp_path: Path) -> None:
    """It has no time stamp."""
    with fake_and_cluster(tmp_path) as (fake, connection, _):
        fake.fail(Fault(status=200, body=b"unable to retrieve container logs for containerd://x"))
        assert [b"unable to retrieve container logs for containerd://x"] == list(cluster.logs(connection, "p"))


def test_log_of_an_unreachable_server_is_not_waited_for_at_first(tmp_path: Path) -> None:
    """A refused log is an error at once."""
    with fake_and_cluster(tmp_path) as (fake, _, _time):
        wrong = make_cluster(fake.url, token="wrong")
        with pytest.raises(errors.UnauthorizedError):
            list(cluster.logs(wrong, "p", follow=True))


def _status(message: str) -> dict[str, str]:
    return {"kind": "Status", "message": message}
