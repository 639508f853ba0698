"""One request to the API server and its answer, as bytes.

The official client is used for what is hard (kubeconfig, credentials and their refresh, TLS, proxies); its typed layer
is not, because models drop fields that they do not know, and its generator changed between 36 and 37. What is used,
`rest_client.pool_manager` and `configuration.auth_settings()`, is the same in 35, 36 and 37.

Guarantees: an answer, or one of errors.* with one sentence. 429, 502, 503, 504, a 500 that says when to come back, and
lost connections are tried again with growing pauses, Retry-After honoured, for at most `RETRY_LIMIT` seconds; every
request sent here may be repeated (apply, delete by uid, reads). A server that has never answered is not waited for. A
401 to credentials that were good before is answered by logging in again, and the request is sent once more.
"""

from __future__ import annotations

import contextlib
import logging
import platform
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import urlencode

from k8sddp import __version__, errors
from k8sddp.cluster import answers, login
from k8sddp.cluster.answers import Target

if TYPE_CHECKING:
    import urllib3

CONNECT_TIMEOUT: Final = 10.0
REQUEST_TIMEOUT: Final = 30.0
RETRY_LIMIT: Final = 20.0
FIRST_PAUSE: Final = 0.25
LONGEST_PAUSE: Final = 5.0
USER_AGENT: Final = f"k8sddp/{__version__} (python/{platform.python_version()})"
_RETRIED: Final = frozenset({429, 502, 503, 504})
_NO_ANSWER: Final = frozenset({502, 503, 504})  # what stands before an API server says this when it is away

Query = Sequence[tuple[str, str]]


class Answer(NamedTuple):
    """What the API server said: a 2xx, or a status that the caller asked to see."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    warnings: tuple[str, ...] = ()


class Away(NamedTuple):
    """The API server does not answer since `since` (on the transport's clock), and why."""

    since: float
    why: str


class SilenceError(errors.UnreachableError):
    """No byte came for as long as the reader was ready to wait; the server may be well."""


_NEVER: Final = threading.Event()


def _sleep(seconds: float, woken: threading.Event = _NEVER) -> None:
    woken.wait(seconds)


class Transport:
    """Sends requests for one target; `sleep` and `clock` are arguments for the tests.

    `log_in` makes a new client with the credentials as they are now. `sleep` ends early where `woken` is set.
    """

    def __init__(
        self,
        api_client: Any,
        target: Target,
        *,
        extra_headers: Mapping[str, str] | None = None,
        request_timeout: float | None = None,
        log_in: Callable[[], Any] | None = None,
        sleep: Callable[..., None] = _sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.target = target
        self._extra_headers = {"Accept": "application/json", "User-Agent": USER_AGENT, **(extra_headers or {})}
        self._timeout = REQUEST_TIMEOUT if request_timeout is None else request_timeout
        self._login = login.Login(api_client, log_in, clock)
        self.sleep = sleep
        self.clock = clock
        self._has_answered = False
        self.away: Away | None = None  # None while it answers; any thread's request may change it

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Query = (),
        body: bytes | None = None,
        content_type: str = "application/json",
        accepted: Sequence[int] = (),
        patient: bool = True,
    ) -> Answer:
        """Return the answer; raises errors.ClusterError unless the status is 2xx or one of `accepted`.

        Without `patient` it is sent once: the caller waits in its own way (one that can be woken).
        """
        started, pause = self.clock(), FIRST_PAUSE
        while True:
            answer: Answer | None = None
            try:
                answer = self._once(method, path, query=query, body=body, content_type=content_type)
                if 200 <= answer.status < 300 or answer.status in accepted:
                    return answer
                error = answers.error(method, path, answer.status, answer.body, target=self.target)
                error.retry_after = answers.retry_after(answer.headers, answer.body)
                wait = None if isinstance(error, errors.InvalidError) else _retry_wait(error, pause)
            except answers.transport_errors() as fault:
                error = answers.unreachable(fault, target=self.target, request_timeout=self._timeout)
                wait = pause if self._has_answered and answers.is_passing(fault) else None
            if wait is None or not patient or self.clock() - started + wait > RETRY_LIMIT:
                raise error
            self.sleep(wait)
            pause = min(pause * 2, LONGEST_PAUSE)

    @contextlib.contextmanager
    def stream(
        self, path: str, *, query: Query = (), silence: float, accepted: Sequence[int] = ()
    ) -> Iterator[urllib3.BaseHTTPResponse]:
        """Give the open response of a GET whose body is read piece by piece, closed at the end.

        `silence` is the number of seconds without a byte after which reading raises. Nothing is retried here: the
        caller knows where to go on. Raises errors.ClusterError unless the status is 200, or 204: there is no log where
        no Kubernetes Node has taken the pod; or one of `accepted`.
        """
        try:
            response = self._open("GET", path, query=query, body=None, content_type="", read_timeout=silence)
        except answers.transport_errors() as fault:
            raise self.stream_error(fault, silence=silence) from fault
        try:
            try:
                refusal = None if response.status in accepted else self._refusal(path, response)
            except answers.transport_errors() as fault:  # in the middle of it
                raise self.stream_error(fault, silence=silence) from fault
            if refusal is not None:
                raise refusal
            yield response
        finally:
            # not release_conn: the rest of an endless body must not be read
            response.close()

    def _refusal(self, path: str, response: urllib3.BaseHTTPResponse) -> errors.ClusterError | None:
        """Return what an answer says that is no stream, None for one that is."""
        if response.status not in (200, 204):
            body = response.read()
            error = answers.error("GET", path, response.status, body, target=self.target)
            error.retry_after = answers.retry_after(response.headers, body)
            return error
        if response.headers.get("Content-Type", "").startswith("text/html"):
            return answers.no_object("GET", path, response.status, response.read(1024), target=self.target)
        return None

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
        """Return the open response, after another login where the credentials are no longer accepted."""
        url = self.target.server + path + ("?" + urlencode(query) if query else "")
        content = {} if body is None else {"Content-Type": content_type}
        client = self._login.client
        response = self._send(client, method, url, body=body, headers=content, read_timeout=read_timeout)
        if response.status == 401:
            renewed = self._login.renewed(client)
            if renewed is not None:
                response.close()
                client = renewed
                response = self._send(client, method, url, body=body, headers=content, read_timeout=read_timeout)
        if response.status != 401:
            self._login.accepted(client)
        return response

    def _send(
        self,
        client: Any,
        method: str,
        url: str,
        *,
        body: bytes | None,
        headers: Mapping[str, str],
        read_timeout: float,
    ) -> urllib3.BaseHTTPResponse:
        import urllib3

        authorization = self._authorization(client)
        # a pod that does not answer is no sign of an API server that does not
        is_pods = "/proxy/" in url.removeprefix(self.target.server)
        try:
            response: urllib3.BaseHTTPResponse = client.rest_client.pool_manager.request(
                method,
                url,
                body=body,
                headers={**self._extra_headers, **authorization, **headers},
                timeout=urllib3.Timeout(connect=min(CONNECT_TIMEOUT, self._timeout), read=read_timeout),
                retries=False,
                preload_content=False,
            )
        except answers.transport_errors() as fault:
            if not is_pods:
                self._note_away(answers.why_no_answer(fault))
            raise
        self._has_answered = True
        # a JSON body is the API server's own: it says that somebody else, a kubelet, does not answer
        silent = response.status in _NO_ANSWER and "json" not in response.headers.get("Content-Type", "")
        if silent and not is_pods:
            self._note_away(f"{response.status} {response.reason or ''}".rstrip())
        elif not silent:
            self.heard()
        return response

    def heard(self) -> None:
        """Note that the API server is there: it has answered, or a stream of it goes on."""
        self.away = None

    def _note_away(self, why: str) -> None:
        self.away = Away(self.clock() if self.away is None else self.away.since, why)

    def _authorization(self, client: Any) -> dict[str, str]:
        """Return the header of a token; asking for it also refreshes an expired one (exec plugins, files)."""
        with quiet_root_logger() as complaints:
            settings = client.configuration.auth_settings().get("BearerToken")
        if complaints:
            raise answers.credentials_error(complaints[0], target=self.target)
        return {"Authorization": settings["value"]} if settings and settings.get("value") else {}


def _retry_wait(error: errors.ClusterError, pause: float) -> float | None:
    """Return the seconds to wait before the next try of a request so answered, None where it is final."""
    if error.status in _RETRIED:
        return max(error.retry_after or 0.0, pause)
    return error.retry_after if error.status == 500 else None


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
