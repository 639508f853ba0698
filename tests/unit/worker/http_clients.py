"""An HTTP server of the worker and its clients, all in one loop of the test's own process."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping

from k8sddp.worker.net import http_server, loop
from tests.unit.worker import serving

LIMIT = 20.0  # seconds; only reached by a test that fails


class Client:
    """One connection; `answer` is what has come so far."""

    def __init__(self, events: loop.Loop, port: int) -> None:
        self._events = events
        self.answer = b""
        self.closed = False
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setblocking(False)
        events.watch(self.socket.fileno(), read=self._readable)

    def send(self, request: bytes) -> Client:
        self.socket.send(request)
        return self

    def get(self, path: str) -> Client:
        return self.send(b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % path.encode())

    @property
    def status(self) -> int:
        return int(self.answer.split()[1])

    @property
    def body(self) -> str:
        return self.answer.partition(b"\r\n\r\n")[2].decode().rstrip("\n")

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._events.watch(self.socket.fileno())
            self.socket.close()

    def _readable(self) -> None:
        try:
            data = self.socket.recv(65536)
        except ConnectionError:
            data = b""
        self.answer += data
        if not data:
            self.close()


class Served:
    """Routes that are served while the context lasts."""

    def __init__(self, routes: Mapping[str, http_server.Route], events: loop.Loop | None = None) -> None:
        self.events = events or loop.Loop()
        self.said: list[str] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._clients: list[Client] = []
        http_server.HttpServer(self.events, self._listener, routes, say=self.said.append)

    def __enter__(self) -> Served:
        return self

    def __exit__(self, *_: object) -> None:
        for client in self._clients:
            client.close()
        self.events.after(0.01, lambda: self.events.stop(0))
        self.events._result = None
        self.events.run()  # the server's ends close
        self.events.watch(self._listener.fileno())
        self._listener.close()

    def client(self) -> Client:
        client = Client(self.events, self._listener.getsockname()[1])
        self._clients.append(client)
        return client

    def run_until(self, condition: Callable[[], bool]) -> None:
        """Serve the loop until `condition` holds."""
        serving.until(self.events, condition, limit=LIMIT, said=lambda: str(self.said))

    def answer(self, request: bytes) -> Client:
        """Return the client of one request when it has been answered."""
        client = self.client().send(request)
        self.run_until(lambda: client.closed)
        return client

    def get(self, path: str) -> Client:
        """Return the client of a GET when it has been answered."""
        return self.answer(b"GET %s HTTP/1.1\r\n\r\n" % path.encode())
