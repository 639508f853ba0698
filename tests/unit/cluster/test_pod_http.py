"""What a worker says comes through the API server's proxy, and why it says nothing is one sentence about its pod."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from k8sddp import cluster, errors
from k8sddp.cluster import abreast, pod_http
from tests.contract.fake_cluster import FakeCluster, Fault
from tests.unit.cluster.connected import fake_and_cluster
from tests.unit.cluster.test_execution import apply

PATH = "/stacks"
JSON = {"Content-Type": "application/json"}


def status(code: int, message: str, **details: Any) -> Fault:
    """Return an answer of the API server's own."""
    body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": code, **details}
    return Fault(status=code, body=json.dumps(body).encode(), headers=JSON, path="/proxy/")


@pytest.fixture
def gang(tmp_path: Path) -> Iterator[tuple[FakeCluster, cluster.Cluster]]:
    """Give a job of two nodes; that of index 0 runs and answers."""
    with fake_and_cluster(tmp_path) as (fake, connection, _):
        apply(connection)
        first = fake.pod("digits", 0)
        fake.run_pod(first)
        fake.answers[first, PATH] = "rank 0"
        yield fake, connection


def pod(fake: FakeCluster, index: int = 0) -> Any:
    """Return a pod of the job."""
    found = fake.object("pods", fake.pod("digits", index))
    assert found is not None
    return found


def asked(fake: FakeCluster) -> list[tuple[str, dict[str, str]]]:
    """Return the requests through the proxy, with their queries."""
    return [(path, query) for _, path, query in fake.requests if "/proxy/" in path]


def test_a_worker_answers_on_the_port_that_its_pod_names(gang: tuple[FakeCluster, cluster.Cluster]) -> None:
    """rendezvous.port + 1, with the query as it was given."""
    fake, connection = gang
    one = pod(fake)
    name = one["metadata"]["name"]
    assert b"rank 0" in cluster.get_from_pod(connection, one, PATH, query=[("rank", "3")])
    assert [(f"/api/v1/namespaces/research/pods/{name}%3A29401/proxy/stacks", {"rank": "3"})] == asked(fake)


@pytest.mark.parametrize(
    ("fault", "kind", "sentence"),
    [
        pytest.param(
            Fault(),
            errors.ClusterError,
            "the worker of pod POD does not answer on port 29401: dial tcp 10.0.0.7:29401: connect: connection refused",
            id="nobody listens",
        ),
        pytest.param(
            Fault(status=503, body=b"no answer within 5 s\n", path="/proxy/"),
            errors.ClusterError,
            "the worker of pod POD answered 503: no answer within 5 s",
            id="the worker is late",
        ),
        pytest.param(
            Fault(status=404, body=b"not found; there are: /healthz, /status\n", path="/proxy/"),
            errors.NotFoundError,
            "the worker of pod POD does not know /stacks: it is of an older k8sddp",
            id="an older worker",
        ),
        pytest.param(
            Fault(status=404, body=b"rank 9 is on node 1\n", path="/proxy/"),
            errors.NotFoundError,
            "pod POD: rank 9 is on node 1",
            id="the worker's own no",
        ),
        pytest.param(
            status(404, 'pods "digits-0" not found', reason="NotFound"),
            errors.NotFoundError,
            "pod POD does not exist any more",
            id="gone",
        ),
        pytest.param(
            status(400, "address not allowed", reason="BadRequest"),
            errors.InvalidError,
            "pods/POD%3A29401: address not allowed",
            id="no address",
        ),
        pytest.param(
            Fault(drop=True, path="/proxy/"),
            errors.UnreachableError,
            r".* does not answer: the connection was lost",
            id="cut",
        ),
    ],
)
def test_why_a_pod_cannot_be_asked_is_one_sentence(
    gang: tuple[FakeCluster, cluster.Cluster], fault: Fault, kind: type[Exception], sentence: str
) -> None:
    """It is asked once, and the API server is not taken for being away."""
    fake, connection = gang
    one = pod(fake)
    if fault == Fault():
        fake.answers.clear()
    else:
        fake.fail(fault)
    expected = sentence.replace("POD", re.escape(one["metadata"]["name"]))
    with pytest.raises(kind) as raised:
        cluster.get_from_pod(connection, one, PATH)
    assert re.fullmatch(expected, str(raised.value))
    assert 1 == len(asked(fake))
    assert connection.transport.away is None


def test_the_right_that_is_missing_is_named(gang: tuple[FakeCluster, cluster.Cluster]) -> None:
    """The role `view` has no pods/proxy; who may not ask one pod is not asked for the others."""
    fake, connection = gang
    second = fake.pod("digits", 1)
    fake.run_pod(second)
    fake.forbidden.add(("get", "pods/proxy"))
    with pytest.raises(errors.ForbiddenError, match="user 'jane' may not get pods/proxy in namespace research; ask"):
        cluster.get_from_pod(connection, pod(fake), PATH)
    found = cluster.get_from_pods(connection, {0: pod(fake)} | {index: pod(fake, 1) for index in range(1, 200)}, PATH)
    assert 200 == len(found)
    assert all(isinstance(one, errors.ForbiddenError) for one in found.values())
    assert len(asked(fake)) <= 1 + abreast.AT_A_TIME


def test_a_pod_that_does_not_run_is_not_asked(gang: tuple[FakeCluster, cluster.Cluster]) -> None:
    """It has no address yet, or none any more; a pod of somebody else's has no such port."""
    fake, connection = gang
    with pytest.raises(errors.ClusterError, match=r"pod \S+ does not run \(Pending\), so it cannot be asked"):
        cluster.get_from_pod(connection, pod(fake, 1), PATH)
    fake.end_container(fake.pod("digits", 0), 1)
    with pytest.raises(errors.ClusterError, match=r"pod \S+ does not run \(Failed\), so it cannot be asked"):
        cluster.get_from_pod(connection, pod(fake), PATH)
    foreign = {"metadata": {"name": "web"}, "spec": {"containers": [{"name": "web"}]}}
    with pytest.raises(errors.ClusterError, match="pod web has no port named http: it was not made by k8sddp"):
        cluster.get_from_pod(connection, foreign, PATH)
    assert [] == asked(fake)


def test_a_frozen_worker_is_soon_given_up_while_the_others_answer(gang: tuple[FakeCluster, cluster.Cluster]) -> None:
    """Its connection stands and nothing comes."""
    fake, connection = gang
    second, woken = fake.pod("digits", 1), threading.Event()
    fake.run_pod(second)

    def hang() -> bytes:
        woken.wait(30)
        return b""

    fake.answers[second, PATH] = hang
    found = cluster.get_from_pods(connection, {0: pod(fake), 1: pod(fake, 1)}, PATH, limit=0.5)
    woken.set()
    assert b"rank 0" in found[0]  # type: ignore[operator]
    assert (
        f"pod {second} gave no answer within 0.5 s: its worker or its Kubernetes Node is frozen or overloaded"
        == str(found[1])
    )
    assert connection.transport.away is None


def test_an_answer_without_end_is_cut(
    gang: tuple[FakeCluster, cluster.Cluster], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever listens there, it cannot fill this machine's memory."""
    fake, connection = gang
    monkeypatch.setattr(pod_http, "MAX_ANSWER", 1000)
    fake.answers[fake.pod("digits", 0), PATH] = "x" * 100_000
    assert 1000 == len(cluster.get_from_pod(connection, pod(fake), PATH))
