"""Frames between members and coordinator: length, HMAC-SHA256, JSON. Pure: bytes in, bytes and messages out.

Both sides greet with a magic word (which carries the version) and a nonce; every frame is then authenticated with the
job's uid over both nonces, the direction and a counter, so that nothing can be replayed, reordered or sent by a
stranger or a stale pod of another job. That keeps out mistakes, not people who can read pods. Sizes are bounded before
anything is parsed. Nothing is encrypted.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping

MAGIC = b"k8sddp/5"
NONCE_SIZE = 16
MAC_SIZE = 32
HEADER_SIZE = 4 + MAC_SIZE
MAX_FIRST_FRAME = 48 * 1024  # before a member has shown that it knows the key; a join carries 16 ends and 32 lost pods
MAX_FRAME = 128 * 1024

_GREETING_SIZE = len(MAGIC) + NONCE_SIZE
_TO_COORDINATOR, _TO_MEMBER = b"m", b"c"


class WireError(Exception):
    """The peer is not a worker of this job, or speaks another version; the connection is to be dropped."""


class Session:
    """One connection's half of the conversation; `nonce` is 16 random bytes of our own."""

    def __init__(self, key: str, *, coordinator: bool, nonce: bytes) -> None:
        self._key = key.encode()
        self._coordinator = coordinator
        self._nonce = nonce
        self._peer_nonce = b""
        self._sent = 0
        self._received = 0
        self._buffer = b""

    @property
    def greeted(self) -> bool:
        """Return whether the peer's greeting is here, so that frames can be sealed."""
        return bool(self._peer_nonce)

    @property
    def authenticated(self) -> bool:
        """Return whether the peer has sent a frame with the job's key."""
        return self._received > 0

    def greeting(self) -> bytes:
        """Return the first bytes to send."""
        return MAGIC + self._nonce

    def seal(self, message: Mapping[str, object]) -> bytes:
        """Return `message` as a frame.

        Raises WireError when it is too big or the peer has not greeted yet.
        """
        payload = json.dumps(message, separators=(",", ":")).encode("ascii")
        if not self.greeted:
            raise WireError("the peer has not greeted yet")
        if len(payload) > MAX_FRAME:
            raise WireError("a message of %d bytes is over the limit of %d" % (len(payload), MAX_FRAME))
        direction = _TO_MEMBER if self._coordinator else _TO_COORDINATOR
        mac = self._mac(direction, self._sent, payload)
        self._sent += 1
        return len(payload).to_bytes(4, "big") + mac + payload

    def feed(self, data: bytes) -> list[Mapping[str, object]]:
        """Return the messages that `data` completes.

        Raises WireError for anything that a worker of this job would not send.
        """
        self._buffer += data
        if not self.greeted and not self._take_greeting():
            return []
        messages: list[Mapping[str, object]] = []
        while len(self._buffer) >= HEADER_SIZE:
            length = int.from_bytes(self._buffer[:4], "big")
            limit = MAX_FIRST_FRAME if self._coordinator and not self.authenticated else MAX_FRAME
            if length > limit:
                raise WireError("a frame of %d bytes is over the limit of %d" % (length, limit))
            if len(self._buffer) < HEADER_SIZE + length:
                break
            mac = self._buffer[4:HEADER_SIZE]
            payload = self._buffer[HEADER_SIZE : HEADER_SIZE + length]
            self._buffer = self._buffer[HEADER_SIZE + length :]
            messages.append(self._open(mac, payload))
        return messages

    def _take_greeting(self) -> bool:
        if not MAGIC.startswith(self._buffer[: len(MAGIC)]):
            raise WireError("it does not speak %s" % MAGIC.decode())
        if len(self._buffer) < _GREETING_SIZE:
            return False
        self._peer_nonce = self._buffer[len(MAGIC) : _GREETING_SIZE]
        self._buffer = self._buffer[_GREETING_SIZE:]
        return True

    def _open(self, mac: bytes, payload: bytes) -> Mapping[str, object]:
        direction = _TO_COORDINATOR if self._coordinator else _TO_MEMBER
        if not hmac.compare_digest(mac, self._mac(direction, self._received, payload)):
            raise WireError("it does not belong to this job")
        self._received += 1
        try:
            message = json.loads(payload)
        except (ValueError, RecursionError):
            raise WireError("its message is not JSON") from None
        if not isinstance(message, dict):
            raise WireError("its message is not an object")
        return message

    def _mac(self, direction: bytes, counter: int, payload: bytes) -> bytes:
        nonces = (self._nonce, self._peer_nonce) if self._coordinator else (self._peer_nonce, self._nonce)
        return hmac.digest(self._key, b"".join((direction, *nonces, counter.to_bytes(8, "big"), payload)), "sha256")
