"""Following a job: an API server that goes away and comes back, and what a slow reader or a wide job may cost."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

from k8sddp import cluster, errors
from k8sddp.cli import following
from k8sddp.worker.contract import exit_codes
from tests.contract.fake_cluster import FakeCluster
from tests.unit.cli import program
from tests.unit.cli.test_replacements import until
from tests.unit.cluster.connected import fake_and_cluster, make_cluster
from tests.unit.cluster.test_execution import apply
from tests.unit.render import jobs

AGAIN = "k8sddp --context lab logs digits -f"


class Away:
    """A connection that says what it is told to say."""

    away: tuple[float, str] | None = None


def test_an_absence_is_said_once_and_so_is_its_end() -> None:
    """Nothing for a hiccup, one line after five seconds, one when it is over."""
    connection = Away()
    absence = following._Absence(connection)  # type: ignore[arg-type]
    said = []
    for away in (None, 1.0, 4.9, 5.2, 47.0, None, 2.0, None, 6.0, None):
        connection.away = None if away is None else (away, "connection refused")
        said.append(absence.look())
    first = "the API server does not answer since 5 s (connection refused); the job runs on"
    second = "the API server does not answer since 6 s (connection refused); the job runs on"
    back = ("the API server answers again, after 47 s", "the API server answers again, after 6 s")
    assert ["", "", "", first, "", back[0], "", "", second, back[1]] == said


def hurry(connection: cluster.Cluster, *, times: float) -> None:
    """Let that many seconds pass in one, for this connection."""
    began, never = time.monotonic(), threading.Event()
    connection.transport.clock = lambda: (time.monotonic() - began) * times
    connection.transport.sleep = lambda seconds, woken=never: woken.wait(seconds / times)


def follow(connection: cluster.Cluster, told: list[str], lines: list[bytes]) -> tuple[threading.Thread, list[Any]]:
    """Follow the job in a thread until it ends; the second value is what came of it."""
    follower = following.Follower(connection, "digits", emit=lines.append, tell=told.append, again=AGAIN)
    ended: list[Any] = []

    def run() -> None:
        try:
            ended.append(follower.follow([0]))
        except errors.K8sddpError as error:
            ended.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, ended


def test_an_api_server_that_goes_away_and_comes_back_costs_no_line(tmp_path: Path) -> None:
    """It is said meanwhile that the job runs on; log and watch go on where they were."""
    with fake_and_cluster(tmp_path) as (fake, connection, _):
        hurry(connection, times=20)
        apply(connection)
        pod, told, lines = fake.pod("digits", 0), list[str](), list[bytes]()
        fake.run_pod(pod)
        fake.run_pod(fake.pod("digits", 1))
        fake.write_log(pod, b"one")
        thread, ended = follow(connection, told, lines)
        until(lambda: lines == [b"one"])
        fake.dies_after(0)
        fake.cut()
        until(lambda: any("the API server does not answer since " in one for one in told))
        fake.write_log(pod, b"two")
        fake.recovers()
        until(lambda: lines == [b"one", b"two"])
        fake.end_container(pod, 0)
        thread.join(20)
        assert "Complete" == ended[0].state
        said = [one for one in told if "API server" in one]
        assert [True, True] == ["; the job runs on" in said[0], "answers again, after " in said[1]]
        assert 2 == len(said)


def test_an_api_server_that_stays_away_ends_the_command_and_not_the_job(tmp_path: Path) -> None:
    """With a code that no rank and no worker has, and the command that comes back."""
    with fake_and_cluster(tmp_path) as (fake, connection, _):
        hurry(connection, times=200)
        apply(connection)
        pod, lines = fake.pod("digits", 0), list[bytes]()
        fake.run_pod(pod)
        fake.write_log(pod, b"one")
        thread, ended = follow(connection, [], lines)
        until(lambda: lines == [b"one"])
        fake.dies_after(0)
        fake.cut()
        thread.join(60)
        (error,) = ended
        assert isinstance(error, errors.DetachedError)
        assert str(error).endswith(f"; digits runs on, and `{AGAIN}` follows it again")
        workers = {code for code in vars(exit_codes).values() if isinstance(code, int)}
        assert error.exit_code not in workers
        assert not exit_codes.FIRST_RANK_CODE <= error.exit_code <= exit_codes.FAILED


def test_a_reader_that_takes_nothing_slows_the_reading_and_fills_no_memory(tmp_path: Path) -> None:
    """A terminal that is stopped with Ctrl-S while ranks print."""
    with fake_and_cluster(tmp_path) as (fake, connection, _):
        apply(connection)
        pod, release = fake.pod("digits", 0), threading.Event()
        fake.run_pod(pod)
        fake.write_log(pod, *[b"%d" % number for number in range(4_000)], same_time=True)
        lines: list[bytes] = []

        def emit(line: bytes) -> None:
            release.wait(60)
            lines.append(line)

        follower = following.Follower(connection, "digits", emit=emit, tell=lambda _text: None, again=AGAIN)
        thread = threading.Thread(target=follower.follow, args=([0],), daemon=True)
        thread.start()
        until(follower._inbox.full)
        assert 1_024 == follower._inbox.qsize()  # docs/limits.md
        fake.end_container(pod, 0)
        release.set()
        thread.join(60)
        assert 4_000 == len(lines)


def test_more_nodes_than_connections_are_refused(tmp_path: Path) -> None:
    """Each followed node is a connection to the API server for as long as the job runs: 64 (docs/limits.md)."""
    with FakeCluster(tmp_path) as fake:
        fake.jobs.refusal = "no pods here"
        make_cluster(fake.url).apply(jobs.make_indexed_job(nnodes=65))
        ended = program.k8sddp("logs", "digits", "--all", "-f", env={"KUBECONFIG": str(fake.kubeconfig)})
        assert (2, "") == (ended.code, ended.out)
        assert "-f follows at most 64 nodes at once; digits has 65" in ended.err
