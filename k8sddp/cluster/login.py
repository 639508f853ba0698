"""Who we are to the API server: the official client with its credentials, and a new one when they have changed.

The official client reads a token file or a certificate once, and runs a credential plugin again only when the plugin
named an end: credentials that were rotated meanwhile are seen by making another client. That is done where the server
refuses (401) what it accepted before, for all threads together, and not in a loop.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Final

PAUSE: Final = 20.0  # seconds between two logins where the first did not help: a token may be rotated a little late


class Login:
    """The client with its credentials; a new one when they were accepted before and no longer are."""

    def __init__(self, client: Any, log_in: Callable[[], Any] | None, clock: Callable[[], float]) -> None:
        self.client = client
        self._log_in = log_in
        self._clock = clock
        self._lock = threading.Lock()
        self._was_accepted = False  # any client of ours
        self._is_accepted = False  # this one
        self._not_before = 0.0

    def accepted(self, client: Any) -> None:
        """Note that the credentials of `client` are good."""
        if client is self.client:
            self._was_accepted = self._is_accepted = True

    def renewed(self, refused: Any) -> Any | None:
        """Return the client to try after `refused` got a 401, None where another login cannot help."""
        with self._lock:
            if self.client is not refused:  # another thread was quicker
                return self.client
            if self._log_in is None or not self._was_accepted:
                return None
            if not self._is_accepted and self._clock() < self._not_before:
                return None
            self._not_before = self._clock() + PAUSE
            self._is_accepted = False
            self.client = self._log_in()
            return self.client
