"""Read a container's log: every line once and in order, over everything short of the pod's end.

Connections break, a kubelet that restarts knows no pod for a second (404) and no container for another, a Kubernetes
Node is away for ten minutes: as long as the pod object says that the container runs, or has a log to give, the reader
asks again. It goes on by position (`log_position.py`), never by clocks. Lines are asked for with time stamps, which are
taken off again; what has none is no line of the log but the kubelet's own word, and is told as an error, if at all.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

from k8sddp import constants, errors
from k8sddp.cluster import log_position, streams
from k8sddp.cluster.streams import Stop
from k8sddp.cluster.transport import Query, SilenceError
from k8sddp.manifest import Manifest, Ref
from k8sddp.plan import pods as pod_facts

if TYPE_CHECKING:
    from k8sddp.cluster.api import Cluster

SILENCE: Final = 300.0  # seconds without a line until the reader asks whether the container still runs
ENDED_PATIENCE: Final = 60.0  # seconds in which the log of a container that has ended must be had
ONCE_PATIENCE: Final = 10.0  # the same where the log is only read, not followed: a kubelet that restarts
SAID_AFTER: Final = 5.0  # seconds after which it is said that a log that is there cannot be had
FIRST_WINDOW: Final = 64  # lines read back at first; then four times as many, until it is enough
MAX_WINDOW: Final = 64 * 4**6  # a kubelet's log file has 10 MiB, unless its administrator says otherwise

# RFC 3339 in any offset: a kubelet writes the stamps of its container runtime, and that has the Node's time zone
_STAMP: Final = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)(?: |$)")
_OURS: Final = re.compile(rb"\[(?:rank \d+|node \d+|k8sddp)\]")  # a virtual kubelet may leave the stamps out
# 400 of the API server where asking again cannot help (pkg/registry/core/pod/strategy.go)
_WRONG: Final = ("is not valid for pod", "a container name must be specified")


class KubeletError(errors.ClusterError):
    """The kubelet wrote into the log why it cannot give it: it had said 200 already."""


def logs(
    cluster: Cluster,
    pod: str,
    *,
    container: str = constants.CONTAINER_NAME,
    follow: bool = False,
    since: float | None = None,
    tail: int | None = None,
    wanted: Callable[[bytes], bool] = lambda _line: True,
    stamps: bool = False,
    tell: Callable[[str], None] = lambda _sentence: None,
    previous: bool = False,
    silence: float = SILENCE,
    stop: Stop | None = None,
) -> Iterator[bytes]:
    """Yield the log's lines without their line ends, and with their time stamps if `stamps`.

    With `follow` it waits for the container to start and ends with the container. `since` is in seconds; `tail` is a
    number of lines, of those alone that are `wanted`. `tell` hears where a followed log cannot be had for long. Raises
    NotFoundError where there is no such pod, and the ClusterError for a log that cannot be had.
    """
    fixed = [("container", container), ("timestamps", "true"), *([("previous", "true")] if previous else [])]
    first = [("sinceSeconds", str(max(1, int(since))))] if since is not None else []
    stop = stop or Stop()
    reader = _Reader(cluster, Ref("v1", "Pod", pod), container, fixed=fixed, first=first, silence=silence, stop=stop)
    reader.has_ended = not follow
    reader.begin_with(tail, wanted)
    reader.tell = tell
    reader.stamps = stamps
    while not stop.is_set() and not reader.is_done:
        try:
            yield from reader.read()
        except errors.ClusterError as fault:
            if stop.is_set():
                return
            if follow:
                reader.meet(fault)
            else:
                reader.meet_once(fault)


class _Reader:
    """Where a log stands; one `read` is one connection, or two: what was missed, then what comes."""

    def __init__(
        self, cluster: Cluster, pod: Ref, container: str, *, fixed: Query, first: Query, silence: float, stop: Stop
    ) -> None:
        self._cluster = cluster
        self._pod = pod
        self._path = cluster.path(*pod) + "/log"
        self._container = container
        self._fixed = fixed
        self._first = first
        self._silence = silence
        self._stop = stop
        self._retry = streams.Retry(cluster, stop)
        self._position = log_position.Position()
        self._tail: int | None = None
        self._wanted: Callable[[bytes], bool] = bool
        self._was_there = False
        self._failing_since: float | None = None
        self._is_said = False
        self.has_ended = False  # the container has: what is there now is all there will be
        self.is_done = False
        self.stamps = False
        self.tell: Callable[[str], None] = lambda _sentence: None

    def begin_with(self, tail: int | None, wanted: Callable[[bytes], bool]) -> None:
        """Begin with the last `tail` of the lines that are wanted, or from the log's beginning."""
        self._tail, self._wanted = tail, wanted

    def read(self) -> Iterator[bytes]:
        """Yield the lines that are new, until the connection ends."""
        ends = self.has_ended
        if self._tail is not None:
            yield from self._last(self._tail, final=ends)
        elif self._position.anything:
            yield from self._missed(final=ends)
        elif ends:
            yield from self._given_out(self._lines(self._first, final=True))
        if ends:
            self.is_done = True
            return
        came = False
        for text in self._coming():
            came, self._failing_since, self._is_said = True, None, False
            self._retry.success()
            yield text
        self.has_ended = self._state() in ("gone", "ended")
        if not self.has_ended and not came:  # no Kubernetes Node has the pod yet, or the connection ends at once
            self._retry.pause()

    def _last(self, count: int, *, final: bool) -> Iterator[bytes]:
        """Yield the last `count` lines that are wanted and what stands between; read back until they are found."""
        size = max(FIRST_WINDOW, count)
        before = -1
        while True:
            window = list(self._lines([*self._first, ("tailLines", str(size))], final=final))
            places = [index for index, line in enumerate(window) if self._wanted(_text(line))]
            if len(places) >= count or _is_whole(before, len(window)) or size >= MAX_WINDOW:
                break
            before, size = len(window), size * 4
        start = len(window) if not count else places[-count] if len(places) >= count else 0
        self._tail = None
        for line in window[:start]:
            self._position.note(line)
        yield from self._given_out(window[start:])

    def _missed(self, *, final: bool) -> Iterator[bytes]:
        """Yield what came since the last line that was given out; read back until that is found."""
        size = FIRST_WINDOW
        before = -1
        while True:
            window: list[bytes] = []
            word: KubeletError | None = None
            try:
                window.extend(self._lines([("tailLines", str(size))], final=final))
            except KubeletError as fault:
                word = fault
            start = self._position.after(window)
            if start is not None or word is not None or _is_whole(before, len(window)):
                break
            before, size = len(window), size * 4
        if start is None and word is not None:
            raise word
        yield from self._given_out(window[start or 0 :])
        if word is not None:
            raise word

    def _coming(self) -> Iterator[bytes]:
        """Follow the log; a connection begins with lines that were given out, which are found and left out."""
        known = self._position.anything
        query = [("tailLines", str(log_position.FOLLOW_TAIL))] if known else self._first
        begun: list[bytes] = []
        for line in self._lines([*query, ("follow", "true")], final=False):
            if not known:
                yield from self._given_out([line])
                continue
            begun.append(line)
            if self._position.covers(begun):
                continue
            start = self._position.after(begun)
            if start is None:  # so much came meanwhile that it must be read back first
                return
            known = False
            yield from self._given_out(begun[start:])

    def _given_out(self, lines: Iterator[bytes] | list[bytes]) -> Iterator[bytes]:
        for line in lines:
            self._position.note(line)
            yield line if self.stamps else _text(line)

    def _lines(self, query: Query, *, final: bool) -> Iterator[bytes]:
        """Yield the log's whole lines with their stamps, and at its end the rest; raises what the kubelet says."""
        rest: list[bytes] = []
        options = {"silence": self._silence, "stop": self._stop, "retry": self._retry}
        for line in streams.lines(self._cluster, self._path, query=[*self._fixed, *query], rest=rest, **options):  # type: ignore[arg-type]
            self._check(line)
            yield line
        for line in rest:
            self._check(line)
            if final:
                yield line
        self._was_there, self._failing_since = True, None

    def _check(self, line: bytes) -> None:
        if not _STAMP.match(line) and not _OURS.match(line):
            text = line.decode("utf-8", "replace").strip()
            raise KubeletError(
                f"the log of pod {self._pod.name} cannot be had from its Kubernetes Node: {text}", status=500
            )

    def meet(self, fault: errors.ClusterError) -> None:
        """Wait before the next try; raises the fault where the pod has no log to give, or waiting cannot help.

        Who asks is refused, or the API server is away: that is the same for every read. All else is about this log,
        and it is the pod object that says whether there is one.
        """
        if fault.status not in (400, 404) and fault.status < 500 and not isinstance(fault, SilenceError):
            self._retry.failed(fault)
            return
        try:
            state = self._state()
        except errors.ClusterError as other:
            self._retry.failed(other)
            return
        if state == "gone":
            if not self._was_there:
                raise fault
            self.is_done = True
            return
        if any(text in str(fault) for text in _WRONG):
            raise fault
        self._was_there = True
        self.has_ended = state == "ended"
        self._retry.opened()
        if isinstance(fault, SilenceError):
            return
        failed_for = self._failed_for()
        if self.has_ended and failed_for > ENDED_PATIENCE:
            raise fault
        if failed_for > SAID_AFTER and not self._is_said:
            self._is_said = True
            self.tell(f"the log of pod {self._pod.name} is asked for again and again: {fault}")
        self._retry.pause(at_least=fault.retry_after or 0.0)

    def meet_once(self, fault: errors.ClusterError) -> None:
        """Wait before the next try of a log that is not followed: a kubelet that has just started, nothing else."""
        passing = fault.status == 404 or isinstance(fault, KubeletError)
        if not passing or self._failed_for() > ONCE_PATIENCE or self._state() == "gone":
            raise fault
        self._retry.pause()

    def _failed_for(self) -> float:
        now = self._cluster.transport.clock()
        self._failing_since = now if self._failing_since is None else self._failing_since
        return now - self._failing_since

    def _state(self) -> str:
        """Return whether the container `waits`, `runs`, has `ended`, or its pod is `gone`."""
        found = self._cluster.get(self._pod, patient=False)
        if found is None:
            return "gone"
        self._was_there = True
        state = _container_state(found, self._container)
        if pod_facts.has_ended(found) or "terminated" in state:
            return "ended"
        return "runs" if "running" in state else "waits"


def _is_whole(before: int, now: int) -> bool:
    """Return whether four times the lines asked for gave hardly more: that is the log. A busy one grows meanwhile.

    It may be less than was asked for, though there is more: the kubelet counts the pieces of long lines.
    """
    return before >= 0 and now < max(2 * before, 1)


def _container_state(pod: Manifest, name: str) -> Manifest:
    statuses = (pod.get("status") or {}).get("containerStatuses") or ()
    return next((one.get("state") or {} for one in statuses if one.get("name") == name), {})


def _text(line: bytes) -> bytes:
    """Return a line without its time stamp."""
    stamp = _STAMP.match(line)
    return line[stamp.end() :] if stamp else line
