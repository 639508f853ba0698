"""Credentials that are rotated while a command runs: one more login, never a loop, and never a stranger's server."""

from __future__ import annotations

import json
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from k8sddp import cluster, errors
from k8sddp.cluster import login
from tests.unit.cluster.connected import Time, write_kubeconfig

VERSION = {"major": "1", "minor": "37"}


class Guard:
    """An API server that lets in whom `knows` knows, and notes who asked and how."""

    def __init__(self) -> None:
        self.good = "A"
        self.seen: list[str] = []
        self.headers: list[dict[str, str]] = []
        guard = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"  # connections are kept, and with them whom they were made for
            timeout = 10

            def do_GET(self) -> None:
                who = guard.who(self)
                guard.seen.append(who)
                guard.headers.append(dict(self.headers))
                code, body = (200, VERSION) if who == guard.good else (401, {"kind": "Status", "code": 401})
                content = json.dumps(body).encode()
                self.send_response(code)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *args: Any) -> None:
                """Stay silent."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)

    @staticmethod
    def who(request: BaseHTTPRequestHandler) -> str:
        if isinstance(request.connection, ssl.SSLSocket):
            certificate: Any = request.connection.getpeercert()
            return str(dict(part for names in certificate["subject"] for part in names)["commonName"])
        return request.headers.get("Authorization", "").removeprefix("Bearer ")

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server.server_address[1]}"


@pytest.fixture
def guard() -> Iterator[Guard]:
    """Give a running guard."""
    guard = Guard()
    guard.thread.start()
    yield guard
    guard.server.shutdown()
    guard.server.server_close()


def token_file(folder: Path) -> dict[str, Any]:
    """Return a user whose token stands in a file."""
    return {"tokenFile": str(folder / "token")}


def plugin(folder: Path, **status: str) -> dict[str, Any]:
    """Return a user whose token comes from a program."""
    script = folder / "plugin"
    answer = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential"}
    text = json.dumps({**answer, "status": {"token": "TOKEN", **status}})
    script.write_text(f"#!/bin/sh\nsed \"s/TOKEN/$(cat '{folder / 'token'}')/\" <<'END'\n{text}\nEND\n")
    script.chmod(0o755)
    fields = {"apiVersion": "client.authentication.k8s.io/v1", "interactiveMode": "Never"}
    return {"exec": {**fields, "command": str(script)}}


def plugin_with_an_end(folder: Path) -> dict[str, Any]:
    """Return a user whose program promises a token that lasts."""
    return plugin(folder, expirationTimestamp="2099-01-01T00:00:00Z")


def connect(folder: Path, guard: Guard, user: dict[str, Any]) -> cluster.Cluster:
    """Return a connection of that user."""
    path = write_kubeconfig(folder / "kubeconfig", cluster={"server": f"http://{guard.address}"}, user=user)
    return cluster.connect(kubeconfig=str(path))


@pytest.mark.parametrize("user", [token_file, plugin, plugin_with_an_end])
def test_a_rotated_token_is_fetched_and_the_request_sent_once_more(
    tmp_path: Path, guard: Guard, user: Callable[[Path], dict[str, Any]]
) -> None:
    """A job outlives most tokens."""
    (tmp_path / "token").write_text("A")
    connection = connect(tmp_path, guard, user(tmp_path))
    connection.server_version()
    (tmp_path / "token").write_text("B")
    guard.good = "B"
    assert (1, 37) == connection.server_version()
    assert ["A", "A", "B"] == guard.seen


def test_a_token_written_anew_into_the_kubeconfig_is_seen(tmp_path: Path, guard: Guard) -> None:
    """What `oc login` and its like do."""
    connection = connect(tmp_path, guard, {"token": "A"})
    connection.server_version()
    guard.good = "B"
    connect(tmp_path, guard, {"token": "B"})
    assert (1, 37) == connection.server_version()


def test_a_client_certificate_rotated_on_disk_is_used(tmp_path: Path, guard: Guard) -> None:
    """The connections that are kept were made with the old one."""
    for name in ("server", "A", "B"):
        certify(tmp_path, name)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.crt", tmp_path / "server.key")
    context.verify_mode = ssl.CERT_REQUIRED
    for name in ("A", "B"):
        context.load_verify_locations(tmp_path / f"{name}.crt")
    guard.server.socket = context.wrap_socket(guard.server.socket, server_side=True)

    def rotate(name: str) -> None:
        for end in ("crt", "key"):
            (tmp_path / f"client.{end}").write_bytes((tmp_path / f"{name}.{end}").read_bytes())

    rotate("A")
    user = {"client-certificate": "client.crt", "client-key": "client.key"}
    server = {"server": f"https://{guard.address}", "certificate-authority": "server.crt"}
    path = write_kubeconfig(tmp_path / "kubeconfig", cluster=server, user=user)
    connection = cluster.connect(kubeconfig=str(path))
    connection.server_version()
    rotate("B")
    guard.good = "B"
    assert (1, 37) == connection.server_version()
    assert ["A", "A", "B"] == guard.seen


def certify(folder: Path, name: str) -> None:
    """Write a certificate that signs itself, for 127.0.0.1 and for a client of that name."""
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc", "-days", "2")
    files = ("-keyout", str(folder / f"{name}.key"), "-out", str(folder / f"{name}.crt"))
    names = ("-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1")
    uses = ("-addext", "keyUsage=critical,keyCertSign,digitalSignature")
    subprocess.run(["openssl", "req", "-x509", "-new", *curve, *names, *uses, *files], check=True, capture_output=True)


def test_credentials_that_were_never_good_are_not_renewed(tmp_path: Path, guard: Guard) -> None:
    """The first 401 is the answer: a plugin that asks a person is not started twice."""
    (tmp_path / "token").write_text("wrong")
    connection = connect(tmp_path, guard, token_file(tmp_path))
    with pytest.raises(errors.UnauthorizedError):
        connection.server_version()
    assert ["wrong"] == guard.seen


def test_a_login_that_did_not_help_is_not_repeated_at_once(tmp_path: Path, guard: Guard) -> None:
    """Only after a pause: a token file may be written a little late."""
    (tmp_path / "token").write_text("A")
    connection = connect(tmp_path, guard, token_file(tmp_path))
    connection.server_version()
    guard.good = "B"
    logins = []
    time = Time()
    make = connection.transport._login._log_in
    connection.transport._login._clock = time.clock
    connection.transport._login._log_in = lambda: logins.append(time.now) or make()  # type: ignore[func-returns-value, misc]
    for _ in range(3):
        with pytest.raises(errors.UnauthorizedError):
            connection.server_version()
    (tmp_path / "token").write_text("B")
    time.now += login.PAUSE
    assert (1, 37) == connection.server_version()
    assert [0.0, login.PAUSE] == logins


def test_credentials_are_not_carried_to_another_server(tmp_path: Path, guard: Guard) -> None:
    """The context was pointed elsewhere meanwhile: that is another cluster, and another login."""
    connection = connect(tmp_path, guard, {"token": "A"})
    connection.server_version()
    guard.good = "B"
    write_kubeconfig(tmp_path / "kubeconfig", cluster={"server": "http://127.0.0.1:1"}, user={"token": "B"})
    with pytest.raises(errors.KubeconfigError, match=r"context here now names http://127\.0\.0\.1:1 instead of"):
        connection.server_version()
    assert ["A", "A"] == guard.seen


def test_requests_say_who_we_are_and_as_whom_we_act(tmp_path: Path, guard: Guard) -> None:
    """`as` and `as-uid` of a kubeconfig user: without the headers one would act with more rights than written."""
    user = {"token": "A", "as": "system:serviceaccount:research:bot", "as-uid": "u-1"}
    connection = connect(tmp_path, guard, user)
    connection.server_version()
    (sent,) = guard.headers
    assert ("system:serviceaccount:research:bot", "u-1") == (sent["Impersonate-User"], sent["Impersonate-Uid"])
    program, _, python = sent["User-Agent"].partition(" ")
    assert ("k8sddp/", "(python/") == (program[:7], python[:8])
