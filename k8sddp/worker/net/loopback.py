"""Node 0's own way to the coordinator, which is in the same process: a Dialer's face without a network.

It needs neither DNS nor a connection, so it is up as soon as it is dialed and never lost. Every word waits for the next
round of the loop, as if it had come over the wire: neither machine is called while it decides.
"""

from __future__ import annotations

from collections.abc import Callable

from k8sddp.worker.gang import messages

from . import loop


class Loopback:
    """Carries messages between node 0's member and its coordinator."""

    def __init__(
        self,
        events: loop.Loop,
        *,
        to_coordinator: Callable[[messages.Message], None],
        on_up: Callable[[], None],
        on_message: Callable[[messages.Message], None],
    ) -> None:
        self._events = events
        self._to_coordinator = to_coordinator
        self._on_up = on_up
        self._on_message = on_message

    def dial(self) -> None:
        """Call `on_up`."""
        self._events.soon(self._on_up)

    @property
    def clear(self) -> bool:
        """Return True: nothing can be in the way."""
        return True

    def send(self, message: messages.Message) -> None:
        """Send `message` to the coordinator."""
        self._events.soon(lambda: self._to_coordinator(message))

    def deliver(self, message: messages.Message) -> None:
        """Take a message of the coordinator to the member."""
        self._events.soon(lambda: self._on_message(message))

    def close(self) -> None:
        """Close nothing: what was sent is on its way already."""
