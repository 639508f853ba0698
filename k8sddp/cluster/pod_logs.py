"""Read a container's log: every line once and in order, across reconnects.

The server is asked for time stamps, which are taken off again: after a lost connection the reader asks for what came
since the last one and drops what it has given out. A script that says nothing for long is no failure; only a server
that does not answer is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from k8sddp import constants, errors
from k8sddp.cluster import streams
from k8sddp.cluster.streams import Stop
from k8sddp.cluster.transport import Query, SilenceError
from k8sddp.manifest import Ref
from k8sddp.plan import pods as pod_facts

if TYPE_CHECKING:
    from k8sddp.cluster.api import Cluster

SILENCE: Final = 300.0  # seconds without a line until the reader asks whether the container still runs


def logs(
    cluster: Cluster,
    pod: str,
    *,
    container: str = constants.CONTAINER_NAME,
    follow: bool = False,
    since: float | None = None,
    tail: int | None = None,
    previous: bool = False,
    silence: float = SILENCE,
    stop: Stop | None = None,
) -> Iterator[bytes]:
    """Yield the log's lines without their line ends.

    With `follow` it waits for the container to start, survives lost connections, and ends with the container. `since`
    is in seconds, `tail` a number of lines. Raises NotFoundError where there is no such pod.
    """
    fixed = [("container", container), ("timestamps", "true"), *([("previous", "true")] if previous else [])]
    first = [
        *([("sinceSeconds", str(max(1, int(since))))] if since is not None else []),
        *([("tailLines", str(tail))] if tail is not None else []),
    ]
    reader = _Reader(cluster, Ref("v1", "Pod", pod), container, fixed=fixed, first=first, silence=silence)
    stop = stop or Stop()
    reader.last_pass = not follow
    retry = streams.Retry(cluster, stop)
    while not stop.is_set() and not reader.done:
        try:
            yield from reader.read(stop, retry)
        except errors.InvalidError as fault:
            if not follow or "waiting to start" not in str(fault):
                raise
            retry.opened()
            retry.pause()
        except SilenceError:
            if not follow:
                raise
            reader.is_silent = True
        except errors.NotFoundError:
            if follow and (reader.last_pass or reader.seen.anything):  # it was there: deleted meanwhile
                return
            raise
        except errors.ClusterError as fault:
            if stop.is_set():
                return
            retry.failed(fault)


class _Reader:
    """Where a log stands; one `read` is one connection."""

    def __init__(
        self, cluster: Cluster, pod: Ref, container: str, *, fixed: Query, first: Query, silence: float
    ) -> None:
        self._cluster = cluster
        self._pod = pod
        self._container = container
        self._fixed = fixed
        self._first = first
        self._silence = silence
        self.seen = _Seen()
        self.last_pass = False  # the container has ended: what is there now is all there will be
        self.is_silent = False  # nothing came for long: ask before reading on
        self.done = False

    def read(self, stop: Stop, retry: streams.Retry) -> Iterator[bytes]:
        """Yield the lines that are new, until the connection ends."""
        if self.is_silent:
            self.last_pass, self.is_silent = self._has_ended(), False
            retry.opened()
        follow = [] if self.last_pass else [("follow", "true")]
        query = [*self._fixed, *(self.seen.query() or self._first), *follow]
        path, came = self._cluster.path(*self._pod) + "/log", False
        for line in streams.lines(self._cluster, path, query=query, silence=self._silence, stop=stop, retry=retry):
            retry.success()
            came = True
            text = self.seen.new(line)
            if text is not None:
                yield text
        if self.last_pass:
            self.done = True
            return
        self.last_pass = self._has_ended()
        if not self.last_pass and not came:  # no Kubernetes Node has the pod yet, or the connection ends at once
            retry.pause()

    def _has_ended(self) -> bool:
        found = self._cluster.get(self._pod)
        if found is None or pod_facts.has_ended(found):
            return True
        statuses = (found.get("status") or {}).get("containerStatuses") or ()
        mine = [one.get("state") or {} for one in statuses if one.get("name") == self._container]
        return any("terminated" in state for state in mine)


class _Seen:
    """The time stamp of the last line and how many lines carried it: what a reconnect must not repeat."""

    def __init__(self) -> None:
        self._stamp = b""
        self._count = 0
        self._skip = 0

    @property
    def anything(self) -> bool:
        """Return whether there was a line at all."""
        return bool(self._stamp)

    def query(self) -> Query:
        """Return the position from which a new request goes on, nothing at the first."""
        self._skip = self._count
        return [("sinceTime", self._stamp.decode())] if self._stamp else []

    def new(self, line: bytes) -> bytes | None:
        """Return the line without its time stamp, None where it was given out before."""
        stamp, space, text = line.partition(b" ")
        if not space or not stamp[:4].isdigit() or not stamp.endswith(b"Z"):
            return line  # not a log line: a message of the kubelet
        # RFC3339Nano leaves out trailing zeros, so the digits are compared in full length
        if _full(stamp) < _full(self._stamp):
            return None
        if stamp == self._stamp:
            if self._skip:
                self._skip -= 1
                return None
            self._count += 1
        else:
            self._stamp, self._count, self._skip = stamp, 1, 0
        return text


def _full(stamp: bytes) -> bytes:
    whole, _, fraction = stamp.rstrip(b"Z").partition(b".")
    return whole + b"." + fraction.ljust(9, b"0")
