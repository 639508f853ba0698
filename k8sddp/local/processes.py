"""One local pod as a running process: its keeper, its output in whole lines, its end.

The keeper (`keeper.py`) is the pod's parent and outlives this process by as long as it takes to end the pod, so a
SIGKILL of `k8sddp` leaves nothing behind. Should the keeper itself be killed, its orphans come to this process, which
is a child subreaper during a run, and `sweep` ends them. Nothing here waits for the end of a pipe: a forgotten helper
process can hold one open for minutes.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from k8sddp import errors
from k8sddp.local import keeper, pods
from k8sddp.worker.contract import node_env

ORPHAN_GRACE: Final = 5.0  # seconds that a pod has to end in once k8sddp itself is gone; nobody waits for it
CHUNK: Final = 65536
LONGEST_LINE: Final = 1 << 20  # bytes; what is longer, or never ends, is passed on in pieces

_PR_GET_CHILD_SUBREAPER: Final = 37  # prctl(2)


class Lines:
    """Cuts a stream of bytes into whole lines; of a `live` one a carriage return ends a line too."""

    def __init__(self, *, live: bool = False) -> None:
        self._ends = (b"\n", b"\r") if live else (b"\n",)
        self._rest = b""

    def feed(self, data: bytes) -> bytes:
        """Return the lines that `data` completes."""
        data = self._rest + data
        end = max(data.rfind(one) for one in self._ends) + 1
        complete, self._rest = data[:end], data[end:]
        if len(self._rest) > LONGEST_LINE:
            return complete + self.flush()
        return complete

    def flush(self) -> bytes:
        """Return what is left, as a line."""
        rest, self._rest = self._rest, b""
        return rest and rest + b"\n"


class PodProcess:
    """A started pod."""

    def __init__(self, pod: pods.LocalPod) -> None:
        self.pod = pod
        self._lines = Lines(live=pod.env.get(node_env.LIVE) == "1")
        self.control, theirs = socket.socketpair()
        self.output, write_end = os.pipe()
        os.set_blocking(self.output, False)
        try:
            self._keeper = subprocess.Popen(
                _keeper_command(pod, theirs.fileno()),
                env=dict(pod.env),
                cwd=pod.cwd,
                stdin=subprocess.DEVNULL,
                stdout=write_end,
                stderr=write_end,
                start_new_session=True,
                pass_fds=(theirs.fileno(),),
            )
        except OSError as error:
            self._close()
            raise errors.LocalError(f"{pod.name}: cannot be started in {pod.cwd}: {error.strerror}") from error
        finally:
            theirs.close()
            os.close(write_end)

    @property
    def pid(self) -> int:
        """Return the keeper's process id."""
        return self._keeper.pid

    def send(self, command: bytes) -> None:
        """Tell the keeper to end the pod, or to let it show its stacks: keeper.TERMINATE, KILL or SHOW."""
        with suppress(OSError):  # it has just ended
            self.control.send(command)

    def kill_keeper(self) -> None:
        """End a keeper that no longer obeys; `sweep` must follow."""
        self._keeper.kill()

    def read(self) -> bytes:
        """Return the whole lines that the pod has printed since the last call."""
        printed = b""
        while True:
            try:
                data = os.read(self.output, CHUNK)
            except BlockingIOError:
                return printed
            if not data:
                return printed
            printed += self._lines.feed(data)
            if len(printed) >= LONGEST_LINE:
                return printed

    def finish(self) -> tuple[bytes, int]:
        """Return the last lines and the exit code of a pod whose keeper has ended."""
        code = self._keeper.wait()
        printed = self.read() + self._lines.flush()
        self._close()
        return printed, code if code >= 0 else 128 - code

    def _close(self) -> None:
        self.control.close()
        os.close(self.output)


def _keeper_command(pod: pods.LocalPod, control: int) -> Sequence[str]:
    times = (str(control), str(pod.grace_period), str(ORPHAN_GRACE))
    folders = os.pathsep.join(map(str, (pod.folders.memory, pod.folders.scratch, pod.folders.temporary)))
    return (sys.executable, "-I", "-S", str(Path(keeper.__file__)), *times, folders, *pod.argv)


@contextmanager
def subreaper() -> Iterator[None]:
    """Make this process the parent of every orphan below it for the time of a run."""
    before = ctypes.c_int(0)
    ctypes.CDLL(None).prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(before), 0, 0, 0)
    keeper.prctl(keeper.PR_SET_CHILD_SUBREAPER, 1)
    try:
        yield
    finally:
        keeper.prctl(keeper.PR_SET_CHILD_SUBREAPER, before.value)


def children() -> frozenset[int]:
    """Return the child processes of this process."""
    own = os.getpid()
    return frozenset(pid for pid, parent in keeper.parents().items() if parent == own)


def sweep(*, spared: Collection[int]) -> None:
    """Kill the orphans that came to this process, with everything below them, until none is left.

    `spared` are children that are no orphans: those from before the run, and the keepers. An orphan of a pod is always
    in another session than this process, which keeps the children that another thread starts meanwhile.
    """
    end = time.monotonic() + keeper.SWEEP_LIMIT
    while (orphans := [pid for pid in children() - set(spared) if _is_foreign(pid)]) and time.monotonic() < end:
        for pid in [*orphans, *keeper.descendants(orphans, keeper.parents())]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for pid in orphans:
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        time.sleep(keeper.SWEEP_PAUSE)


def _is_foreign(pid: int) -> bool:
    try:
        return os.getsid(pid) != os.getsid(0)
    except ProcessLookupError:
        return False
