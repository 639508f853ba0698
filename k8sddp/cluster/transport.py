"""One request to the API server and its answer, as bytes.

The official client is used for what is hard (kubeconfig, credentials and their refresh, TLS, proxies); its typed layer
is not, because models drop fields that they do not know, and its generator changed between 36 and 37. What is used,
`rest_client.pool_manager` and `configuration.auth_settings()`, is the same in 35, 36 and 37.

Guarantees: an answer, or one of errors.* with one sentence. 429, 502, 503, 504, a 500 that says when to come back, and
lost connections are tried again with growing pauses, Retry-After honoured, for at most `RETRY_LIMIT` seconds; every
request sent here may be repeated (apply, delete by uid, reads). A server that has never answered is not waited for.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import urlencode

from k8sddp import errors
from k8sddp.cluster import answers
from k8sddp.cluster.answers import Target

if TYPE_CHECKING:
    import urllib3

CONNECT_TIMEOUT: Final = 10.0
REQUEST_TIMEOUT: Final = 30.0
RETRY_LIMIT: Final = 20.0
FIRST_PAUSE: Final = 0.25
LONGEST_PAUSE: Final = 5.0
_RETRIED: Final = frozenset({429, 502, 503, 504})

Query = Sequence[tuple[str, str]]


class Answer(NamedTuple):
    """What the API server said: a 2xx, or a status that the caller asked to see."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    warnings: tuple[str, ...] = ()


class SilenceError(errors.UnreachableError):
    """No byte came for as long as the reader was ready to wait; the server may be well."""


class Transport:
    """Sends requests for one target; `sleep` and `clock` are arguments for the tests."""

    def __init__(
        self,
        api_client: Any,
        target: Target,
        *,
        extra_headers: Mapping[str, str] | None = None,
        request_timeout: float | None = None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.target = target
        self._client = api_client
        self._extra_headers = dict(extra_headers or {})
        self._timeout = REQUEST_TIMEOUT if request_timeout is None else request_timeout
        self.sleep = sleep
        self.clock = clock
        self._has_answered = False

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Query = (),
        body: bytes | None = None,
        content_type: str = "application/json",
        accepted: Sequence[int] = (),
    ) -> Answer:
        """Return the answer; raises errors.ClusterError unless the status is 2xx or one of `accepted`."""
        started, pause = self.clock(), FIRST_PAUSE
        while True:
            answer: Answer | None = None
            try:
                answer = self._once(method, path, query=query, body=body, content_type=content_type)
                if 200 <= answer.status < 300 or answer.status in accepted:
                    return answer
                error = answers.error(method, path, answer.status, answer.body, target=self.target)
                wait = None if isinstance(error, errors.InvalidError) else _retry_wait(answer, pause)
            except answers.transport_errors() as fault:
                error = answers.unreachable(fault, target=self.target, request_timeout=self._timeout)
                wait = pause if self._has_answered and answers.is_passing(fault) else None
            if wait is None or self.clock() - started + wait > RETRY_LIMIT:
                raise error
            self.sleep(wait)
            pause = min(pause * 2, LONGEST_PAUSE)

    @contextlib.contextmanager
    def stream(self, path: str, *, query: Query = (), silence: float) -> Iterator[urllib3.BaseHTTPResponse]:
        """Give the open response of a GET whose body is read piece by piece, closed at the end.

        `silence` is the number of seconds without a byte after which reading raises. Nothing is retried here: the
        caller knows where to go on. Raises errors.ClusterError unless the status is 200, or 204: there is no log where
        no Kubernetes Node has taken the pod.
        """
        try:
            response = self._open("GET", path, query=query, body=None, content_type="", read_timeout=silence)
        except answers.transport_errors() as fault:
            raise self.stream_error(fault, silence=silence) from fault
        try:
            if response.status not in (200, 204):
                raise answers.error("GET", path, response.status, response.read(), target=self.target)
            yield response
        finally:
            # not release_conn: the rest of an endless body must not be read
            response.close()

    def stream_error(self, fault: Exception, *, silence: float) -> errors.ClusterError:
        """Return the error for a stream that broke off; SilenceError where only nothing came."""
        error = answers.unreachable(fault, target=self.target, request_timeout=silence)
        return SilenceError(str(error)) if answers.is_silence(fault) else error

    def _once(self, method: str, path: str, *, query: Query, body: bytes | None, content_type: str) -> Answer:
        response = self._open(
            method, path, query=query, body=body, content_type=content_type, read_timeout=self._timeout
        )
        try:
            content = response.read()
        finally:
            response.release_conn()
        lines = response.headers.getlist("Warning")
        return Answer(response.status, response.headers, content, tuple(map(answers.warning_text, lines)))

    def _open(
        self, method: str, path: str, *, query: Query, body: bytes | None, content_type: str, read_timeout: float
    ) -> urllib3.BaseHTTPResponse:
        import urllib3

        url = self.target.server + path + ("?" + urlencode(query) if query else "")
        headers = {"Accept": "application/json", **self._extra_headers, **self._authorization()}
        if body is not None:
            headers["Content-Type"] = content_type
        response: urllib3.BaseHTTPResponse = self._client.rest_client.pool_manager.request(
            method,
            url,
            body=body,
            headers=headers,
            timeout=urllib3.Timeout(connect=min(CONNECT_TIMEOUT, self._timeout), read=read_timeout),
            retries=False,
            preload_content=False,
        )
        self._has_answered = True
        return response

    def _authorization(self) -> dict[str, str]:
        """Return the header of a token; asking for it also refreshes an expired one (exec plugins, files)."""
        with quiet_root_logger() as complaints:
            settings = self._client.configuration.auth_settings().get("BearerToken")
        if complaints:
            raise answers.credentials_error(complaints[0], target=self.target)
        return {"Authorization": settings["value"]} if settings and settings.get("value") else {}


def _retry_wait(answer: Answer, pause: float) -> float | None:
    """Return the seconds to wait before the next try of a request so answered, None where it is final."""
    asked = answers.retry_after(answer.headers, answer.body)
    if answer.status in _RETRIED:
        return pause if asked is None else max(asked, pause)
    return asked if answer.status == 500 else None


@contextlib.contextmanager
def quiet_root_logger() -> Iterator[list[str]]:
    """Collect what this thread logs by `logging.error(...)` in the block instead of printing it.

    The client reports a failed credential plugin that way and goes on without credentials; and the first such call
    would configure the root logger of the whole program.
    """
    collected: list[str] = []
    root, handler, own = logging.getLogger(), logging.NullHandler(), threading.get_ident()

    def collect(record: logging.LogRecord) -> bool:
        if record.thread != own:
            return True
        collected.append(record.getMessage())
        return False

    root.addHandler(handler)
    root.addFilter(collect)
    try:
        yield collected
    finally:
        root.removeFilter(collect)
        root.removeHandler(handler)
