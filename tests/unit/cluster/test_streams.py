"""Watches over connections that break, end early, or say nothing."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from k8sddp import cluster, errors
from k8sddp.cluster import streams
from k8sddp.cluster.streams import Change
from tests.contract.fake_cluster import Fault
from tests.unit.cluster.connected import config_map, fake_and_cluster


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

        def sleep(seconds: float, _woken: threading.Event) -> None:
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


def test_reader_who_was_let_in_before_outlasts_refusals(tmp_path: Path) -> None:
    """An API server that has just started refuses everybody until it has read its roles."""
    with fake_and_cluster(tmp_path) as (fake, connection, _):
        stop = cluster.Stop()
        stream = watching(connection, stop)
        next(stream)
        connection.apply(config_map("a"))
        assert ("ADDED", ["a"]) == seen(next(stream))
        fake.cut()
        connection.apply(config_map("b"))
        fake.fail(*[Fault(status=403, body={"kind": "Status", "message": "no"})] * 3)
        assert ("ADDED", ["b"]) == seen(next(stream))
        stop.set()


def test_refusals_end_the_patience_of_a_reader_who_was_let_in_before(tmp_path: Path) -> None:
    """A right that was really taken away is said within two minutes."""
    with fake_and_cluster(tmp_path) as (fake, connection, time):
        stream = watching(connection, cluster.Stop())
        next(stream)
        connection.apply(config_map("a"))
        next(stream)
        fake.fail(*[Fault(status=403, body={"kind": "Status", "message": "no"})] * 40)
        fake.cut()
        with pytest.raises(errors.ForbiddenError):
            next(stream)
        assert streams.REFUSALS < time.now < 2 * streams.REFUSALS


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


def test_server_that_says_when_to_come_back_is_asked_then(tmp_path: Path) -> None:
    """429 to the watch itself: Retry-After wins over our own pause where it is longer."""
    with fake_and_cluster(tmp_path) as (fake, connection, time):
        stop = cluster.Stop()
        stream = watching(connection, stop)
        next(stream)
        connection.apply(config_map("a"))
        assert ("ADDED", ["a"]) == seen(next(stream))
        fake.fail(*[Fault(status=429, headers={"Retry-After": "7"}, method="GET")] * 2)
        fake.cut()
        connection.apply(config_map("b"), observed_version="")
        assert ("ADDED", ["b"]) == seen(next(stream))
        assert [7.0, 7.0] == [pause for pause in time.pauses if pause > 1]
        stop.set()


def test_stop_wakes_a_watch_that_pauses(tmp_path: Path) -> None:
    """Also where the server asked for a long one, and where it is the list that failed."""
    with fake_and_cluster(tmp_path) as (fake, connection, _):
        stop, pausing = cluster.Stop(), threading.Event()

        def sleep(seconds: float, woken: threading.Event | None = None) -> None:
            pausing.set()
            (woken or threading.Event()).wait(seconds)

        connection.transport.sleep = sleep
        fake.fail(Fault(status=503, headers={"Retry-After": "19"}))
        thread = threading.Thread(target=lambda: list(watching(connection, stop)), daemon=True)
        thread.start()
        assert pausing.wait(10)
        stop.set()
        thread.join(10)
        assert not thread.is_alive()


def test_a_watch_whose_connection_died_is_noticed_within_two_bookmarks() -> None:
    """The server sends one about every minute (apiserver, storage/cacher): more silence than that is no answer."""
    parameter = inspect.signature(cluster.watch).parameters["silence"]
    assert 60 < parameter.default <= 120
