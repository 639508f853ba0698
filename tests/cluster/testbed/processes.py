"""Find and signal processes of one test bed, and never any other.

A process is ours when it lives in the test bed's PID namespace, which the kernel tells: no pid file can go stale. A
signal goes through a pidfd that is opened before the start time is compared, so a pid that was reused in between is
never hit.
"""

import os
import select
import signal
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")


@dataclass(frozen=True)
class Process:
    """One process as it was when it was found; `pid` is the machine's own number."""

    pid: int
    started: int  # clock ticks since boot
    state: str
    argv: tuple[str, ...]
    parent: int = 0

    @property
    def program(self) -> str:
        """Last path element of what was executed; empty for a zombie."""
        return Path(self.argv[0]).name if self.argv else ""


def find(pid: int) -> Process | None:
    """Read one process; None when there is none."""
    try:
        stat = (PROC / str(pid) / "stat").read_text()
        argv = (PROC / str(pid) / "cmdline").read_bytes().split(b"\0")[:-1]
    except OSError:
        return None
    fields = stat[stat.rindex(")") + 2 :].split()  # the command before it may hold spaces and brackets
    return Process(pid, int(fields[19]), fields[0], tuple(os.fsdecode(word) for word in argv), int(fields[1]))


def every() -> Iterator[Process]:
    """Yield every process that this one can see, zombies left out."""
    for entry in PROC.iterdir():
        if entry.name.isdigit() and (process := find(int(entry.name))) and process.state != "Z":
            yield process


def in_namespace(first: Process) -> tuple[Process, ...]:
    """Return the processes that share the PID namespace of the test bed's first process, that one included."""
    wanted = namespace(first)
    return tuple(process for process in every() if wanted is not None and namespace(process) == wanted)


def this() -> Process:
    """Return the calling process."""
    found = find(os.getpid())
    assert found is not None
    return found


def lineage() -> tuple[Process, ...]:
    """Return the calling process and its ancestors, the youngest first."""
    found = [this()]
    while parent := find(found[-1].parent):
        found.append(parent)
    return tuple(found)


def with_variable(name: str, value: str) -> tuple[Process, ...]:
    """Return the processes that were started with this in their environment."""
    return tuple(process for process in every() if variable(process, name) == value)


def namespace(process: Process) -> str | None:
    """Return the kernel's name of a process's PID namespace; None when it is gone."""
    try:
        return os.readlink(PROC / str(process.pid) / "ns/pid")  # noqa: PTH115 (no path: "pid:[4026531836]")
    except OSError:
        return None


def in_cgroup(processes: Iterable[Process], fragment: str) -> tuple[Process, ...]:
    """Return those whose cgroup, in any hierarchy, has the path fragment in it."""
    return tuple(process for process in processes if fragment in _text(process.pid, "cgroup"))


def variable(process: Process, name: str) -> str | None:
    """Return an environment variable that the process was started with."""
    for line in _text(process.pid, "environ").split("\0"):
        key, _, value = line.partition("=")
        if key == name:
            return value
    return None


def send(process: Process, number: signal.Signals) -> bool:
    """Signal the very process that was found; False when it is gone."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return False
    try:
        now = find(process.pid)
        if now is None or now.started != process.started:
            return False
        signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(descriptor)
    return True


def wait_gone(process: Process, seconds: float) -> bool:
    """Wait until the process has ended; False when it still runs after that time."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return True
    try:
        now = find(process.pid)
        if now is None or now.started != process.started:
            return True
        ready, _, _ = select.select([descriptor], [], [], seconds)
        return bool(ready)
    finally:
        os.close(descriptor)


def kill_all(processes: Iterable[Process], seconds: float = 10) -> tuple[Process, ...]:
    """SIGKILL each, wait for them together, and return those that still run."""
    targets = tuple(processes)
    for process in targets:
        send(process, signal.SIGKILL)
    deadline = time.monotonic() + seconds
    return tuple(process for process in targets if not wait_gone(process, max(0.0, deadline - time.monotonic())))


def _text(pid: int, name: str) -> str:
    try:
        return (PROC / str(pid) / name).read_text(errors="surrogateescape")
    except OSError:
        return ""
