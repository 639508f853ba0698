"""Reads that last, over connections that break: what all of them share, and watches.

watch: one list, then every change, for as long as the caller wants. Bookmarks keep the position, 410 lists again, a
silent or lost connection is opened again at the last position with growing pauses, or when the server wants it. After
`PATIENCE` seconds without any answer it gives up. `Stop` ends reads and pauses at once. Logs are read in `pod_logs.py`.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from k8sddp import errors
from k8sddp.cluster import answers
from k8sddp.cluster.transport import FIRST_PAUSE, LONGEST_PAUSE, Query
from k8sddp.manifest import Manifest

if TYPE_CHECKING:
    from k8sddp.cluster.api import Cluster

PATIENCE: Final = 300.0
REFUSALS: Final = 60.0  # seconds of refusals to a reader who was let in before; see Retry.failed
WATCH_SILENCE: Final = 90.0  # bookmarks come about every minute
WATCH_LENGTH: Final = 300  # seconds after which the server ends a watch by itself
_PASSING: Final = frozenset({0, 429, 500, 502, 503, 504})  # 0: no answer
_REFUSED: Final = frozenset({401, 403})
_NOT_LET_IN: Final = (errors.KubeconfigError, errors.NotKubernetesError)  # a login that failed, a login page


class Change(NamedTuple):
    """`LISTED`: these are all there are; `ADDED`, `MODIFIED`, `DELETED`: this one."""

    type: str
    items: tuple[Manifest, ...]


class Stop:
    """Ends long reads from another thread: `set()` wakes those that wait and closes those that read."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._lock = threading.Lock()
        self._open: list[Any] = []

    def set(self) -> None:
        """End every read that was given this stop."""
        self._event.set()
        with self._lock:
            for response in self._open:
                _shut_down(response)

    def is_set(self) -> bool:
        """Return whether the reads should end."""
        return self._event.is_set()

    @property
    def event(self) -> threading.Event:
        """Return what is set by `set()`: pauses wait for it."""
        return self._event

    def reading(self, response: Any) -> None:
        """Remember an open response; it is shut down at once where the end has come already."""
        with self._lock:
            self._open = [response]
        if self._event.is_set():
            _shut_down(response)

    def finished(self) -> None:
        """Forget the open response."""
        with self._lock:
            self._open = []


def _shut_down(response: Any) -> None:
    """Wake the thread that reads the response; where it has ended or its connection is lost there is none."""
    with contextlib.suppress(ValueError, RuntimeError, OSError):
        response.shutdown()


class Retry:
    """Growing pauses between fruitless tries, and the end of patience."""

    def __init__(self, cluster: Cluster, stop: Stop) -> None:
        self._transport = cluster.transport
        self._clock = cluster.transport.clock
        self._stop = stop
        self._let_in = False
        self._refused_since: float | None = None
        self._foreign_since: float | None = None  # a stranger's answer opens as well as a true one
        self.success()

    def success(self) -> None:
        """Note that something came."""
        self._pause, self._since, self._foreign_since = FIRST_PAUSE, self._clock(), None

    def opened(self) -> None:
        """Note that the server answers, though nothing has come yet."""
        self._since = self._clock()
        self._let_in, self._refused_since = True, None

    def pause(self, *, at_least: float = 0.0) -> None:
        """Wait longer each time, until something comes; `at_least` is what the server asked for."""
        if not self._stop.is_set():
            self._transport.sleep(max(self._pause, at_least), self._stop.event)
        self._pause = min(self._pause * 2, LONGEST_PAUSE)

    def failed(self, fault: errors.ClusterError) -> None:
        """Wait before the next try; raises the fault where trying again cannot help, or patience is at its end.

        An API server that has just started refuses everybody until it has read its roles, and a login may be renewed
        meanwhile: who was let in before is refused for good only after `REFUSALS` seconds.
        """
        asked, now = fault.retry_after or 0.0, self._clock()
        if self._let_in and (fault.status in _REFUSED or isinstance(fault, _NOT_LET_IN)):
            if isinstance(fault, errors.NotKubernetesError):
                since = self._foreign_since = now if self._foreign_since is None else self._foreign_since
            else:
                since = self._refused_since = now if self._refused_since is None else self._refused_since
            if now - since > REFUSALS:
                raise fault
            self.pause()
            return
        if fault.status not in _PASSING or isinstance(fault, errors.InvalidError | errors.KubeconfigError):
            raise fault
        if now - self._since > PATIENCE or asked > PATIENCE:
            raise fault
        self.pause(at_least=asked)


def watch(
    cluster: Cluster,
    api_version: str,
    kind: str,
    *,
    label_selector: str = "",
    field_selector: str = "",
    silence: float = WATCH_SILENCE,
    stop: Stop | None = None,
) -> Iterator[Change]:
    """Yield `LISTED` with all objects, then each change, and `LISTED` again where changes were missed.

    Ends only with `stop`. Raises a ClusterError where the server refuses, or does not answer for `PATIENCE` seconds.
    """
    stop = stop or Stop()
    retry = Retry(cluster, stop)
    version = ""
    while not stop.is_set():
        try:
            if not version:
                found = cluster.list(
                    api_version, kind, label_selector=label_selector, field_selector=field_selector, patient=False
                )
                version = found.resource_version
                yield Change("LISTED", found.items)
            query = _watch_query(label_selector, field_selector, version)
            path, came = cluster.path(api_version, kind), False
            for line in lines(cluster, path, query=query, silence=silence, stop=stop, retry=retry):
                event = _event(cluster, path, line)
                if event is None:  # go on from the last whole one
                    break
                change, one = event
                if change == "ERROR":
                    version = _after_error(cluster, path, one, version)
                    break
                came = True
                retry.success()
                version = one["metadata"]["resourceVersion"]
                if change != "BOOKMARK":
                    yield Change(change, ({"apiVersion": api_version, "kind": kind, **one},))
            if not came:  # a server that ends every watch at once must not be asked in a loop
                retry.pause()
        except errors.ClusterError as fault:
            if stop.is_set():
                return
            if fault.status == 410:
                version = ""
                retry.pause()
                continue
            retry.failed(fault)


def _watch_query(label_selector: str, field_selector: str, version: str) -> Query:
    return [
        *selection(label_selector, field_selector),
        ("watch", "true"),
        ("allowWatchBookmarks", "true"),
        ("resourceVersion", version),
        ("timeoutSeconds", str(WATCH_LENGTH)),
    ]


def _event(cluster: Cluster, path: str, line: bytes) -> tuple[str, dict[str, Any]] | None:
    """Return type and object of an event, None where the connection ended within it.

    Raises NotKubernetesError for a line that is no event.
    """
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        if line.lstrip()[:1] == b"{":
            return None
        found = None
    one = found.get("object") if isinstance(found, dict) else None
    metadata = one.get("metadata") if isinstance(one, dict) else None
    whole = isinstance(metadata, dict) and isinstance(metadata.get("resourceVersion"), str)
    if not isinstance(one, dict) or not (whole or found.get("type") == "ERROR"):
        raise answers.no_object("GET", path, 200, line, target=cluster.transport.target)
    return str(found.get("type")), one


def _after_error(cluster: Cluster, path: str, state: Mapping[str, Any], version: str) -> str:
    """Return the position to go on from after an ERROR event; raises what cannot be mended by going on."""
    code = state.get("code")
    code = code if isinstance(code, int) else 0
    if code == 410:
        return ""
    fault = answers.error("GET", path, code, json.dumps(state).encode(), target=cluster.transport.target)
    if code not in _PASSING:
        raise fault
    return version


def lines(
    cluster: Cluster,
    path: str,
    *,
    query: Query,
    silence: float,
    stop: Stop,
    retry: Retry,
    rest: list[bytes] | None = None,
) -> Iterator[bytes]:
    """Yield the lines of a streamed answer; raises UnreachableError where it breaks off, within a line or between.

    What stands after the last line end is a line too, unless the caller wants it apart, in `rest`.
    """
    with cluster.transport.stream(path, query=query, silence=silence) as response:
        stop.reading(response)
        retry.opened()
        unended = b""
        try:
            for chunk in response.stream(65536):
                cluster.transport.heard()
                *lines, unended = (unended + chunk).split(b"\n")
                yield from lines
        except answers.transport_errors() as fault:
            raise cluster.transport.stream_error(fault, silence=silence) from fault
        finally:
            stop.finished()
        if unended and rest is not None:
            rest.append(unended)
        elif unended:
            yield unended


def selection(label_selector: str, field_selector: str) -> list[tuple[str, str]]:
    """Return the query of a selection."""
    pairs = (("labelSelector", label_selector), ("fieldSelector", field_selector))
    return [(key, value) for key, value in pairs if value]
