"""The hand-written HTTP answers: right status for every request, however bad."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k8sddp.worker.net import http_server

ROUTES = {
    "/healthz": (http_server.TEXT, lambda: (200, "ok")),
    "/readyz": (http_server.TEXT, lambda: (503, "waiting")),
    "/status": (http_server.JSON, lambda: (200, "{}")),
}


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        pytest.param(b"GET /healthz HTTP/1.1", 200, id="ok"),
        pytest.param(b"GET /healthz?x=1 HTTP/1.0", 200, id="query"),
        pytest.param(b"GET /readyz HTTP/1.1", 503, id="not ready"),
        pytest.param(b"GET /nothing HTTP/1.1", 404, id="unknown"),
        pytest.param(b"POST /healthz HTTP/1.1", 405, id="post"),
        pytest.param(b"GET /healthz", 400, id="HTTP/0.9"),
        pytest.param(b"\x16\x03\x01 TLS", 400, id="TLS"),
        pytest.param(b"GET /" + b"x" * 5000 + b" HTTP/1.1", 400, id="too long"),
    ],
)
def test_every_request_gets_its_status(request_line: bytes, status: int) -> None:
    """Also those that no client of ours sends."""
    answer = http_server.response(request_line + b"\r\n\r\n", ROUTES)
    assert str(status).encode() == answer.split()[1]


def test_the_length_is_the_bodys() -> None:
    """GET carries the body that its length announces, HEAD none."""
    head, _, body = http_server.response(b"GET /healthz HTTP/1.1\r\n\r\n", ROUTES).partition(b"\r\n\r\n")
    assert (b"ok\n", True) == (body, b"Content-Length: 3" in head)
    assert http_server.response(b"HEAD /healthz HTTP/1.1\r\n\r\n", ROUTES).endswith(b"\r\n\r\n")


def test_the_type_is_the_routes() -> None:
    """JSON is called so, and a mistake is text."""
    types = [
        next(line for line in http_server.response(request, ROUTES).split(b"\r\n") if line.startswith(b"Content-Type"))
        for request in (b"GET /status HTTP/1.1\r\n\r\n", b"GET /nothing HTTP/1.1\r\n\r\n")
    ]
    assert [b"Content-Type: application/json", b"Content-Type: text/plain; charset=utf-8"] == types


@given(st.binary(max_size=200))
def test_no_bytes_break_it(request: bytes) -> None:
    """Any bytes get an HTTP answer."""
    assert http_server.response(request, ROUTES).startswith(b"HTTP/1.0 ")
