"""Starting the launcher and ending everything that grew from it.

Ranks sit in sessions of their own, so killing a process group leaves most of them alive; a stopped rank ignores
SIGTERM; a DataLoader worker outlives its rank. Therefore: as subreaper (or PID 1) all orphans stay our descendants, and
ending means walking /proc, SIGKILL, reaping, again, until nothing is left. Measured: 0.1-0.4 s for nine processes in
five sessions. Bounded: what sits in an uninterruptible system call is reported and left to the kernel. Where others use
the machine too, torch's cleaner of shared memory is spared: it alone knows every process that has left some there.
While /proc cannot be read (no descriptor is left) nothing is known to have ended: it is looked at again.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from typing import NamedTuple, Optional

from k8sddp.worker.net import loop

from . import descriptors

PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
ROUND = 0.002  # seconds between two walks
PATIENT_ROUND = 0.02  # the same while only CLEANER is left
CLEANER = b"torch_shm_manag"  # removes shared memory 2 s after its last user (torch/lib/libshm/manager.cpp), cut at 15
PATIENCE = 4.0  # seconds for CLEANER, which a loaded machine keeps from its 2 s
MAX_DEPTH = 64  # generations below the worker that are followed
UNSEEN = 0  # stands among the pids that are left for processes that could not be looked for
LIMIT = 5.0  # seconds after which what still lives is given up; the coordinator's END_LIMIT is longer


def become_subreaper() -> bool:
    """Let orphaned descendants fall to this process instead of to PID 1; PID 1 has that by nature."""
    if os.getpid() == 1:
        return True
    try:
        import ctypes

        return bool(ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)
    except (ImportError, OSError, AttributeError):
        return False


def spawn(argv: tuple[str, ...], env: Mapping[str, str], *, output: int) -> int:
    """Start `argv` in a session of its own, stdin from /dev/null, stdout and stderr to `output`; return its pid.

    Raises OSError when it cannot be started.
    """
    with descriptors.GivenBack(output) as low:
        return _spawn(argv, env, low)


def _spawn(argv: tuple[str, ...], env: Mapping[str, str], output: int) -> int:
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_DUP2, output, 1),
        (os.POSIX_SPAWN_DUP2, output, 2),
    ]
    defaults = [signal.SIGPIPE, signal.SIGXFSZ]  # Python ignores them; a program that is not Python must not
    try:
        return os.posix_spawnp(argv[0], argv, env, file_actions=actions, setsigdef=defaults, setsigmask=[], setsid=True)
    except NotImplementedError:  # a libc without POSIX_SPAWN_SETSID: a process group of its own must do
        return os.posix_spawnp(argv[0], argv, env, file_actions=actions, setsigdef=defaults, setsigmask=[], setpgroup=0)


def descendants(root: int) -> tuple[int, ...]:
    """Return the pids of all living and unreaped descendants of `root`.

    Raises OSError where /proc cannot be read.
    """
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            parent = _parent(entry)
            if parent:
                children.setdefault(parent, []).append(int(entry))
    found: list[int] = []
    todo = [root]
    while todo:
        offspring = children.get(todo.pop(), ())
        found.extend(offspring)
        todo.extend(offspring)
    return tuple(found)


class Sweep(NamedTuple):
    """What `end` did: the pids that would not die, and all pids that it saw."""

    left: tuple[int, ...]
    seen: frozenset[int]


def is_below(pid: int, root: int) -> bool:
    """Return whether `pid` is a living or unreaped descendant of `root`, False where /proc cannot be read."""
    for _ in range(MAX_DEPTH):
        try:
            pid = _parent(str(pid))
        except OSError:
            return False
        if pid in (0, root):
            break
    return pid == root


def end(events: loop.Loop, done: Callable[[Sweep], None], *, root: int = 0, spare: bool = False) -> None:
    """Kill all descendants of `root` (this process), then call `done`; `spare` leaves torch's CLEANER alone."""
    root = root or os.getpid()
    deadline = events.now() + LIMIT
    seen: set[int] = set()

    def walk() -> None:
        events.reap()
        try:
            left = tuple(pid for pid in descendants(root) if not (spare and _name(pid) == CLEANER))
        except OSError:  # blind, so nobody is killed by a number that may be another's by now
            if events.now() >= deadline:
                done(Sweep((UNSEEN,), frozenset(seen)))
            else:
                events.after(PATIENT_ROUND, walk)
            return
        seen.update(left)
        if not left or events.now() >= deadline:
            done(Sweep(left, frozenset(seen)))
            return
        for pid in left:
            send(pid, signal.SIGKILL)
        events.after(ROUND, walk)

    walk()


def end_last(events: loop.Loop, done: Callable[[Sweep], None]) -> None:
    """Do as `end`, when nothing comes after it: a CLEANER that was spared gets its time, PATIENCE at most."""

    def wait(sweep: Sweep) -> None:
        if sweep.left:
            done(sweep)
        else:
            look(events.now() + PATIENCE)

    def look(deadline: float) -> None:
        events.reap()
        if events.now() < deadline and _has_cleaner():
            events.after(PATIENT_ROUND, lambda: look(deadline))
        else:
            end(events, done)

    end(events, wait, spare=True)


def send(pid: int, number: int) -> bool:
    """Send a signal and return whether there is such a process that may be sent one; 0 only asks."""
    try:
        os.kill(pid, number)
    except OSError:  # gone since we looked, or not ours to kill
        return False
    return True


def exit_code(pid: int) -> Optional[int]:
    """Return the exit code (negative: the signal) of a process that has ended and is not yet reaped, else None.

    Source: the last field of /proc/PID/stat, in the form that waitpid gives it (proc_pid_stat(5)).
    """
    try:
        with open("/proc/%d/stat" % pid, "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return os.waitstatus_to_exitcode(int(fields[-1])) if fields[0] in (b"Z", b"X") else None


def resident_bytes() -> Optional[int]:
    """Return the resident memory of this process, None where it cannot be read."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return None


def _has_cleaner() -> bool:
    try:
        return CLEANER in map(_name, descendants(os.getpid()))
    except OSError:
        return False


def _parent(pid: str) -> int:
    """Return the parent's pid, 0 for a process that has gone. Raises OSError where that cannot be read."""
    try:
        with open("/proc/%s/stat" % pid, "rb") as file:
            text = file.read()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    except PermissionError:
        if os.stat("/proc/" + pid).st_uid == os.geteuid():
            raise
        return 0  # another user's, where /proc is mounted with hidepid=1
    return int(text[text.rindex(b")") + 2 :].split(None, 2)[1])  # the name in parentheses may hold anything


def _name(pid: int) -> bytes:
    try:
        with open("/proc/%d/comm" % pid, "rb") as file:
            return file.read().rstrip(b"\n")
    except OSError:
        return b""
