"""Whether this node takes part in a running attempt, and when the kubelet hears of it.

The kubelet writes an event to the API server for every probe that fails, so a pod that merely waits must not be asked
every second. `/readyz?wait=27` is answered at once while the node trains; else it is held until the node trains, or the
seconds are over. Only the first probe after an attempt has ended is told so at once: that one makes the pod unready.
Nobody is told of an attempt that ended when the pod ends with it. `/readyz` alone is for people, and answers at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Optional

from .gang import member
from .net import http_server, loop

MAX_WAIT = 60.0  # seconds that an answer is held at most

STATES = {  # of the member -> what is said while no ranks run
    member.SEEKING: "looking for node 0",
    member.WAITING: "waiting for the other nodes",
    member.RUNNING: "starting",
    member.ENDING: "ending an attempt",
    member.LEAVING: "ending",
}


class Readiness:
    """The answers of /readyz; `state` says what the node does while it does not train, `leaving` that its pod ends."""

    def __init__(self, events: loop.Loop, *, state: Callable[[], str], leaving: Callable[[], bool]) -> None:
        self._events = events
        self._state = state
        self._leaving = leaving
        self._ready = False
        self._told = False  # what the kubelet heard last
        self._waiting: dict[object, Callable[[], None]] = {}

    @property
    def ready(self) -> bool:
        """Return whether the ranks of this node run."""
        return self._ready

    def change(self, *, ready: bool) -> None:
        """Take note, and tell those who wait for it."""
        self._ready = ready
        if ready:
            for tell in tuple(self._waiting.values()):
                tell()

    def route(self) -> http_server.Route:
        """Return the route of /readyz."""
        return http_server.Route(http_server.TEXT, self.ask, MAX_WAIT + http_server.LIMIT)

    def ask(self, request: http_server.Request, respond: http_server.Respond) -> Optional[http_server.Forget]:
        """Answer at once, or when there is news for one who would wait."""
        text = request.query.get("wait", "")
        if not (text.isascii() and text.isdigit()):
            self._answer(respond, ready=self._ready)
            return None
        if self._ready or self._told:
            self._told = self._ready or self._leaving()
            self._answer(respond, ready=self._told)
            return None
        return self._hold(min(float(text), MAX_WAIT), respond)

    def _hold(self, seconds: float, respond: http_server.Respond) -> http_server.Forget:
        key = object()

        def tell() -> None:
            forget()
            self._told = self._ready
            self._answer(respond, ready=self._ready)

        def forget() -> None:
            timer.cancel()
            self._waiting.pop(key, None)

        timer = self._events.after(seconds, tell)
        self._waiting[key] = tell
        return forget

    def _answer(self, respond: http_server.Respond, *, ready: bool) -> None:
        respond(200 if ready else 503, "training" if self._ready else self._state())
