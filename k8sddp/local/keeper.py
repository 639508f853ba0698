"""Stands in front of one local pod: what a container's PID namespace does on a cluster, as one small process.

Started as a file by `processes.py` (`python -I -S keeper.py CONTROL_FD GRACE ORPHAN_GRACE FOLDERS PROGRAM ARG...`), in
a session of its own. It guarantees that when the pod's program ends, everything that the program started ends too; that
the pod ends when `k8sddp` itself is killed with SIGKILL (the control socket then closes); and that its own exit code is
the container's, 128 + n for signal n. It is a child subreaper, so processes in sessions of their own (torchrun's ranks)
stay in its tree. Standard library only, and little of it: every local pod pays for its start.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys
import time
from collections.abc import Sequence
from typing import NoReturn

TERMINATE = b"t"  # SIGTERM now, SIGKILL for the whole tree after the grace period
KILL = b"k"  # SIGKILL for the whole tree now
SHOW = b"s"  # SIGQUIT, by which a worker prints what its ranks do

# prctl(2) options
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36

NOT_STARTED = 128  # the container runtime's (worker/contract/exit_codes.py)
SWEEP_PAUSE = 0.002  # seconds between two passes over /proc; one pass is not enough while processes fork
SWEEP_LIMIT = 10.0  # seconds; a process in uninterruptible sleep outlives every signal


def prctl(option: int, value: int) -> bool:
    """Call prctl(2) and return whether the kernel accepted it."""
    zero = ctypes.c_ulong(0)
    return bool(ctypes.CDLL(None).prctl(option, ctypes.c_ulong(value), zero, zero, zero) == 0)


def parents() -> dict[int, int]:
    """Return the parent of every process in /proc."""
    found = {}
    for name in os.listdir("/proc"):  # noqa: PTH208  pathlib costs more than the rest of this program's start
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:  # noqa: PTH123  as above
                # The second field is the program's name in parentheses, and it may hold spaces and parentheses.
                found[int(name)] = int(file.read().rpartition(b")")[2].split()[1])
        except (OSError, IndexError, ValueError):
            continue  # it ended while we looked
    return found


def descendants(roots: Sequence[int], parent_of: dict[int, int]) -> list[int]:
    """Return the processes below `roots`, without them."""
    children: dict[int, list[int]] = {}
    for pid, parent in parent_of.items():
        children.setdefault(parent, []).append(pid)
    found: list[int] = []
    waiting = list(roots)
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def exit_code(status: int) -> int:
    """Return a wait status as a container's exit code."""
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


class Keeper:
    """The one child, its end, and the sweep behind it."""

    def __init__(self, control: int, *, grace: float, orphan_grace: float) -> None:
        self.control = control
        self.grace = grace
        self.orphan_grace = orphan_grace
        self.orphaned = False
        self.child = 0
        self.code: int | None = None
        self.deadline: float | None = None

    def keep(self, argv: Sequence[str]) -> int:
        """Start the program, wait for its end and for everything it started; return its exit code."""
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        signal.signal(signal.SIGQUIT, signal.SIG_IGN)
        wake_read, wake_write = os.pipe()
        os.set_blocking(wake_write, False)
        os.set_blocking(wake_read, False)
        self.child = os.fork()
        if self.child == 0:
            _become(argv)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: self.terminate(self.grace))
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self.reap()
        poll = select.poll()
        poll.register(wake_read, select.POLLIN)
        poll.register(self.control, select.POLLIN)
        while self.code is None and not self.overdue():
            for descriptor, _ in poll.poll(self.wait_ms()):
                if descriptor == wake_read:
                    os.read(wake_read, 4096)
                elif not self.obey():
                    poll.unregister(self.control)
            self.reap()
        self.sweep()
        return exit_code(int(signal.SIGKILL)) if self.code is None else self.code

    def obey(self) -> bool:
        """Do what `k8sddp` says; return False when it is gone."""
        try:
            command = os.read(self.control, 1)
        except ConnectionResetError:
            command = b""
        if command == KILL:
            self.deadline = time.monotonic()
        elif command == TERMINATE:
            self.terminate(self.grace)
        elif command == SHOW and self.code is None:
            os.kill(self.child, signal.SIGQUIT)
        elif not command:
            self.orphaned = True
            self.terminate(min(self.grace, self.orphan_grace))
        return bool(command)

    def terminate(self, grace: float) -> None:
        """Send SIGTERM to the program, as the kubelet does to PID 1, and remember when SIGKILL follows."""
        if self.code is None and self.child:
            os.kill(self.child, signal.SIGTERM)
            deadline = time.monotonic() + grace
            self.deadline = deadline if self.deadline is None else min(self.deadline, deadline)

    def overdue(self) -> bool:
        """Return whether the grace period is over."""
        return self.deadline is not None and time.monotonic() >= self.deadline

    def wait_ms(self) -> int | None:
        """Return how long to wait for the next event."""
        return None if self.deadline is None else max(0, int((self.deadline - time.monotonic()) * 1000) + 1)

    def reap(self) -> bool:
        """Collect every child that ended; return False when there is none left, which means an empty tree."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self.child:
                self.code = exit_code(status)

    def sweep(self) -> None:
        """Kill everything below this process until nothing is left."""
        end = time.monotonic() + SWEEP_LIMIT
        while self.reap() and time.monotonic() < end:
            for pid in descendants([os.getpid()], parents()):
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            time.sleep(SWEEP_PAUSE)


def _become(argv: Sequence[str]) -> NoReturn:
    """Turn the forked child into the pod's program, with the signals of a fresh container."""
    try:
        prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM))  # the keeper may be killed together with k8sddp
        os.setsid()
        # but SIGQUIT, which stays ignored until the program handles it: without a handler it does nothing to PID 1
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGQUIT}:
            try:
                signal.signal(number, signal.SIG_DFL)
            except OSError:
                continue  # glibc keeps two real-time signals for itself
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.execv(argv[0], list(argv))  # noqa: S606  no shell is wanted
    except OSError as error:
        reason = error.strerror or str(error)
        os.write(2, f"[k8sddp] cannot start {argv[0]}: {reason}\n".encode(errors="backslashreplace"))
    finally:
        os._exit(NOT_STARTED)


def main(arguments: Sequence[str]) -> int:
    """Keep one pod; return its exit code."""
    control = int(arguments[0])
    os.set_inheritable(control, False)
    keeper = Keeper(control, grace=float(arguments[1]), orphan_grace=float(arguments[2]))
    code = keeper.keep(arguments[4:])
    if keeper.orphaned:
        _remove(arguments[3].split(os.pathsep))
    return code


def _remove(folders: Sequence[str]) -> None:
    """Remove the pod's scratch folders, and the run's with the last pod: nobody else is left to do it."""
    import shutil

    for folder in folders:
        parent = os.path.dirname(folder)  # noqa: PTH120  as above
        shutil.rmtree(folder, ignore_errors=True)
        try:
            os.rmdir(os.path.realpath(parent))  # noqa: PTH106  as above
            if os.path.islink(parent):  # noqa: PTH114  as above
                os.unlink(parent)  # noqa: PTH108  as above
        except OSError:
            continue


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
