"""The coordinator's side of the connections: listens, numbers the peers, hands messages on. Decides nothing.

The number of connections is bounded, those of strangers by a handshake limit too. A stranger costs one log line per
kind of mistake, not one per attempt to connect.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

from k8sddp.worker.gang import messages, roster

from . import link, listening, loop

BACKLOG = 1024
SPARE = 64  # connections beyond one per node: newcomers while their predecessors are still open, and strangers


class Server:
    """The gang port; `on_message` and `on_lost` get the peer's number, and `on_lost` why, if it fell silent."""

    def __init__(
        self,
        events: loop.Loop,
        listener: socket.socket,
        key: str,
        *,
        nnodes: int,
        say: Callable[[str], None],
        on_message: Callable[[roster.Peer, messages.Message], None],
        on_lost: Callable[[roster.Peer, str], None],
    ) -> None:
        self._events = events
        self._key = key
        self._limit = nnodes + SPARE
        self._say = say
        self._on_message = on_message
        self._on_lost = on_lost
        self._links: dict[roster.Peer, link.Link] = {}
        self._next: roster.Peer = roster.LOCAL + 1
        self._reported: set[str] = set()
        listening.Listener(events, listener, purpose="the gang port", say=say, accepted=self._accept)

    @property
    def idle(self) -> bool:
        """Return whether every connection is closed."""
        return not self._links

    def send(self, peer: roster.Peer, message: messages.Message) -> None:
        """Send `message` to `peer` if it is still there."""
        if peer in self._links:
            self._links[peer].send(message)

    def close(self, peer: roster.Peer) -> None:
        """Close the connection to `peer` once what was sent has left."""
        connection = self._links.pop(peer, None)
        if connection:
            connection.close()

    def _accept(self, sock: socket.socket, address: str) -> None:
        if len(self._links) >= self._limit:
            sock.close()
            return
        peer, self._next = self._next, self._next + 1
        known = [False]

        def message(_: link.Link, received: messages.Message) -> None:
            known[0] = True
            self._on_message(peer, received)

        def lost(connection: link.Link, reason: str) -> None:
            self._links.pop(peer, None)
            if known[0]:
                self._on_lost(peer, reason if connection.silent else "")
            elif reason not in self._reported and len(self._reported) < SPARE:
                self._reported.add(reason)
                self._say("dropped a connection from %s: %s" % (address, reason))

        self._links[peer] = link.Link(
            self._events,
            sock,
            self._key,
            coordinator=True,
            on_up=lambda _: None,
            on_message=message,
            on_lost=lost,
        )


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket at `host`; an empty host means every address, IPv4 and IPv6.

    Raises OSError when the port is taken or the address is not ours.
    """
    if host:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    if socket.has_dualstack_ipv6():
        try:
            return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=BACKLOG)
        except OSError as error:
            if error.errno == 98:  # EADDRINUSE: IPv4 alone would only hide it
                raise
    return socket.create_server(("", port), backlog=BACKLOG)
