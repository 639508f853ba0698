"""/healthz, /readyz, /status, /metrics: HTTP/1.0 GET on the worker's loop, because http.server costs twice our memory.

Ready means that this node takes part in a running attempt. Read-only, no body is ever read, one request per
connection; size, time and number of connections are bounded, so a slow client costs a descriptor for some seconds.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping

from . import loop

MAX_REQUEST = 4096
LIMIT = 5.0  # seconds for one connection
MAX_CONNECTIONS = 32

TEXT = "text/plain; charset=utf-8"
JSON = "application/json"
METRICS = "text/plain; version=0.0.4; charset=utf-8"

Answer = tuple[int, str]  # status, text
Route = tuple[str, Callable[[], Answer]]  # the content's type, and who gives the answer
REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 503: "Service Unavailable"}


class HttpServer:
    """Serves `routes` (by path) on a listening socket."""

    def __init__(self, events: loop.Loop, listener: socket.socket, routes: Mapping[str, Route]) -> None:
        self._events = events
        self._listener = listener
        self._routes = routes
        self._open = 0
        listener.setblocking(False)
        events.watch(listener.fileno(), read=self._accept)

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError:
            return
        if self._open >= MAX_CONNECTIONS:
            sock.close()
            return
        self._open += 1
        sock.setblocking(False)
        request, answer = bytearray(), bytearray()

        def close() -> None:
            self._open -= 1
            timer.cancel()
            self._events.watch(sock.fileno())
            sock.close()

        def readable() -> None:
            try:
                data = sock.recv(MAX_REQUEST)
            except BlockingIOError:
                return
            except OSError:
                close()
                return
            request.extend(data)
            if b"\r\n\r\n" in request or len(request) > MAX_REQUEST:
                answer.extend(response(bytes(request), self._routes))
                writable()
            elif not data:
                close()

        def writable() -> None:
            try:
                del answer[: sock.send(answer)]
            except BlockingIOError:
                pass
            except OSError:
                answer.clear()
            if answer:
                self._events.watch(sock.fileno(), write=writable)
            else:
                close()

        timer = self._events.after(LIMIT, close)
        self._events.watch(sock.fileno(), read=readable)


def response(request: bytes, routes: Mapping[str, Route]) -> bytes:
    """Return the whole response to a request; pure but for the answer's own function."""
    words = request.split(b"\r\n", 1)[0].split(b" ")
    head = len(words) == 3 and words[0] == b"HEAD"
    kind = TEXT
    if len(request) > MAX_REQUEST or len(words) != 3 or not words[2].startswith(b"HTTP/1."):
        status, text = 400, "bad request"
    elif words[0] not in (b"GET", b"HEAD"):
        status, text = 405, "only GET and HEAD"
    else:
        route = routes.get(words[1].split(b"?", 1)[0].decode("latin-1"))
        status, text = 404, "not found; there are: %s" % ", ".join(sorted(routes))
        if route:
            kind, answer = route[0], route[1]
            status, text = answer()
    body = (text + "\n").encode("utf-8")
    lines = (
        "HTTP/1.0 %d %s" % (status, REASONS.get(status, "OK")),
        "Content-Type: %s" % kind,
        "Content-Length: %d" % len(body),
        "Connection: close",
    )
    return "\r\n".join(lines).encode("ascii") + b"\r\n\r\n" + (b"" if head else body)
