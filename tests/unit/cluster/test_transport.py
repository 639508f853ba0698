"""Requests against a real HTTP server: what is repeated, how long, and what is not."""

from __future__ import annotations

import json
import logging
import socket
import threading
from pathlib import Path

import pytest
import yaml

from k8sddp import errors
from k8sddp.cluster import api, transport
from k8sddp.manifest import Ref
from tests import ports
from tests.contract import fake_kinds
from tests.contract.fake_cluster import FakeCluster, Fault
from tests.unit.cluster.connected import Time, config_map, fake_and_cluster, make_cluster

SETTINGS = Ref("v1", "ConfigMap", "settings")


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_passing_fault_is_tried_again_with_growing_pauses(tmp_path: Path, status: int) -> None:
    """The API server is busy or restarts."""
    with fake_and_cluster(tmp_path) as (fake, connection, time):
        fake.fail(*[Fault(status=status)] * 3)
        assert connection.get(SETTINGS) is None
        assert [0.25, 0.5, 1.0] == time.pauses


def test_lost_connection_is_tried_again_for_an_apply_too(tmp_path: Path) -> None:
    """An apply may be repeated: the second finds what the first did."""
    with fake_and_cluster(tmp_path) as (fake, connection, _):
        fake.fail(Fault(drop=True, method="PATCH"))
        assert "created" == connection.apply(config_map(), observed_version="").outcome


def test_server_says_how_long_to_wait(tmp_path: Path) -> None:
    """Retry-After wins over our own pause where it is longer."""
    with fake_and_cluster(tmp_path) as (fake, connection, time):
        fake.fail(Fault(status=429, headers={"Retry-After": "7"}))
        connection.get(SETTINGS)
        assert [7.0] == time.pauses


def test_repeating_ends(tmp_path: Path) -> None:
    """After RETRY_LIMIT seconds the last answer is the error."""
    with fake_and_cluster(tmp_path) as (fake, connection, time):
        fake.fail(*[Fault(status=503, body=b"overloaded")] * 50)
        with pytest.raises(errors.ClusterError, match="answered 503 to GET configmaps/settings: overloaded"):
            connection.get(SETTINGS)
        assert time.now <= transport.RETRY_LIMIT


def test_longer_wait_than_the_limit_is_not_begun(tmp_path: Path) -> None:
    """Nobody waits an hour before a prompt."""
    with fake_and_cluster(tmp_path) as (fake, connection, time):
        fake.fail(Fault(status=503, headers={"Retry-After": "3600"}))
        with pytest.raises(errors.ClusterError, match="answered 503"):
            connection.get(SETTINGS)
        assert [] == time.pauses


@pytest.mark.parametrize("status", [400, 401, 403, 409, 422, 500])
def test_final_answer_is_not_repeated(tmp_path: Path, status: int) -> None:
    """Above all the 500 of a manifest with an unknown field."""
    with fake_and_cluster(tmp_path) as (fake, connection, time):
        fake.fail(Fault(status=status, body={"kind": "Status", "message": "no"}))
        with pytest.raises(errors.ClusterError):
            connection.get(SETTINGS)
        assert ([], 1) == (time.pauses, len(fake.requests))


def test_internal_error_with_a_time_is_repeated(tmp_path: Path) -> None:
    """ServerTimeout comes as a 500 with retryAfterSeconds."""
    with fake_and_cluster(tmp_path) as (fake, connection, time):
        fake.fail(Fault(status=500, body={"kind": "Status", "details": {"retryAfterSeconds": 1}}))
        assert connection.get(SETTINGS) is None
        assert [1.0] == time.pauses


def test_server_that_never_answered_is_not_waited_for() -> None:
    """A wrong address is said at once."""
    time = Time()
    connection = make_cluster(f"http://127.0.0.1:{ports.free()}", time)
    with pytest.raises(errors.UnreachableError, match=r"\(context fake\) does not answer: the connection is refused"):
        connection.server_version()
    assert [] == time.pauses


def test_silent_server_ends_at_the_request_timeout() -> None:
    """Something accepts connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        connection = make_cluster(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout=0.2)
        with pytest.raises(errors.UnreachableError, match=r"no answer within 0\.2 s \(--request-timeout\)"):
            connection.server_version()


def test_server_without_tls_is_said() -> None:
    """https:// to a port that speaks HTTP."""
    with socket.create_server(("127.0.0.1", 0)) as plain:

        def answer() -> None:
            there, _ = plain.accept()
            with there:
                there.recv(100)
                there.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(errors.UnreachableError, match="does not speak TLS"):
            make_cluster(f"https://127.0.0.1:{plain.getsockname()[1]}").server_version()
        thread.join()


@pytest.mark.parametrize("head", [b"503 Service Unavailable\r\nRetry-After: 1", b"200 OK\r\nContent-Type: text/html"])
def test_refusal_of_a_stream_that_breaks_off_is_an_error_of_the_cluster(head: bytes) -> None:
    """A proxy goes away in the middle of saying so: a watch opens again, `run` goes on."""
    with socket.create_server(("127.0.0.1", 0)) as proxy:

        def answer() -> None:
            there, _ = proxy.accept()
            with there:
                there.recv(1000)
                there.sendall(b"HTTP/1.1 " + head + b"\r\nContent-Length: 100\r\n\r\nfar too short")

        thread = threading.Thread(target=answer)
        thread.start()
        connection = make_cluster(f"http://127.0.0.1:{proxy.getsockname()[1]}")
        with pytest.raises(errors.UnreachableError), connection.transport.stream("/watch", silence=5.0):
            pass
        thread.join()


@pytest.mark.parametrize(("path", "said"), [("/proxy/c-1", True), ("", False)])
def test_an_api_server_behind_a_proxy_is_away_as_any_other(path: str, said: bool) -> None:
    """Only the proxy of a pod says nothing about the API server."""
    connection = make_cluster(f"http://127.0.0.1:{ports.free()}{path}")
    request = "/version" if said else "/api/v1/namespaces/research/pods/digits-0/proxy/status"
    with pytest.raises(errors.UnreachableError):
        connection.transport.request("GET", request, patient=False)
    assert said == (connection.away is not None)


def test_name_that_does_not_resolve_is_said() -> None:
    """A VPN that is off."""
    with pytest.raises(errors.UnreachableError, match="its name does not resolve"):
        make_cluster("http://no-such-host.invalid").server_version()


def test_token_is_sent_and_never_shown(tmp_path: Path) -> None:
    """Not even in the error about it."""
    with fake_and_cluster(tmp_path) as (fake, _, _time):
        with pytest.raises(errors.UnauthorizedError) as caught:
            make_cluster(fake.url, token="secret-token").server_version()
        assert "secret-token" not in str(caught.value)


def test_warnings_are_given_out_once_each(tmp_path: Path) -> None:
    """Pod Security warns at every apply."""
    with fake_and_cluster(tmp_path) as (fake, connection, _):
        fake.warnings["configmaps"] = 'would violate \\"restricted\\"'
        assert ('would violate "restricted"',) == connection.apply(config_map()).warnings
        connection.apply(config_map(a="1"))
        assert ('would violate "restricted"',) == connection.warnings


def test_list_reads_page_by_page(tmp_path: Path) -> None:
    """A big namespace is not one answer."""
    with fake_and_cluster(tmp_path) as (fake, connection, _):
        fill(fake, 1203)
        assert 1203 == len({one["metadata"]["name"] for one in connection.list("v1", "ConfigMap").items})
        assert 3 == len(fake.requests)


def test_expired_page_starts_the_list_again(tmp_path: Path) -> None:
    """A continue token lives for minutes; what was read before may be gone and is read again."""
    with fake_and_cluster(tmp_path) as (fake, connection, _):
        fill(fake, 700)
        fake.fail(Fault(status=410, body={"kind": "Status", "code": 410}, after=1))
        assert 700 == len(connection.list("v1", "ConfigMap").items)
        assert 4 == len(fake.requests)


def test_a_list_whose_pages_always_expire_ends(tmp_path: Path) -> None:
    """A server that forgets as fast as we read is an error, not a loop."""
    with fake_and_cluster(tmp_path) as (fake, connection, _):
        fill(fake, 700)
        for _ in range(api.RELISTS + 1):  # each first page is answered, each second one is not
            fake.fail(Fault(status=410, body={"kind": "Status", "code": 410}, after=1))
        with pytest.raises(errors.ClusterError) as raised:
            connection.list("v1", "ConfigMap")
        assert 410 == raised.value.status


def fill(fake: FakeCluster, count: int) -> None:
    """Store that many ConfigMaps."""
    kind = fake_kinds.of("v1", "configmaps")
    for number in range(count):
        fake.store.create(kind, "research", dict(config_map(f"c-{number:04}")))


def test_root_logger_of_other_threads_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    """Only what this thread's client logs is taken for a complaint."""
    with transport.quiet_root_logger() as complaints:
        other = threading.Thread(target=logging.warning, args=("from elsewhere",))
        other.start()
        other.join()
        logging.error("exec: no")
    assert ["exec: no"] == complaints
    assert ["from elsewhere"] == [record.getMessage() for record in caplog.records]


def test_body_of_an_apply_is_yaml_and_json() -> None:
    """Any character arrives: what go-yaml folds or refuses raw is escaped, what it cannot join is not."""
    text = '\x7f\x85\u2028\u2029\ufeff\U0001f600 \n\t"\\'
    body = api.yaml_body(config_map(text=text))
    assert text == yaml.safe_load(body)["data"]["text"] == json.loads(body)["data"]["text"]
    assert b"\\ud83d" not in body
