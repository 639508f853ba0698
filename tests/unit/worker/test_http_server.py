"""The hand-written HTTP answers: right status for every request, and no client is in the way of others."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k8sddp.worker.net import http_server
from tests.unit.worker import workers
from tests.unit.worker.http_clients import Served


def broken() -> http_server.Answer:
    raise KeyError("x")


ROUTES = {
    "/healthz": http_server.at_once(http_server.TEXT, lambda: (200, "ok")),
    "/readyz": http_server.at_once(http_server.TEXT, lambda: (503, "waiting")),
    "/status": http_server.at_once(http_server.JSON, lambda: (200, "{}")),
    "/broken": http_server.at_once(http_server.JSON, broken),
}


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        pytest.param(b"GET /healthz HTTP/1.1", 200, id="ok"),
        pytest.param(b"GET /healthz?x=1 HTTP/1.0", 200, id="query"),
        pytest.param(b"GET /readyz HTTP/1.1", 503, id="not ready"),
        pytest.param(b"GET /nothing HTTP/1.1", 404, id="unknown"),
        pytest.param(b"GET /broken HTTP/1.1", 500, id="a fault of ours"),
        pytest.param(b"POST /healthz HTTP/1.1", 405, id="post"),
        pytest.param(b"GET /healthz", 400, id="HTTP/0.9"),
        pytest.param(b"\x16\x03\x01 TLS", 400, id="TLS"),
        pytest.param(b"GET /" + b"x" * 5000 + b" HTTP/1.1", 400, id="too long"),
    ],
)
def test_every_request_gets_its_status(request_line: bytes, status: int) -> None:
    """Also those that no client of ours sends."""
    with Served(ROUTES) as served:
        assert status == served.answer(request_line + b"\r\n\r\n").status


def test_a_route_that_fails_is_said_once_and_ends_nothing() -> None:
    """Each request gets 500 with the reason, the log one line, and the next route its answer."""
    with Served(ROUTES) as served:
        answers = [served.get("/broken") for _ in range(3)]
        assert [(500, "the worker cannot tell: KeyError: 'x'")] * 3 == [(one.status, one.body) for one in answers]
        assert ["the answer to GET /broken failed, and will not be told again: KeyError: 'x'"] == served.said
        assert "ok" == served.get("/healthz").body


def test_the_length_is_the_bodys() -> None:
    """GET carries the body that its length announces, HEAD none."""
    with Served(ROUTES) as served:
        got = served.get("/healthz")
        assert ("ok", True) == (got.body, b"Content-Length: 3" in got.answer)
        assert served.answer(b"HEAD /healthz HTTP/1.1\r\n\r\n").answer.endswith(b"\r\n\r\n")


def test_the_type_is_the_routes() -> None:
    """JSON is called so, and a mistake is text."""
    with Served(ROUTES) as served:
        answers = [served.get(path).answer for path in ("/status", "/nothing")]
    types = [next(line for line in answer.split(b"\r\n") if line.startswith(b"Content-Type")) for answer in answers]
    assert [b"Content-Type: application/json", b"Content-Type: text/plain; charset=utf-8"] == types


@given(st.binary(max_size=200))
def test_no_bytes_break_it(request: bytes) -> None:
    """Any bytes are a request or an answer that says what is wrong."""
    asked = http_server.parse(request)
    assert isinstance(asked, http_server.Request) or asked[0] in (400, 405)


def test_a_query_reaches_the_route() -> None:
    """By name, empty where it has no value."""
    assert {"rank": "3", "wait": ""} == getattr(
        http_server.parse(b"GET /x?rank=3&wait HTTP/1.1\r\n\r\n"), "query", None
    )


class Later:
    """A route that answers when the test says so."""

    def __init__(self, limit: float = http_server.LIMIT) -> None:
        self.responds: list[http_server.Respond] = []
        self.forgotten = 0
        self.routes = {**ROUTES, "/later": http_server.Route(http_server.TEXT, self.ask, limit)}

    def ask(self, _: http_server.Request, respond: http_server.Respond) -> http_server.Forget:
        self.responds.append(respond)
        return self.forget

    def forget(self) -> None:
        self.forgotten += 1


def test_a_route_may_answer_later_than_it_was_asked() -> None:
    """Others are served meanwhile; the first answer counts, and nobody has to forget what was answered."""
    later = Later()
    with Served(later.routes) as served:
        client = served.client().get("/later")
        served.run_until(lambda: bool(later.responds))
        assert "ok" == served.get("/healthz").body
        assert not client.closed
        later.responds[0](200, "now")
        later.responds[0](200, "again")
        served.run_until(lambda: client.closed)
        assert ("now", 0) == (client.body, later.forgotten)


def test_a_route_that_never_answers_is_answered_for() -> None:
    """After the limit that it names."""
    later = Later(limit=0.05)
    with Served(later.routes) as served:
        got = served.get("/later")
        assert (503, "no answer within 0 s") == (got.status, got.body)
        later.responds[0](200, "too late")


def test_a_client_that_goes_away_is_forgotten() -> None:
    """So that what waits for an answer does not pile up."""
    later = Later()
    with Served(later.routes) as served:
        client = served.client().get("/later")
        served.run_until(lambda: bool(later.responds))
        client.close()
        served.run_until(lambda: later.forgotten == 1)
        later.responds[0](200, "too late")


def test_idle_connections_do_not_keep_anybody_out() -> None:
    """Four times as many as there may be: each newcomer is served; the oldest idle ones make room."""
    later = Later()
    with Served(later.routes) as served:
        waits = served.client().get("/later")
        served.run_until(lambda: bool(later.responds))
        idle = [served.client() for _ in range(4 * http_server.MAX_CONNECTIONS)]
        served.run_until(lambda: sum(not one.closed for one in idle) < http_server.MAX_CONNECTIONS)
        assert "ok" == served.get("/healthz").body
        alive = [not one.closed for one in idle]
        assert alive == sorted(alive)
        assert not waits.closed
        waiting = [served.client().get("/later") for _ in range(2 * http_server.MAX_CONNECTIONS)]
        served.run_until(lambda: len(later.responds) == 1 + len(waiting))
        assert "ok" == served.get("/healthz").body


def test_a_slow_reader_holds_nobody_up() -> None:
    """It gets what it reads; others are served in between."""
    routes = {**ROUTES, "/big": http_server.at_once(http_server.TEXT, lambda: (200, "x" * 30_000_000))}
    with Served(routes) as served:
        slow = served.client()
        served.events.watch(slow.socket.fileno())
        slow.get("/big")
        assert "ok" == served.get("/healthz").body
        served.events.watch(slow.socket.fileno(), read=slow._readable)
        served.run_until(lambda: slow.closed)
        assert 30_000_000 == len(slow.body)


SHORT = """
import resource, socket, sys
from k8sddp.worker.net import http_server, loop, server
events, said, rounds = loop.Loop(), [], [0]
listener = socket.create_server(("127.0.0.1", 0), backlog=128)
if sys.argv[1] == "http":
    routes = {"/healthz": http_server.at_once(http_server.TEXT, lambda: (200, "ok"))}
    http_server.HttpServer(events, listener, routes, say=said.append)
else:
    server.Server(events, listener, "key", nnodes=99, say=said.append, on_message=print, on_lost=print)
clients = [socket.socket() for _ in range(60)]
resource.setrlimit(resource.RLIMIT_NOFILE, (clients[-1].fileno() + 11, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
for client in clients:
    client.connect(listener.getsockname())
select = events._selector.select
def counted(seconds):
    rounds[0] += 1
    return select(seconds)
events._selector.select = counted
events.after(1.5, lambda: events.stop(0))
events.run()
print(rounds[0] < 300, len(said), said[0])
for client in clients[1:]:
    client.close()
clients[0].settimeout(20)
if sys.argv[1] == "http":
    clients[0].send(b"GET /healthz HTTP/1.1\\r\\n\\r\\n")
events._result = None
events.after(1.5, lambda: events.stop(0))
events.run()
print(clients[0].recv(8))
"""


@pytest.mark.parametrize(
    ("which", "answer"), [pytest.param("http", b"HTTP/1.0", id="http"), pytest.param("gang", b"k8sddp", id="gang")]
)
def test_a_port_pauses_while_descriptors_are_short(which: str, answer: bytes) -> None:
    """It does not spin, says so once, and goes on as soon as there are some."""
    rounds, after = workers.output_of(SHORT, which).splitlines()
    port = "the HTTP port" if which == "http" else "the gang port"
    assert f"True 1 connections to {port} wait: too many open files (see `ulimit -n` and the pod's limits)" == rounds
    assert after.startswith(f"b'{answer.decode()}")
