"""How this node's member reaches the coordinator, and the coordinator on node 0 its members.

On node 0 both are in one process and node 0's own words take no network (net/loopback.py); the others dial. What is
heard goes to the driver in one shape, whoever said it and however it came. It has no rules of its own.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import NamedTuple, Optional, Union

from .contract import node_env
from .gang import messages, roster
from .net import dialer, loop, loopback, server


class Listener(NamedTuple):
    """Whom to tell what is heard."""

    up: Callable[[], None]  # the coordinator answers
    told: Callable[[messages.Message], None]  # by the coordinator
    lost: Callable[[str], None]  # the coordinator, or it cannot be reached, and why
    heard: Callable[[roster.Peer, messages.Message], None]  # on node 0: from a member
    member_lost: Callable[[roster.Peer, str], None]  # on node 0: and how, where more is known


class Connections:
    """All connections of one node; `socket_` listens for members on node 0 of a job of several nodes."""

    def __init__(
        self,
        events: loop.Loop,
        node: node_env.NodeEnv,
        host: str,
        *,
        socket_: Optional[socket.socket],
        listener: Listener,
        say: Callable[[str], None],
    ) -> None:
        self.followers: Optional[server.Server] = None  # of the coordinator
        self._node_0: Union[dialer.Dialer, loopback.Loopback]
        if node.node_rank == 0:
            self._node_0 = loopback.Loopback(
                events,
                to_coordinator=lambda message: listener.heard(roster.LOCAL, message),
                on_up=listener.up,
                on_message=listener.told,
            )
            if socket_ is not None:
                self.followers = server.Server(
                    events,
                    socket_,
                    node.job_uid,
                    nnodes=node.nnodes,
                    say=say,
                    on_message=listener.heard,
                    on_lost=listener.member_lost,
                )
            return
        self._node_0 = dialer.Dialer(
            events,
            host,
            node.port,
            key=node.job_uid,
            nnodes=node.nnodes,
            on_up=listener.up,
            on_message=listener.told,
            on_lost=listener.lost,
        )

    def dial(self) -> None:
        """Look for the coordinator (again)."""
        self._node_0.dial()

    @property
    def clear(self) -> bool:
        """Return whether all that was sent to the coordinator has left: what can wait is sent only then."""
        return self._node_0.clear

    def tell(self, message: messages.Message) -> None:
        """Send `message` to the coordinator."""
        self._node_0.send(message)

    def send(self, peer: roster.Peer, message: messages.Message) -> None:
        """Send the coordinator's `message` to a member."""
        if isinstance(self._node_0, loopback.Loopback) and peer == roster.LOCAL:
            self._node_0.deliver(message)
        elif self.followers:
            self.followers.send(peer, message)

    def close(self, peer: roster.Peer) -> None:
        """Close the connection to a member once what was sent has left."""
        if self.followers:
            self.followers.close(peer)

    def leave(self) -> None:
        """Close the connection to the coordinator."""
        self._node_0.close()
