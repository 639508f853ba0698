"""Follow a running job: the logs of the nodes that are asked for, and why it waits.

One thread watches the job, one per pod reads that pod's log from its beginning, and all speak to the main thread
through one queue; it alone writes, because a daemon thread that holds stdout when Python ends would abort it. A pod
that replaces a lost one is picked up by itself; with `replace` the lost one is replaced at once. Nothing is missed at
the end: it is reported when the logs have ended too, or after LAST_WORDS seconds without a word, should a lost
Kubernetes Node never close its log.
"""

from __future__ import annotations

import functools
import math
import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from k8sddp import constants, errors
from k8sddp.cli import jobs, live_line, narration, remarks, replacements
from k8sddp.cli.stamps import Stamps

if TYPE_CHECKING:
    from k8sddp import cluster, plan
    from k8sddp.cli.standing import Standing
    from k8sddp.manifest import Manifest

LAST_WORDS: Final = 10.0
LOOK_EVERY: Final = 1.0  # seconds between two looks whether the API server still answers
AWAY_AFTER: Final = 5.0  # seconds without an answer after which it is said
MAX_WAITING: Final = 1024  # lines read and not yet written: a slow terminal slows the reading, not our memory
MAX_NODES: Final = 64  # each is a connection to the API server


def is_readable(pod: Manifest) -> bool:
    """Return whether the pod's container has started, so that it has a log."""
    for container in (pod.get("status") or {}).get("containerStatuses") or ():
        if container["name"] == constants.CONTAINER_NAME:
            return bool({"running", "terminated"} & set(container.get("state") or ()))
    return False


class Begin(NamedTuple):
    """Where the logs begin: the last `tail` lines that are wanted, or what is younger than `since` seconds."""

    tail: int | None = None
    since: float | None = None
    wanted: Callable[[bytes], bool] = lambda _line: True


class _Remark(NamedTuple):
    """A sentence about a log."""

    text: str


class _Absence:
    """Says once that the API server is away, and once that it is back."""

    def __init__(self, connection: cluster.Cluster) -> None:
        self._connection = connection
        self._seconds = 0.0  # for which it was away when somebody looked last; 0 where that was not said

    def row(self) -> live_line.Row | None:
        """Return what the live line says of it, None while the API server answers."""
        away = self._connection.away
        if away is None or away[0] < AWAY_AFTER:
            return None
        return live_line.waiting("the API server does not answer, the job runs on", away[0])

    def look(self) -> str:
        """Return the sentence to tell now, mostly none."""
        away = self._connection.away
        if away is None:
            seconds, self._seconds = self._seconds, 0.0
            return f"the API server answers again, after {seconds:.0f} s" if seconds else ""
        seconds, why = away
        is_new = not self._seconds
        if seconds >= AWAY_AFTER:
            self._seconds = seconds
            if is_new:
                return f"the API server does not answer since {seconds:.0f} s ({why}); the job runs on"
        return ""


class _LogEnded(NamedTuple):
    """The log of a pod has been read to its end, or as far as it can be."""

    uid: str
    fault: str = ""


class _Told(NamedTuple):
    """Node 0's answer, None where it gave none, and to which picture of the job it belongs."""

    progress: plan.Progress | None
    at: tuple[object, ...]


_News = bytes | _Remark | _LogEnded | _Told | replacements.Answer | BaseException | tuple["plan.Snapshot"]


class Follower:
    """Follows one job; `emit` gets log lines and says False for one that it does not show, `tell` gets sentences.

    With `standing` it is also said how far the job is: in a live line, or in a sentence now and then.
    """

    def __init__(
        self,
        connection: cluster.Cluster,
        name: str,
        *,
        emit: Callable[[bytes], object],
        tell: Callable[[str], None],
        again: str,
        begin: Begin = Begin(),  # noqa: B008  a value
        stamps: Stamps | None = None,
        replace: bool = False,
        standing: Standing | None = None,
    ) -> None:
        self._connection = connection
        self._replace = replace
        self._replacements = replacements.Replacements(name)
        self._name = name
        self._emit = emit
        self._tell = tell
        self._begin = begin
        self._stamps = stamps  # hears each line with its time stamp, before `emit` gets it without
        self._again = again  # the command that follows the job once more
        self._absence = _Absence(connection)
        self._inbox: queue.Queue[_News] = queue.Queue(MAX_WAITING)
        self._seen: set[str] = set()  # uids of the pods whose logs are or were read
        self._reading: set[str] = set()
        self._standing = standing
        fits = standing.fits if standing is not None and standing.is_live else None
        self._narrator = narration.Narrator(now=time.monotonic(), fits=fits, pulse=standing is not None)
        self._asking = False
        self._says_forbidden = standing is not None
        self._latest: plan.Snapshot | None = None
        self._told = _Told(None, ())

    def follow(self, nodes: Sequence[int], *, limit: float | None = None) -> plan.JobStatus:
        """Return the status of the finished job when it, and the logs of `nodes`, have ended.

        Raises NotFoundError when the job is deleted meanwhile, WaitTimeoutError, with what it waits for, when it has
        not finished after `limit` seconds, and DetachedError when it cannot be watched any more.
        """
        from k8sddp import cluster

        self._asker = cluster.Asker(self._connection)
        _start(self._watch)
        status: plan.JobStatus | None = None
        deadline: float | None = None
        look_again: float | None = None
        late = math.inf if limit is None else time.monotonic() + limit
        while True:
            self._say(self._absence.look())
            soon = time.monotonic() + LOOK_EVERY
            match self._receive(min(one for one in (deadline, look_again, soon) if one is not None)):
                case bytes() as line:
                    self._show(line)
                    self._touched()
                    deadline = deadline and time.monotonic() + LAST_WORDS
                case _Remark() as remark:
                    self._say(remark.text)
                case _LogEnded() as end:
                    self._reading.discard(end.uid)
                    self._say(end.fault)
                case _Told() as told:
                    self._told, self._asking = told, False
                    if told.progress is not None and status is not None and not status.finished:
                        status = self._look(told=True)
                case replacements.Answer() as answer:
                    self._say(self._replacements.take(answer, now=time.monotonic()))
                    look_again = 0.0 if self._replace else None
                case (snapshot,):
                    look_again = 0.0 if self._replace else None
                    status = self._take(snapshot, nodes)
                    deadline = time.monotonic() + LAST_WORDS if status.finished else None
                case BaseException() as fault:
                    raise fault
                case None if self._stamps is not None:
                    self._stamps.idle()
            if self._latest is not None and look_again is not None and time.monotonic() >= look_again:
                look_again = self._replace_lost(self._latest)  # not for every line of a log: it reads all pods
            self._narrate()
            self._draw()
            if time.monotonic() >= late and deadline is None:
                raise self._too_late(status, limit or 0.0)
            if status is not None and deadline is not None and (not self._reading or time.monotonic() >= deadline):
                return status

    def _too_late(self, status: plan.JobStatus | None, limit: float) -> errors.WaitTimeoutError:
        why = status.waiting.sentence if status is not None and status.waiting else "its pods run"
        return errors.WaitTimeoutError(f"{self._name} has not ended after {limit:g} s: {why}")

    def _receive(self, deadline: float) -> _News | None:
        """Return what comes next, None where the time is up, or something is to be said."""
        until = min(deadline, self._narrator.due(), self._standing.due() if self._standing is not None else deadline)
        try:
            return self._inbox.get(timeout=max(0.0, until - time.monotonic()))
        except queue.Empty:
            return None

    def _show(self, line: bytes) -> None:
        if self._stamps is not None:
            line = self._stamps.take(line)
        if self._emit(line) is not False:
            self._narrator.shown(now=time.monotonic(), by_rank=not remarks.is_remark(line))

    def _narrate(self) -> None:
        """Say what is due; have node 0 asked where nothing is heard otherwise."""
        now = time.monotonic()
        for sentence in self._narrator.speak(now=now):
            self._say(sentence)
        if self._asker.forbidden:
            if self._says_forbidden:
                self._say("steps are not shown: this needs the right to get pods/proxy, as the role edit has it")
            self._says_forbidden = False
        elif self._narrator.asks(now=now) and self._latest is not None and not self._asking:
            self._asking = True
            _start(functools.partial(self._ask, self._latest.pods))

    def _draw(self) -> None:
        if self._standing is not None:
            self._standing.draw(self._absence.row() or self._narrator.row(now=time.monotonic()))

    def _touched(self) -> None:
        if self._standing is not None:
            self._standing.touched()

    def _ask(self, pods: Sequence[Manifest]) -> None:
        try:
            self._inbox.put(_Told(self._asker.ask_again(pods, self._told.progress), _picture(pods)))
        except BaseException as error:  # raised again by the main thread
            self._inbox.put(error)

    def _say(self, sentence: str) -> None:
        if sentence:
            self._tell(sentence)
            self._touched()

    def _take(self, snapshot: plan.Snapshot, nodes: Sequence[int]) -> plan.JobStatus:
        from k8sddp.plan import pods

        if snapshot.indexed_job(self._name) is None:
            raise errors.NotFoundError(f"{self._name} was deleted while it was followed", status=404)
        newest = pods.newest_by_index(snapshot.pods)
        for node in nodes:
            if node in newest and is_readable(newest[node]):
                self._read(newest[node])
        self._latest = snapshot
        return self._look()

    def _look(self, *, told: bool = False) -> plan.JobStatus:
        """Return the status as it is known now; what node 0 said is believed until a pod changes its state."""
        assert self._latest is not None
        progress = self._told.progress if self._told.at == _picture(self._latest.pods) else None
        status = jobs.status(self._latest, self._name, told=progress)
        self._narrator.look(status, now=time.monotonic(), told=told)
        return status

    def _replace_lost(self, snapshot: plan.Snapshot) -> float | None:
        """Have the lost pods replaced, each by a thread; return when to look again though nothing was heard."""
        requests, look_again = self._replacements.look(snapshot, now=time.monotonic())
        for request in requests:
            _start(functools.partial(self._make_replacement, request))
        return look_again

    def _make_replacement(self, request: replacements.Request) -> None:
        from k8sddp import cluster

        pod = request.pod
        try:
            name = cluster.replace_pod(self._connection, self._name, pod["metadata"]["uid"], overdue=request.overdue)
        except errors.ClusterError as error:
            self._inbox.put(replacements.Answer(pod, "", error))
        except BaseException as error:  # raised again by the main thread
            self._inbox.put(error)
        else:
            self._inbox.put(replacements.Answer(pod, name))

    def _watch(self) -> None:
        from k8sddp import cluster

        try:
            for snapshot in cluster.follow(self._connection, self._name):
                self._inbox.put((snapshot,))
        except errors.ClusterError as error:
            sentence = f"{error}; {self._name} runs on, and `{self._again}` follows it again"
            self._inbox.put(errors.DetachedError(sentence))
        except BaseException as error:  # raised again by the main thread
            self._inbox.put(error)

    def _read(self, pod: Manifest) -> None:
        name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
        if uid not in self._seen:
            self._seen.add(uid)
            self._reading.add(uid)
            _start(lambda: self._copy(name, uid))

    def remark(self, sentence: str) -> None:
        """Let a sentence be told by the thread that prints; any thread may ask for it."""
        self._inbox.put(_Remark(sentence))

    def _copy(self, pod: str, uid: str) -> None:
        from k8sddp import cluster

        try:
            options: dict[str, Any] = {
                **self._begin._asdict(),
                "stamps": self._stamps is not None,
                "tell": self.remark,
            }
            for line in cluster.logs(self._connection, pod, follow=True, **options):
                self._inbox.put(line)
        except errors.ClusterError as error:
            self._inbox.put(_LogEnded(uid, f"the log of pod {pod} ends here: {error}"))
        except BaseException as error:  # raised again by the main thread
            self._inbox.put(error)
        else:
            self._inbox.put(_LogEnded(uid))


def _picture(pods: Sequence[Manifest]) -> tuple[object, ...]:
    """Return what a change of makes node 0's words old."""
    from k8sddp.plan import pods as pod_facts

    return tuple((pod["metadata"]["uid"], pod_facts.state(pod)) for pod in pods)


def _start(work: Callable[[], None]) -> None:
    threading.Thread(target=work, daemon=True).start()
