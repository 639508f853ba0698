"""Node 0 is asked through the API server's proxy: once, shortly, and nobody is bothered where it cannot be."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from k8sddp import cluster
from k8sddp.cluster import asking
from tests.contract.fake_cluster import FakeCluster, Fault
from tests.unit.cluster.connected import fake_and_cluster
from tests.unit.cluster.test_execution import apply
from tests.unit.render import jobs

TOLD = {"state": "training", "attempt": 2, "spent": 1, "max_attempts": 4, "ranks": [{"rank": 0, "step": 7}]}


@pytest.fixture
def gang(tmp_path: Path) -> Iterator[tuple[FakeCluster, cluster.Cluster, str]]:
    """Give a job whose node 0 runs and tells how far it is."""
    with fake_and_cluster(tmp_path) as (fake, connection, _):
        apply(connection)
        first = fake.pod("digits", 0)
        fake.run_pod(first)
        fake.answers[first, "/status"] = TOLD
        yield fake, connection, first


def asked(fake: FakeCluster) -> list[str]:
    """Return the paths of the requests through the proxy."""
    return [path for _, path, _ in fake.requests if "/proxy/" in path]


def ask(fake: FakeCluster, connection: cluster.Cluster, asker: cluster.Asker | None = None) -> Any:
    """Ask about the job as it is now."""
    return (asker or cluster.Asker(connection)).ask(fake.pods("digits"))


def test_node_0_is_asked_on_the_port_that_its_pod_names(gang: tuple[FakeCluster, cluster.Cluster, str]) -> None:
    """rendezvous.port + 1, whatever that is."""
    fake, connection, first = gang
    assert "attempt 2, step 7" == ask(fake, connection).sentence
    assert [f"/api/v1/namespaces/research/pods/{first}%3A29401/proxy/status"] == asked(fake)


def test_who_may_not_use_the_proxy_is_not_told_and_asks_no_more(
    gang: tuple[FakeCluster, cluster.Cluster, str],
) -> None:
    """The role `view` has no pods/proxy; the rest of `get` works."""
    fake, connection, _ = gang
    fake.forbidden.add(("get", "pods/proxy"))
    asker = cluster.Asker(connection)
    assert [None, None] == [ask(fake, connection, asker), ask(fake, connection, asker)]
    assert 1 == len(asked(fake))


def test_who_was_answered_once_is_not_shut_out_by_an_api_server_that_has_just_started(
    gang: tuple[FakeCluster, cluster.Cluster, str],
) -> None:
    """It refuses everybody until it has read the roles: the live line had no figures any more from then on."""
    fake, connection, _ = gang
    asker = cluster.Asker(connection)
    assert ask(fake, connection, asker) is not None
    fake.forbidden.add(("get", "pods/proxy"))
    assert ask(fake, connection, asker) is None
    fake.forbidden.clear()
    assert ask(fake, connection, asker) is not None
    assert not asker.forbidden


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=503, body=b"error trying to reach service: dial tcp: i/o timeout"),
        Fault(status=502, body=b"<html>Bad Gateway</html>"),
        Fault(status=404, body=b"not found; there are: /healthz"),
        Fault(drop=True),
        Fault(status=200, body=b"<html>login</html>"),
    ],
    ids=["no route", "bad gateway", "no such path", "cut", "another program"],
)
def test_a_pod_that_cannot_be_asked_costs_one_request(
    gang: tuple[FakeCluster, cluster.Cluster, str], fault: Fault
) -> None:
    """It is a favour: nothing is tried again, nothing is raised, and the API server is not taken for being away."""
    fake, connection, _ = gang
    fake.fail(fault._replace(path="/proxy/"))
    assert ask(fake, connection) is None
    assert 1 == len(asked(fake))
    assert connection.transport.away is None


def test_a_pod_that_does_not_run_is_not_asked(tmp_path: Path) -> None:
    """It has no address yet, or none any more."""
    with fake_and_cluster(tmp_path) as (fake, connection, _):
        apply(connection)
        assert ask(fake, connection) is None
        fake.end_container(fake.pod("digits", 0), 1)
        assert ask(fake, connection) is None
        assert cluster.Asker(connection).ask(()) is None
        assert [] == asked(fake)


def test_a_frozen_worker_is_soon_given_up_and_not_taken_for_an_api_server_that_is_away(
    gang: tuple[FakeCluster, cluster.Cluster, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its connection stands and nothing comes: `run` must not say that the API server does not answer."""
    fake, connection, first = gang
    woken = threading.Event()

    def hang() -> bytes:
        woken.wait(30)
        return b""

    fake.answers[first, "/status"] = hang
    monkeypatch.setattr(asking, "LIMIT", 0.2)
    assert ask(fake, connection) is None
    assert connection.transport.away is None
    woken.set()


def test_one_job_alone_is_asked_about_all_its_ranks(gang: tuple[FakeCluster, cluster.Cluster, str]) -> None:
    """`get NAME` names the rank that has not reached init_process_group, whichever it is."""
    fake, connection, _ = gang
    told = cluster.Asker(connection).ask_all({"digits": fake.pods("digits")})
    assert "attempt 2, step 7" == told["digits"].sentence
    assert [{}] == [query for _, path, query in fake.requests if "/proxy/" in path]


def test_a_gang_that_makes_steps_is_asked_about_its_last_rank_alone(
    gang: tuple[FakeCluster, cluster.Cluster, str],
) -> None:
    """Every two seconds, for as long as somebody looks: 512 ranks would be 300 KiB each time."""
    fake, connection, first = gang
    asker, told = cluster.Asker(connection), None
    for far in ({"step": 0, "last_rank": 0}, {"step": 3, "last_rank": 300}, {"step": 4, "last_rank": 7}, {"step": 5}):
        fake.answers[first, "/status"] = {**TOLD, "progress": far}
        told = asker.ask_again(fake.pods("digits"), told)
    assert [None, None, "300", "7"] == [query.get("ranks") for _, path, query in fake.requests if "/proxy/" in path]


def test_many_jobs_are_asked_at_once_and_a_frozen_one_costs_no_other_its_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`get` of forty jobs shows thirty-nine, two seconds later at the latest; each is asked for its figures alone."""
    woken = threading.Event()

    def hang() -> bytes:
        woken.wait(30)
        return b""

    monkeypatch.setattr(asking, "TOGETHER", 5.0)
    with fake_and_cluster(tmp_path) as (fake, connection, _):
        connection.apply(jobs.make_indexed_job(nnodes=40))
        asked_of = {}
        for number in range(40):
            pod = fake.pod("digits", number)
            fake.run_pod(pod)
            fake.answers[pod, "/status"] = hang if number == 7 else {**TOLD, "attempt": number}
        frozen = fake.pod("digits", 7)
        for pod in fake.pods("digits"):  # each as if it were node 0 of a job of its own
            pod["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"] = "0"
            asked_of[pod["metadata"]["name"]] = [pod]
        started = time.monotonic()
        told = cluster.Asker(connection).ask_all(asked_of)
        took = time.monotonic() - started
        woken.set()
        assert asked_of.keys() - {frozen} == told.keys()
        assert 39 == len({one.attempt for one in told.values()})
        assert took < 25.0
        assert {("/status", "0")} == {
            (path.rpartition("/proxy")[2], query["ranks"]) for _, path, query in fake.requests if "/proxy/" in path
        }
        assert {} == cluster.Asker(connection).ask_all({})
