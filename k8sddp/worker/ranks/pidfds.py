"""Processes that are no children of ours, held by a descriptor: their ends are heard of at once.

A rank under torchrun or mp.spawn is the child of another process, which looks only now and then. A pidfd (Linux 5.3)
becomes readable the moment its process ends, and a signal through it never meets another process that was given the
same pid. Where the kernel has none, nothing is heard and signals go by the pid.
"""

from __future__ import annotations

import functools
import os
import signal
from collections.abc import Callable
from typing import Optional

from k8sddp.worker.net import loop

from . import process_tree

MAX_PIDS = 4096  # watched at a time; beyond that nothing is heard
LAST_PID = 4194304  # PID_MAX_LIMIT of linux/threads.h


class Pidfds:
    """Some processes, by pid."""

    def __init__(self, events: loop.Loop) -> None:
        self._events = events
        self._fds: dict[int, int] = {}  # by pid; -1 where the kernel gave none

    def watch(self, pid: int, gone: Callable[[Optional[int]], None]) -> None:
        """Call `gone` once when `pid` ends: with its exit code, None if its parent was quicker to reap it.

        A process that lives but is no descendant of ours is not watched.
        """
        if pid in self._fds or not 0 < pid <= LAST_PID or len(self._fds) >= MAX_PIDS:
            return
        try:
            fd = os.pidfd_open(pid)
        except ProcessLookupError:
            self._events.soon(lambda: gone(None))
            return
        except (AttributeError, OSError):
            fd = -1
        if not process_tree.is_below(pid, os.getpid()):
            if fd >= 0:
                os.close(fd)
            if not process_tree.send(pid, 0):  # reaped meanwhile
                self._events.soon(lambda: gone(None))
            return
        if fd >= 0:
            try:
                self._events.watch(fd, read=functools.partial(self._ended, pid, gone))
            except OSError:  # no memory for it: as where the kernel has none
                os.close(fd)
                fd = -1
        self._fds[pid] = fd

    def living(self) -> tuple[int, ...]:
        """Return the pids that have not ended."""
        return tuple(pid for pid, fd in self._fds.items() if fd >= 0 or _lives(pid))

    def send(self, pid: int, number: int) -> None:
        """Send a signal to a watched process, if it still lives."""
        fd = self._fds.get(pid)
        if fd is not None and fd >= 0:
            try:
                signal.pidfd_send_signal(fd, number)
            except ProcessLookupError:
                return  # its end has not been read yet
            except OSError:  # a sandbox that forbids the call
                process_tree.send(pid, number)
        elif fd is not None:
            process_tree.send(pid, number)

    def close(self) -> None:
        """Forget all of them."""
        for pid in tuple(self._fds):
            self._forget(pid)

    def _ended(self, pid: int, gone: Callable[[Optional[int]], None]) -> None:
        code = process_tree.exit_code(pid)  # before anything else: its parent reaps it soon
        self._forget(pid)
        gone(code)

    def _forget(self, pid: int) -> None:
        fd = self._fds.pop(pid)
        if fd >= 0:
            self._events.watch(fd)
            os.close(fd)


def _lives(pid: int) -> bool:
    return process_tree.send(pid, 0) and process_tree.exit_code(pid) is None
