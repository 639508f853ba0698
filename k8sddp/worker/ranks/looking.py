"""Looks at this node's ranks for who asks whether one hangs: states, stacks and bytes written, as short rows.

Before a hang ends anything all stacks are printed into this node's own log, because nothing of the ranks is left
afterwards: each different stack once, those of ranks that do not wait first, bounded, and not again for a while. A look
that goes wrong is answered with nothing: node 0 then has the ranks' counters alone, and is not kept waiting.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Optional

from k8sddp.worker.contract import stacks, wording
from k8sddp.worker.gang import looks, messages
from k8sddp.worker.net import loop, telling

from .sources import line as source

MAX_LINES = 64  # of one stack: its innermost frames
MAX_STACKS = 16  # different ones, printed at once
QUIET = 60.0  # seconds until all are printed again

Look = Callable[[Callable[[tuple[stacks.RankStack, ...]], None]], object]


class Looking:
    """Answers looks while the ranks of one attempt run; `look` is how their stacks are had."""

    def __init__(self, events: loop.Loop, look: Look, *, say: Callable[[str], None]) -> None:
        self._events = events
        self._say = say
        self._teller = telling.Teller(say)
        self._look = look
        self._shown: Optional[float] = None

    def take(self, asked: messages.Look, done: Callable[[Sequence[object]], None]) -> None:
        """Call `done` once with the rows of a look."""

        def seen(found: tuple[stacks.RankStack, ...]) -> None:
            rows: list[Sequence[object]] = []
            self._teller.guarded("looking at the ranks", lambda: rows.append(self._rows(found, asked)))()
            done(rows[0] if rows else [])

        self._teller.guarded("looking at the ranks", lambda: self._look(seen), lambda: done([]))()

    def _rows(self, found: Sequence[stacks.RankStack], asked: messages.Look) -> Sequence[object]:
        now = self._events.now()
        if asked.show and (self._shown is None or now - self._shown >= QUIET):
            self._shown = now
            for line in shown(found):
                self._say(line)
        return looks.to_rows(map(seen_of, found))


def seen_of(stack: stacks.RankStack) -> looks.Seen:
    """Return one rank's stack as node 0 is told of it."""
    if not stack.pid:
        return looks.Seen(stack.rank, looks.UNSEEN)
    frame = stack.user_frame
    return looks.Seen(
        stack.rank,
        (stack.state or looks.GONE)[: looks.MAX_STATE],
        waits=stack.waits,
        stack=stack.signature[: looks.MAX_STACK],
        written=written(stack.pid),
        where=_end(str(frame._replace(file=_short(stack.pid, frame.file)))) if frame else "",
        source=_beginning(source(stack.pid, frame)) if frame else "",
    )


def shown(found: Sequence[stacks.RankStack]) -> list[str]:
    """Return what the log has of the ranks' stacks, each different one once, those that wait last."""
    alike: dict[tuple[object, ...], list[stacks.RankStack]] = {}
    for one in found:
        alike.setdefault((one.signature or one.rank, one.state, one.problem), []).append(one)
    groups = sorted(alike.values(), key=lambda group: (group[0].waits, group[0].rank))
    lines = []
    for group in groups[:MAX_STACKS]:
        first = group[0]
        lines.append("stack of %s: %s" % (wording.ranks(one.rank for one in group), first.heading))
        body = stacks.lines(first, source=lambda frame, pid=first.pid: source(pid or 0, frame))  # type: ignore[misc]
        lines += body if len(body) <= MAX_LINES else ("  ...", *body[-MAX_LINES:])
    if len(groups) > MAX_STACKS:
        lines.append("and %d more stacks: k8sddp stacks shows them all" % (len(groups) - MAX_STACKS))
    return lines


def written(pid: int) -> int:
    """Return how many bytes a process has given to write(2) and the like so far (proc_pid_io(5))."""
    try:
        with open("/proc/%d/io" % pid, "rb") as file:
            found: Mapping[bytes, bytes] = dict(line.split(b": ") for line in file.read().splitlines())
        return int(found[b"wchar"])
    except (OSError, ValueError, KeyError):
        return looks.UNKNOWN


def _short(pid: int, path: str) -> str:
    """Return a file's path as seen from where its process runs, if it lies below that."""
    try:
        base = os.readlink("/proc/%d/cwd" % pid)
    except OSError:
        return path
    return path[len(base) + 1 :] if base != "/" and path.startswith(base + "/") else path


def _end(place: str) -> str:
    """Return a place on one line, at most as long as it may be: its end says most."""
    line = wording.printable(place)
    return line if len(line) <= looks.MAX_WHERE else "..." + line[3 - looks.MAX_WHERE :]


def _beginning(text: str) -> str:
    """Return a line of the program, at most as long as it may be."""
    line = wording.printable(text)
    return line if len(line) <= looks.MAX_SOURCE else line[: looks.MAX_SOURCE - 3] + "..."
