"""Logs by position: every line once, whatever clocks, zones, kubelets and connections do."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from k8sddp import cluster, errors
from k8sddp.cli import rank_lines
from k8sddp.cluster import log_position, pod_logs
from tests.contract.fake_cluster import FakeCluster, Fault
from tests.unit.cluster.connected import Time, fake_and_cluster
from tests.unit.cluster.test_pod_logs import running_pod

STATUS = {"kind": "Status", "apiVersion": "v1", "status": "Failure"}
# What a kubelet answers while and after it restarts, seen on 1.37 (pkg/kubelet/server, pkg/kubelet/kubelet_pods.go)
RESTARTING = (
    Fault(status=500, body={**STATUS, "code": 500, "message": "dial tcp 10.0.0.7:10250: connect: connection refused"}),
    Fault(status=404, body={**STATUS, "code": 404, "message": "the server could not find the requested resource"}),
    Fault(status=400, body={**STATUS, "code": 400, "message": 'container "worker" in pod "p" is not available'}),
    Fault(status=200, body=b"unable to retrieve container logs for containerd://0123"),
    Fault(status=200, body=b'failed to try resolving symlinks in path "/var/log/pods/x/0.log": no such file'),
)
WORDS = (
    b"unable to retrieve container logs for containerd://0123",
    b'failed to try resolving symlinks in path "/var/log/pods/x/0.log": lstat: no such file or directory',
    b'unexpected stream type "stdoux"',
    b"rpc error: code = NotFound desc = an error occurred when try to find container",
    b"context cancelled",
)


def lines_of(count: int, *, start: int = 0) -> list[bytes]:
    """Return that many lines, each its own."""
    return [b"%d" % number for number in range(start, start + count)]


def stepping(fake: FakeCluster, pod: str, lines: list[bytes], clock: Iterator[int]) -> None:
    """Write lines, the seconds of whose stamps are what `clock` says."""
    for line in lines:
        second = next(clock)
        stamp = f"2026-01-01T{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}.000000000Z"
        fake.write_stamped(pod, stamp.encode() + b" " + line)


@pytest.mark.parametrize(
    "stamp",
    [
        "2026-01-01T00:00:00.123456789Z",
        "2026-01-01T08:00:00.123456789+08:00",
        "2026-01-01T05:30:00.000000001+05:30",
        "2025-12-31T20:30:00.120000000-03:30",
        "2026-01-01T00:00:00Z",
        "2026-01-01T00:00:00.5+00:00",
    ],
)
def test_stamps_of_every_zone_are_taken_off(tmp_path: Path, stamp: str) -> None:
    """A node writes its own; and a cut log goes on with each line once."""
    with fake_and_cluster(tmp_path) as (fake, connection, _):
        pod = running_pod(fake, connection)
        written = [b"[rank 0] zero", b"[rank 1] one", b"", b"2026-01-01T00:00:00Z is no stamp here"]
        fake.write_stamped(pod, *[stamp.encode() + b" " + line for line in written])
        assert written == list(cluster.logs(connection, pod))
        log = cluster.logs(connection, pod, follow=True)
        got = [next(log) for _ in range(2)]
        fake.cut()
        fake.end_container(pod, 0)
        assert written == got + list(log)


CLOCKS = {
    "set back ten minutes": lambda: itertools.chain([700, 701, 702], itertools.count(100)),
    "set back again and again": lambda: itertools.cycle([900, 600, 300]),
    "stands still": lambda: itertools.repeat(500),
    "set forward": lambda: itertools.chain([1, 2], itertools.count(3000)),
}


@pytest.mark.parametrize("clock", CLOCKS.values(), ids=CLOCKS)
@pytest.mark.parametrize("cut_after", [1, 3, 5])
def test_a_clock_that_steps_loses_and_repeats_no_line(tmp_path: Path, clock: object, cut_after: int) -> None:
    """Within a connection, before it breaks, while it is broken."""
    with fake_and_cluster(tmp_path) as (fake, connection, _):
        pod, ticks, lines = running_pod(fake, connection), clock(), lines_of(12)  # type: ignore[operator]
        stepping(fake, pod, lines[:6], ticks)
        log = cluster.logs(connection, pod, follow=True)
        got = [next(log) for _ in range(cut_after)]
        fake.cut()
        stepping(fake, pod, lines[6:9], ticks)
        got += [next(log) for _ in range(8 - cut_after)]
        fake.cut()
        stepping(fake, pod, lines[9:], ticks)
        fake.end_container(pod, 0)
        assert lines == got + list(log)


@pytest.mark.parametrize("missed", [0, 1, 63, 64, 65, 300, 5000])
def test_a_reader_that_was_away_gets_all_that_it_missed(tmp_path: Path, missed: int) -> None:
    """However much that is: it is read back until the last known line is found."""
    with fake_and_cluster(tmp_path) as (fake, connection, _):
        pod, lines = running_pod(fake, connection), lines_of(200 + missed)
        fake.write_log(pod, *lines[:200], same_time=True)
        log = cluster.logs(connection, pod, follow=True)
        got = [next(log) for _ in range(200)]
        fake.cut()
        fake.write_log(pod, *lines[200:], same_time=True)
        fake.end_container(pod, 0)
        assert lines == got + list(log)


def test_equal_lines_of_one_moment_are_counted(tmp_path: Path) -> None:
    """Where neither stamp nor text tells them apart."""
    with fake_and_cluster(tmp_path) as (fake, connection, _):
        pod = running_pod(fake, connection)
        fake.write_stamped(pod, *[b"2026-01-01T00:00:00.000000000Z ."] * 3)
        log = cluster.logs(connection, pod, follow=True)
        got = [next(log) for _ in range(3)]
        fake.cut()
        fake.write_stamped(pod, *[b"2026-01-01T00:00:00.000000000Z ."] * 2)
        fake.end_container(pod, 0)
        assert [b"."] * 5 == got + list(log)


def test_a_log_that_was_rotated_goes_on_with_its_new_file(tmp_path: Path) -> None:
    """What the old one held beyond the last line is lost to every reader; nothing comes twice."""
    with fake_and_cluster(tmp_path) as (fake, connection, _):
        pod = running_pod(fake, connection)
        fake.write_log(pod, b"old")
        log = cluster.logs(connection, pod, follow=True)
        assert b"old" == next(log)
        fake.rotate_log(pod)
        fake.write_stamped(pod, b"2026-12-01T00:00:00Z new", b"2026-12-01T00:00:01Z newer")
        fake.cut()
        fake.end_container(pod, 0)
        assert [b"new", b"newer"] == list(log)


def test_a_kubelet_that_restarts_does_not_end_a_log(tmp_path: Path) -> None:
    """It refuses, knows no such pod, no such container, has no log: all within seconds, while the container runs."""
    with fake_and_cluster(tmp_path) as (fake, connection, _):
        pod, lines = running_pod(fake, connection), lines_of(6)
        fake.write_log(pod, *lines[:3])
        log = cluster.logs(connection, pod, follow=True)
        got = [next(log) for _ in range(3)]
        fake.fail(*[fault._replace(path="/log") for fault in RESTARTING])
        fake.cut()
        fake.write_log(pod, *lines[3:])
        got += [next(log) for _ in range(3)]
        fake.end_container(pod, 0)
        assert lines == got + list(log)
        assert [] == fake.faults


def test_a_kubernetes_node_that_is_away_for_an_hour_does_not_end_a_log(tmp_path: Path) -> None:
    """As long as the pod object says that the container runs; it is said once, after seconds."""
    with fake_and_cluster(tmp_path) as (fake, connection, time):
        pod, told = running_pod(fake, connection), list[str]()
        fake.write_log(pod, b"before")
        log = cluster.logs(connection, pod, follow=True, tell=told.append)
        assert b"before" == next(log)
        fake.fail(*[RESTARTING[0]._replace(path="/log")] * 800)
        fake.cut()

        def sleep(seconds: float, _woken: object) -> None:
            time.sleep(seconds)
            if time.now > 3600:
                fake.faults.clear()

        connection.transport.sleep = sleep
        fake.write_log(pod, b"after")
        assert b"after" == next(log)
        (sentence,) = told
        assert sentence.startswith(f"the log of pod {pod} is asked for again and again: the API server")
        fake.end_container(pod, 0)
        assert [] == list(log)


def test_the_log_of_an_ended_container_is_waited_for_a_minute(tmp_path: Path) -> None:
    """Its Kubernetes Node may be gone with it; then the reader hears why there is no more."""
    with fake_and_cluster(tmp_path) as (fake, connection, time):
        pod = running_pod(fake, connection)
        fake.write_log(pod, b"one")
        log = cluster.logs(connection, pod, follow=True)
        assert b"one" == next(log)
        fake.fail(*[RESTARTING[1]._replace(path="/log")] * 100)
        fake.cut()
        fake.end_container(pod, 0)
        began = time.now
        with pytest.raises(errors.NotFoundError):
            list(log)
        assert pod_logs.ENDED_PATIENCE < time.now - began < 2 * pod_logs.ENDED_PATIENCE


@pytest.mark.parametrize("word", WORDS)
def test_the_kubelets_own_words_are_nobodys_line(tmp_path: Path, word: bytes) -> None:
    """They come after a 200, at the end of what it could read, without a stamp."""
    with fake_and_cluster(tmp_path) as (fake, connection, _):
        pod, lines = running_pod(fake, connection), lines_of(4)
        fake.write_log(pod, *lines[:2])
        stamped = b"".join(f"{stamp} ".encode() + text + b"\n" for stamp, text in fake.log_of(pod))
        log = cluster.logs(connection, pod, follow=True)
        fake.fail(Fault(status=200, body=stamped + word, path="/log"), Fault(status=200, body=word, path="/log"))
        got = [next(log) for _ in range(2)]
        fake.write_log(pod, *lines[2:])
        fake.end_container(pod, 0)
        assert lines == got + list(log)
        fake.fail(*[Fault(status=200, body=word, path="/log")] * 100)
        with pytest.raises(pod_logs.KubeletError) as caught:
            list(cluster.logs(connection, pod))
        assert f"the log of pod {pod} cannot be had from its Kubernetes Node: {word.decode()}" == str(caught.value)


def test_a_line_that_is_still_being_written_is_given_out_once_and_whole(tmp_path: Path) -> None:
    """A connection may end in the middle of it, cleanly."""
    with fake_and_cluster(tmp_path) as (fake, connection, _):
        pod = running_pod(fake, connection)
        log = cluster.logs(connection, pod, follow=True)
        fake.fail(Fault(status=200, body=b"2026-01-01T00:00:00Z 1\n2026-01-01T00:00:01Z 2 ha", path="/log"))
        got = [next(log)]
        fake.write_stamped(pod, b"2026-01-01T00:00:00Z 1", b"2026-01-01T00:00:01Z 2 half", b"2026-01-01T00:00:02Z 3")
        fake.end_container(pod, 0)
        assert [b"1", b"2 half", b"3"] == got + list(log)


def test_the_end_of_a_log_may_lack_its_line_end(tmp_path: Path) -> None:
    """What a process printed last, without one, is a line of the container that has ended."""
    with fake_and_cluster(tmp_path) as (fake, connection, _):
        pod = running_pod(fake, connection)
        fake.end_container(pod, 0)
        fake.fail(Fault(status=200, body=b"2026-01-01T00:00:00Z 1\n2026-01-01T00:00:01Z last words", path="/log"))
        assert [b"1", b"last words"] == list(cluster.logs(connection, pod))


@pytest.mark.parametrize("follow", [False, True], ids=["once", "followed"])
@pytest.mark.parametrize(("tail", "ranks"), [(5, 2), (5, 64), (3, 512), (0, 2)])
def test_tail_of_a_rank_is_that_many_lines_of_that_rank(tmp_path: Path, follow: bool, tail: int, ranks: int) -> None:
    """Among those of all the others of its node."""
    with fake_and_cluster(tmp_path) as (fake, connection, _):
        pod = running_pod(fake, connection)
        own = [b"[rank 1] step %d" % step for step in range(8)]
        others = [b"[rank %d] x" % rank for rank in range(ranks) if rank != 1]
        fake.write_log(pod, *[line for one in own for line in (one, *others)], same_time=True)
        fake.end_container(pod, 0)
        belongs = rank_lines.belongs_to(1)
        got = list(cluster.logs(connection, pod, follow=follow, tail=tail, wanted=belongs))
        assert own[len(own) - tail :] == [line for line in got if belongs(line)]


def test_tail_of_more_than_there_is_gives_all_and_ends(tmp_path: Path) -> None:
    """A rank that has said little does not make the reader ask for ever."""
    with fake_and_cluster(tmp_path) as (fake, connection, _):
        pod = running_pod(fake, connection)
        fake.write_log(pod, b"[rank 1] only", *[b"[rank 0] x"] * 500, same_time=True)
        got = list(cluster.logs(connection, pod, tail=5, wanted=rank_lines.belongs_to(1)))
        assert [b"[rank 1] only"] == [line for line in got if b"rank 1" in line]
        assert len([1 for _, path, _ in fake.requests if path.endswith("/log")]) < 10


def test_a_followed_tail_of_nothing_misses_nothing_after_a_cut(tmp_path: Path) -> None:
    """`--tail 0 -f`: what is old stays out, what comes is whole."""
    with fake_and_cluster(tmp_path) as (fake, connection, _):
        pod = running_pod(fake, connection)
        fake.write_log(pod, b"old")
        time = Time()

        def sleep(seconds: float, _woken: object) -> None:
            time.sleep(seconds)
            if len(time.pauses) == 2:
                fake.write_log(pod, b"new")
                fake.end_container(pod, 0)

        connection.transport.sleep = sleep
        fake.fail(Fault(status=200, path="/log", after=1), Fault(status=200, path="/log", after=1))
        assert [b"new"] == list(cluster.logs(connection, pod, follow=True, tail=0))


def test_a_log_whose_lines_have_no_stamps_is_read_where_they_are_ours(tmp_path: Path) -> None:
    """Some virtual kubelets leave them out."""
    with fake_and_cluster(tmp_path) as (fake, connection, _):
        fake.fail(Fault(status=200, body=b"[rank 0] a\n[k8sddp] b\n", path="/log"))
        assert [b"[rank 0] a", b"[k8sddp] b"] == list(cluster.logs(connection, "p"))


def test_the_place_with_the_longest_known_past_is_where_a_log_goes_on() -> None:
    """The last line alone may stand in many places."""
    position = log_position.Position()
    for line in (b"a", b"b", b"c", b"b"):
        position.note(line)
    assert 5 == position.after([b"x", b"a", b"b", b"c", b"b", b"d", b"b"])
    assert 1 == position.after([b"b", b"d"])
    assert 2 == position.after([b"x", b"c", b"y"])
    assert position.after([b"x", b"y"]) is None
