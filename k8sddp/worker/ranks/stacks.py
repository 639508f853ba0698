"""Looks at what the ranks of this node do: the kernel's word about each process, and the stack of its main thread.

A rank is asked by a signal and answers into its file (instrument/k8sddp_stacks.py): first politely, which Python
answers when it comes to it. Who stays silent is not in Python code, so that faulthandler may be used, which answers
even with the GIL held. A stopped process is told from /proc and not asked. All ranks are asked at once; a look takes
LIMIT at most, and who asks while one runs gets the next one, together with all others that do.

Signals are sent only to a process that has said in its file that it answers, and whose handlers the kernel confirms:
after an exec they are gone, and the signal would kill.
"""

from __future__ import annotations

import functools
import os
import re
import signal
from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple, Optional

from k8sddp.worker.contract.stacks import RankStack
from k8sddp.worker.net import loop, telling

from . import dumps

DUMP = signal.SIGRTMIN + 5  # the same numbers as in instrument/k8sddp_stacks.py
ASK = signal.SIGRTMIN + 6
END = "End of stack\n"

LIMIT = 1.0  # seconds for all answers
POLL = 0.005  # seconds between two looks into the files
PATIENCE = 0.15  # seconds until a rank that sleeps is asked impolitely
LONG_PATIENCE = 0.5  # and one that runs: it may be kept from its processor in the middle of Python code
MAX_DUMP = 65536  # bytes of an answer that are read
MAX_FILE = 1 << 17  # bytes from which on a file is begun anew: a look reads all of it, 3 to 5 ms for each rank

STOPPED = ("T", "t")
ENDED = ("Z", "X")
NO_HOOK = "has not told that it answers: Python is just starting, or runs without k8sddp's hooks"
TAKEN = "does not answer: the script has taken the signals for itself"
CLOSED = "does not answer: the script has closed the file that it answers into"
SILENT = {
    "D": "did not answer within 1 s: it is in a system call that nothing interrupts (a disk, a network file system or "
    "a driver that does not answer)",
}
NO_ANSWER = "did not answer within 1 s"

_ANSWERS = re.compile(r"^(\d+) answers to (.*)$", re.MULTILINE)
_STATUS = re.compile(r"^(State|SigPnd|ShdPnd|SigBlk|SigCgt):\s+(\w+)", re.MULTILINE)


def ignore_signals() -> None:
    """Ignore the signals that ranks are asked by: who inherits that is not harmed by one that comes too early."""
    for number in (ASK, DUMP):
        signal.signal(number, signal.SIG_IGN)


class Process(NamedTuple):
    """What the kernel says of a process and its main thread (proc_pid_status(5)); masks have signal n in bit n - 1."""

    state: str
    pending: int = 0
    blocked: int = 0
    caught: int = 0


def process(pid: int) -> Optional[Process]:
    """Return what /proc says of a process, None where there is none of that number."""
    try:
        with open("/proc/%d/status" % pid, "rb") as file:
            found = dict(_STATUS.findall(file.read().decode("ascii", "replace")))
        masks = {name: int(found[name], 16) for name in ("SigPnd", "ShdPnd", "SigBlk", "SigCgt")}
    except (OSError, ValueError, KeyError):
        return None
    return Process(found["State"], masks["SigPnd"] | masks["ShdPnd"], masks["SigBlk"], masks["SigCgt"])


class Looker:
    """Looks at the ranks of one attempt; `pids` tells who they are, `path` where each writes, `send` sends a signal."""

    def __init__(
        self,
        events: loop.Loop,
        *,
        pids: Callable[[], Mapping[int, Optional[int]]],
        path: Callable[[int], str],
        send: Callable[[int, int], object],
    ) -> None:
        self._events = events
        self._pids = pids
        self._path = path
        self._send = send
        self._asked: dict[int, _Asked] = {}  # by rank, of the look that runs
        self._running: list[_Wish] = []
        self._next: list[_Wish] = []

    def look(
        self, done: Callable[[tuple[RankStack, ...]], None], ranks: Optional[Collection[int]] = None
    ) -> Callable[[], None]:
        """Call `done` once with what is seen of `ranks` (of this node's, all where None); return what forgets the wish.

        It is called LIMIT after the look before has ended, at the latest.
        """
        wish = _Wish(done, ranks)
        self._next.append(wish)
        if not self._running:
            self._begin()
        return functools.partial(setattr, wish, "done", None)

    def _begin(self) -> None:
        self._running, self._next = self._next, []
        now = self._events.now()
        for rank, pid in self._pids().items():
            if any(wish.wants(rank) for wish in self._running):
                self._asked[rank] = _Asked(rank, pid, self._path(rank), self._send, now)
        self._poll()

    def _poll(self) -> None:
        now = self._events.now()
        left = [one for one in self._asked.values() if one.seen is None]
        for one in left:
            one.poll(now)
        if any(one.seen is None for one in left):
            self._events.after(POLL, self._poll)
        else:
            self._events.soon(self._end)

    def _end(self) -> None:
        seen = [one.seen for _, one in sorted(self._asked.items()) if one.seen is not None]
        wishes, self._running = self._running, []
        self._asked.clear()
        if self._next:
            self._begin()
        for wish in wishes:
            if wish.done:
                wish.done(tuple(one for one in seen if wish.wants(one.rank)))


class _Wish:
    """Somebody who waits for a look."""

    def __init__(
        self, done: Optional[Callable[[tuple[RankStack, ...]], None]], ranks: Optional[Collection[int]]
    ) -> None:
        self.done = done
        self._ranks = ranks

    def wants(self, rank: int) -> bool:
        """Return whether this rank is to be looked at."""
        return self.done is not None and (self._ranks is None or rank in self._ranks)


class _Asked:
    """One rank during one look; `seen` is None until that is known."""

    def __init__(
        self, rank: int, pid: Optional[int], path: str, send: Callable[[int, int], object], now: float
    ) -> None:
        self.seen: Optional[RankStack] = None
        self._stack = RankStack(rank, pid)
        self._pid = pid or 0
        self._path = path
        self._send = send
        self._begun = now
        self._offset = 0  # where an answer begins
        self._may_dump = False
        self._dump_offset: Optional[int] = None  # and faulthandler's, once that is asked
        found = process(self._pid) if self._pid else None
        self._state = found.state if found else None  # from before it was asked: who answers runs
        if found and found.state not in STOPPED + ENDED:
            self._guarded(self._ask, found)

    def poll(self, now: float) -> None:
        """Look whether the rank has answered, must be asked otherwise, or will not answer."""
        self._guarded(self._look, now)

    def _guarded(self, step: Callable[..., None], value: object) -> None:
        """Say of this rank alone what goes wrong: the file is the script's to write, and a look must end nothing."""
        try:
            step(value)
        except Exception as error:
            self._refused("cannot be looked at: %s" % telling.describe(error))

    def _look(self, now: float) -> None:
        found = process(self._pid) if self._pid else None
        if found is None:
            self._refused("has ended" if self._pid else "has not started yet")
        elif found.state in STOPPED + ENDED:
            self._refused("is stopped" if found.state in STOPPED else "has ended", found.state)
        elif self.seen is None and not self._answered():
            waited = now - self._begun
            if waited >= LIMIT:
                self._refused(SILENT.get(found.state, NO_ANSWER), found.state)
            elif waited >= (LONG_PATIENCE if found.state == "R" else PATIENCE):
                self._dump()

    def _refused(self, problem: str, state: Optional[str] = None) -> None:
        self.seen = self._stack._replace(problem=problem, state=state)

    def _ask(self, found: Process) -> None:
        said = self._answers()
        answers = (said or "").split()
        asks = "ask" in answers and found.caught & _bit(ASK)
        # where the main thread blocks it another would answer in its place
        self._may_dump = "dump" in answers and bool(found.caught & _bit(DUMP)) and not found.blocked & _bit(DUMP)
        if (asks or self._may_dump) and not self._is_open(answers[0]):
            self._refused(CLOSED, found.state)
            return
        if found.pending & _bit(DUMP):
            self._dump_offset = self._offset  # asked by an earlier look, and once is enough
        if asks:
            self._signal(ASK)
        elif self._may_dump:
            self._dump()
        else:
            self._refused(NO_HOOK if said is None else TAKEN, found.state)

    def _is_open(self, word: str) -> bool:
        """Return whether the descriptor of `fd7` is still that of the file; else an answer would go into another."""
        try:
            return os.path.samestat(os.stat("/proc/%d/fd/%s" % (self._pid, word[2:])), os.stat(self._path))
        except PermissionError:  # a program with capabilities of its own, whose /proc is root's
            return True
        except OSError:
            return False

    def _dump(self) -> None:
        if self._may_dump and self._dump_offset is None:
            self._dump_offset = self._size()
            self._signal(DUMP)

    def _signal(self, number: int) -> None:
        """Send a signal to a process that has a handler for it at this very moment."""
        found = process(self._pid)
        if found and found.caught & _bit(number):
            self._send(self._pid, number)

    def _answers(self) -> Optional[str]:
        """Return what this process has said that it answers, None where it said nothing; begin a long file anew."""
        self._offset = self._size()
        said = [ways for pid, ways in _ANSWERS.findall(self._read(0, MAX_FILE)) if int(pid) == self._pid]
        if self._offset >= MAX_FILE and said:
            with open(self._path, "ab") as file:
                file.truncate(0)
                file.write(b"%d answers to %s\n" % (self._pid, said[-1].encode()))
            self._offset = self._size()
        return said[-1] if said else None

    def _answered(self) -> bool:
        """Take the answer, where it has come as a whole; return whether it has."""
        if self._size() == self._offset:
            return False
        text, end, _ = self._read(self._offset).partition(END)
        if not end:
            text = self._dumped()
        dump = dumps.parse(text)
        if dump is None:
            return False
        self.seen = self._stack._replace(
            state=self._state,
            frames=dumps.without_ours(dump.frames),
            cut=dump.cut or len(text) >= MAX_DUMP,
            user_frame=dumps.user_frame(dump.frames),
            waits=dumps.waits(dump.frames),
            signature=dumps.signature(dump.frames),
        )
        return True

    def _dumped(self) -> str:
        """Return what faulthandler has written, empty while it still writes: its signal is blocked as long."""
        offset = self._dump_offset
        if offset is None or self._size() == offset:
            return ""
        found = process(self._pid)
        return "" if found is None or (found.blocked | found.pending) & _bit(DUMP) else self._read(offset)

    def _size(self) -> int:
        try:
            return os.stat(self._path).st_size
        except OSError:  # the attempt has ended
            return self._offset

    def _read(self, offset: int, limit: int = MAX_DUMP) -> str:
        try:
            with open(self._path, "rb") as file:
                file.seek(offset)
                return file.read(limit).decode("ascii", "replace")
        except OSError:
            return ""


def _bit(number: int) -> int:
    return 1 << (number - 1)
