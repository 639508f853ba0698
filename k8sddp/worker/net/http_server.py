"""HTTP/1.0 GET on the worker's loop, because http.server costs twice our memory.

Read-only, no body is ever read, one request per connection. A route may answer later than it was asked: what waits for
something need not be asked again and again. Size, time and number of connections are bounded, and a newcomer always
gets in: the oldest that has asked nothing yet makes room. A fault in a route is answered with 500, said once, and never
reaches the loop: telling must not end what trains.
"""

from __future__ import annotations

import functools
import socket
from collections.abc import Callable, Mapping
from typing import NamedTuple, Optional, Union

from . import listening, loop, telling

MAX_REQUEST = 4096
LIMIT = 5.0  # seconds for a request, for a route's answer unless it names another limit, and for sending it
MAX_CONNECTIONS = 32

TEXT = "text/plain; charset=utf-8"
JSON = "application/json"
METRICS = "text/plain; version=0.0.4; charset=utf-8"

REASONS = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    500: "Internal Server Error",
    503: "Service Unavailable",
}

Answer = tuple[int, str]  # status, text
Respond = Callable[[int, str], None]  # to be called once, at once or later; what comes too late is dropped
Forget = Callable[[], None]  # to be called when nobody waits for the answer any more


class Request(NamedTuple):
    """What is asked for; of a name that comes twice in the query the last one counts."""

    path: str
    query: Mapping[str, str]
    head: bool  # the headers alone


class Route(NamedTuple):
    """The content's type, who is asked (and may return what to call when the asker has gone), and for how long.

    What is no content, any status but 200, is text.
    """

    kind: Union[str, Callable[[Request], str]]
    ask: Callable[[Request, Respond], Optional[Forget]]
    limit: float = LIMIT


def at_once(kind: str, answer: Callable[[], Answer]) -> Route:
    """Return the route of something that is always known."""

    def ask(_: Request, respond: Respond) -> None:
        respond(*answer())

    return Route(kind, ask)


class HttpServer:
    """Serves `routes` (by path) on a listening socket."""

    def __init__(
        self,
        events: loop.Loop,
        listener: socket.socket,
        routes: Mapping[str, Route],
        *,
        say: Callable[[str], None],
    ) -> None:
        self.events = events
        self.routes = routes
        self.teller = telling.Teller(say)
        self._connections: dict[_Connection, None] = {}  # the oldest first
        listening.Listener(events, listener, purpose="the HTTP port", say=say, accepted=self._accepted)

    def _accepted(self, sock: socket.socket, _: str) -> None:
        if len(self._connections) >= MAX_CONNECTIONS:
            min(self._connections, key=lambda one: one.busy).close()  # the first of those that are least busy
        connection = _Connection(self, sock)
        self._connections[connection] = None
        connection.begin()

    def closed(self, connection: _Connection) -> None:
        """Forget a connection."""
        self._connections.pop(connection, None)


class _Connection:
    """One request and its answer."""

    def __init__(self, server: HttpServer, sock: socket.socket) -> None:
        self._server = server
        self._socket = sock
        self._request = bytearray()
        self._answer = bytearray()
        self._forget: Optional[Forget] = None
        self._open = True
        self.busy = 0  # 0: has asked nothing yet, 1: takes its answer, 2: waits for it
        self._timer = loop.Timer(0.0, None)
        sock.setblocking(False)
        self._watch(read=self._readable)
        self._wait(LIMIT, self.close)

    def begin(self) -> None:
        """Read what has come already, so that of many newcomers none has to go whose request is there."""
        self._guarded(self._readable)()

    def close(self) -> None:
        """Close at once."""
        if not self._open:
            return
        self._open = False
        self._timer.cancel()
        self._server.closed(self)
        self._server.events.watch(self._socket.fileno())
        self._socket.close()
        forget, self._forget = self._forget, None
        if forget:
            self._guarded(forget)()

    def _guarded(self, callback: Callable[..., None]) -> Callable[..., None]:
        return self._server.teller.guarded("a connection to the HTTP port", callback, self.close)

    def _watch(self, *, read: Optional[loop.Callback] = None, write: Optional[loop.Callback] = None) -> None:
        self._server.events.watch(
            self._socket.fileno(),
            read=self._guarded(read) if read else None,
            write=self._guarded(write) if write else None,
        )

    def _wait(self, seconds: float, late: Callable[[], None]) -> None:
        self._timer.cancel()
        self._timer = self._server.events.after(seconds, self._guarded(late))

    def _readable(self) -> None:
        try:
            data = self._socket.recv(MAX_REQUEST)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
        elif not self.busy:  # else it says more than it was to say
            self._request += data
            if b"\r\n\r\n" in self._request or len(self._request) > MAX_REQUEST:
                self._ask(parse(bytes(self._request)))

    def _ask(self, asked: Request | Answer) -> None:
        if not isinstance(asked, Request):
            self._send(response(*asked))
            return
        route = self._server.routes.get(asked.path)
        if route is None:
            self._send(response(404, "not found; there are: %s" % ", ".join(sorted(self._server.routes))))
            return
        self.busy = 2
        kind = route.kind if isinstance(route.kind, str) else route.kind(asked)
        respond = self._guarded(functools.partial(self._respond, kind, asked.head))
        self._wait(route.limit, lambda: respond(503, "no answer within %.0f s" % route.limit))
        try:
            self._forget = route.ask(asked, respond)
        except Exception as error:
            self._server.teller.failed("the answer to GET %s" % asked.path, error)
            self._respond(TEXT, asked.head, 500, "the worker cannot tell: %s" % telling.describe(error))
        if self.busy != 2:
            self._forget = None  # it was answered at once

    def _respond(self, kind: str, head: bool, status: int, text: str) -> None:
        if self._open and self.busy == 2:
            self._forget = None
            self._send(response(status, text, kind=kind if status == 200 else TEXT, head=head))

    def _send(self, answer: bytes) -> None:
        self.busy = 1
        self._answer += answer
        self._wait(LIMIT, self.close)
        self._guarded(self._writable)()

    def _writable(self) -> None:
        try:
            del self._answer[: self._socket.send(self._answer)]
        except BlockingIOError:
            pass
        except OSError:
            self._answer.clear()
        if self._answer:
            self._watch(write=self._writable)
        else:
            self.close()


def parse(request: bytes) -> Request | Answer:
    """Return what is asked for, or the answer that a bad request gets."""
    words = request.split(b"\r\n", 1)[0].split(b" ")
    if len(request) > MAX_REQUEST or len(words) != 3 or not words[2].startswith(b"HTTP/1."):
        return 400, "bad request"
    if words[0] not in (b"GET", b"HEAD"):
        return 405, "only GET and HEAD"
    path, _, query = words[1].decode("latin-1").partition("?")
    pairs = (pair.partition("=") for pair in query.split("&") if pair)
    return Request(path, {name: value for name, _, value in pairs}, words[0] == b"HEAD")


def response(status: int, text: str, *, kind: str = TEXT, head: bool = False) -> bytes:
    """Return a whole response."""
    body = (text + "\n").encode("utf-8", "backslashreplace")
    lines = (
        "HTTP/1.0 %d %s" % (status, REASONS.get(status, "OK")),
        "Content-Type: %s" % kind,
        "Content-Length: %d" % len(body),
        "Connection: close",
    )
    return "\r\n".join(lines).encode("ascii") + b"\r\n\r\n" + (b"" if head else body)
