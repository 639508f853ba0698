"""The HTTP side of the fake API server: URLs, queries, streams, and the faults a test asks for."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import parse_qsl, unquote, urlsplit

import yaml

from tests.contract import fake_answers, fake_kinds
from tests.contract.fake_kinds import Kind

if TYPE_CHECKING:
    from tests.contract.fake_cluster import FakeCluster

_PATH = re.compile(
    r"/(?:api|apis/(?P<group>[^/]+))/(?P<version>[^/]+)/namespaces/(?P<namespace>[^/]+)/(?P<plural>[^/]+)"
    r"(?:/(?P<name>[^/]+))?(?P<log>/log)?(?P<proxy>/proxy/.+)?"
)
_VERBS = {"GET": "get", "PATCH": "patch", "POST": "create", "DELETE": "delete"}


class Handler(BaseHTTPRequestHandler):
    """One request; `fake` is set on a subclass per server."""

    fake: ClassVar[FakeCluster]
    protocol_version = "HTTP/1.1"
    timeout = 10
    disable_nagle_algorithm = True

    def log_message(self, *args: Any) -> None:
        """Stay silent."""

    def do_GET(self) -> None:
        self._handle()

    do_PATCH = do_POST = do_DELETE = do_GET

    def _handle(self) -> None:
        url = urlsplit(self.path)
        self.query = dict(parse_qsl(url.query))
        self.content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.fake.requests.append((self.command, url.path, self.query))
        try:
            fault = self.fake.next_fault(self.command, url.path)
            self._late = fault is not None and fault.late
            if fault is not None and not fault.late:
                if fault.drop:
                    self._drop()
                    return
                self._send(fault.status, fault.body, headers=fault.headers)
                return
            self._authorize()
            self._route(url.path)
        except fake_answers.Refused as refused:
            self._send(refused.code, b"" if refused.code == 204 else refused.status)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def _drop(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):  # the client may have gone first
            self.connection.shutdown(socket.SHUT_RDWR)

    def _authorize(self) -> None:
        if self.headers.get("Authorization") != f"Bearer {self.fake.token}":
            raise fake_answers.unauthorized()

    def _route(self, path: str) -> None:
        if path == "/version":
            major, minor = self.fake.version
            self._send(200, {"major": str(major), "minor": str(minor), "gitVersion": f"v{major}.{minor}.0"})
            return
        match = _PATH.fullmatch(path)
        if match is None:
            self._send(404, b"404 page not found\n")
            return
        version = f"{match['group']}/{match['version']}" if match["group"] else match["version"]
        kind = fake_kinds.of(version, match["plural"])
        namespace, name = unquote(match["namespace"]), unquote(match["name"] or "")
        verb = _VERBS[self.command] if name else {"GET": "list", "POST": "create"}[self.command]
        if (verb, kind.plural) in self.fake.forbidden:
            raise fake_answers.forbidden("jane", verb, kind.plural, group=kind.group, namespace=namespace)
        if match["proxy"]:
            self._proxy(name.partition(":")[0], match["proxy"].removeprefix("/proxy"), namespace)
        elif match["log"]:
            self._stream(self._log(namespace, name), "text/plain")
        else:
            getattr(self, f"_{verb}")(kind, namespace, name)

    def _get(self, kind: Kind, namespace: str, name: str) -> None:
        self._send(200, self.fake.store.get(kind, namespace, name))

    def _proxy(self, pod: str, path: str, namespace: str) -> None:
        """Pass a GET on to a pod, as far as the test lets it answer."""
        if ("get", "pods/proxy") in self.fake.forbidden:
            raise fake_answers.forbidden("jane", "get", "pods/proxy", group="", namespace=namespace)
        found = self.fake.store.get(fake_kinds.of("v1", "pods"), namespace, pod)
        if not self.fake.has_started(found):
            raise fake_answers.Refused(400, "BadRequest", "address not allowed")
        answer = self.fake.answers.get((pod, path))
        if answer is None:
            text = "error trying to reach service: dial tcp 10.0.0.7:29401: connect: connection refused"
            raise fake_answers.Refused(503, "ServiceUnavailable", text)
        else:
            self._send(200, answer() if callable(answer) else answer)

    def _list(self, kind: Kind, namespace: str, _name: str) -> None:
        if self.query.get("watch") == "true":
            self._stream(self._watch_lines(kind, namespace), "application/json")
            return
        with self.fake.store.changed:
            found = [one for one in self.fake.store.list(kind.plural, namespace) if self._selected(one)]
            version = str(self.fake.store.version)
        start, size = int(self.query.get("continue", 0)), int(self.query.get("limit", 0)) or len(found) or 1
        more = str(start + size) if start + size < len(found) else ""
        items = [{key: value for key, value in one.items() if key not in ("apiVersion", "kind")} for one in found]
        listing = {
            "apiVersion": kind.api_version,
            "kind": f"{kind.kind}List",
            "metadata": {"resourceVersion": version, **({"continue": more} if more else {})},
            "items": items[start : start + size],
        }
        self._send(200, listing)

    def _patch(self, kind: Kind, namespace: str, name: str) -> None:
        if self.headers["Content-Type"] == "application/merge-patch+json":
            self._send(200, self.fake.store.merge_patch(kind, namespace, name, json.loads(self.content)))
            return
        if self.headers["Content-Type"] != "application/apply-patch+yaml":
            raise fake_answers.Refused(415, "UnsupportedMediaType", "only apply and merge patches are known here")
        config = yaml.safe_load(self.content)
        status, stored = self.fake.store.apply(
            kind,
            namespace,
            config,
            manager=self.query["fieldManager"],
            force=self.query.get("force") == "true",
            dry_run=self.query.get("dryRun") == "All",
        )
        warning = self.fake.warnings.get(kind.plural)
        self._send(status, stored, headers={"Warning": f'299 - "{warning}"'} if warning else {})
        assert config["metadata"]["name"] == name

    def _create(self, kind: Kind, namespace: str, _name: str) -> None:
        manifest = json.loads(self.content)
        path = fake_kinds.undeclared_field(kind, manifest)
        if path and self.query.get("fieldValidation") == "Strict":
            raise fake_answers.unknown_field(kind.api_version.rpartition("/")[2], kind.kind, path)
        with self.fake.store.changed:
            stored = self.fake.store.create(kind, namespace, manifest)
            self.fake.store.react()
        self._send(201, stored)

    def _delete(self, kind: Kind, namespace: str, name: str) -> None:
        options = json.loads(self.content or b"{}")
        one = self.fake.store.get(kind, namespace, name)
        wanted = (options.get("preconditions") or {}).get("uid")
        if wanted and wanted != one["metadata"]["uid"]:
            raise fake_answers.uid_precondition(kind.kind, name, wanted=wanted, found=one["metadata"]["uid"])
        # batch/v1 Jobs alone orphan by default (pkg/registry/batch/job/strategy.go): a raw DELETE leaves their pods
        policy = options.get("propagationPolicy") or ("Orphan" if kind.kind == "Job" else "Background")
        self._send(200, self.fake.store.delete(kind.plural, namespace, name, policy=policy))

    def _selected(self, one: dict[str, Any]) -> bool:
        labels = one["metadata"].get("labels") or {}
        for term in filter(None, self.query.get("labelSelector", "").split(",")):
            key, equals, value = term.partition("=")
            if key not in labels or (equals and labels[key] != value):
                return False
        for term in filter(None, self.query.get("fieldSelector", "").split(",")):
            path, _, value = term.partition("=")
            here: Any = one
            for key in path.split("."):
                here = (here or {}).get(key)
            if here != value:
                return False
        return True

    def _watch_lines(self, kind: Kind, namespace: str) -> Iterator[bytes]:
        store, position = self.fake.store, int(self.query["resourceVersion"])
        end = time.monotonic() + float(self.query.get("timeoutSeconds", 60))
        generation = self.fake.connections
        while time.monotonic() < end and generation == self.fake.connections:
            with store.changed:
                if position < store.compacted:
                    yield _event("ERROR", fake_answers.expired().status)
                    return
                news = [entry for entry in store.history if entry.version > position]
                if not news:
                    position = store.version
                    store.changed.wait(0.2)
            for entry in news:
                position = entry.version
                if (entry.plural, entry.namespace) == (kind.plural, namespace) and self._selected(entry.object):
                    yield _event(entry.type, entry.object)
            if not news and self.fake.bookmarks:
                metadata = {"resourceVersion": str(position)}
                yield _event("BOOKMARK", {"kind": kind.kind, "apiVersion": kind.api_version, "metadata": metadata})

    def _log(self, namespace: str, name: str) -> Iterator[bytes]:
        """Return the lines to send; a refusal comes before the head."""
        fake = self.fake
        pod = fake.store.get(fake_kinds.of("v1", "pods"), namespace, name)
        if not pod["spec"].get("nodeName"):
            raise fake_answers.Refused(204, "", "")  # no kubelet to ask: the real server answers with nothing
        if not fake.has_started(pod):
            text = f'container "worker" in pod "{name}" is waiting to start: ContainerCreating'
            raise fake_answers.Refused(400, "BadRequest", text)
        return self._log_lines(namespace, name)

    def _log_lines(self, namespace: str, name: str) -> Iterator[bytes]:
        fake = self.fake
        lines = fake.log_of(name)
        since = self.query.get("sinceTime", "")[:19]  # the API has whole seconds only
        position = next((i for i, (stamp, _) in enumerate(lines) if stamp[:19] >= since), len(lines))
        if "tailLines" in self.query:
            position = max(position, len(lines) - int(self.query["tailLines"]))
        generation = fake.connections
        while True:
            with fake.store.changed:
                new, position = lines[position:], len(lines)
                over = self.query.get("follow") != "true" or fake.has_ended(namespace, name)
                if not new and not over and generation == fake.connections:
                    fake.store.changed.wait(0.2)
            for stamp, text in new:
                prefix = f"{stamp} ".encode() if self.query.get("timestamps") == "true" else b""
                yield prefix + text + b"\n"
            if (over and not new) or generation != fake.connections:
                return

    def _stream(self, lines: Iterator[bytes], content_type: str) -> None:
        """Send the head at once and each line as a chunk."""
        self.send_response(200)
        self.send_header("Content-Type", content_type)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        generation = self.fake.connections
        for line in lines:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
        if generation != self.fake.connections:  # cut in the middle, without the last chunk
            self._drop()
        else:
            self.wfile.write(b"0\r\n\r\n")

    def _send(self, status: int, body: Any, *, headers: dict[str, str] | None = None) -> None:
        if self._late:
            self._drop()
            return
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain" if isinstance(body, bytes) else "application/json")
        self.send_header("Content-Length", str(len(content)))
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(content)


def _event(change: str, one: dict[str, Any]) -> bytes:
    return json.dumps({"type": change, "object": one}).encode() + b"\n"
