"""In the launcher: it ends no rank while the pod is asked to stop, because ranks may still be saving.

The worker has asked every rank itself, and ends what is left when all have gone or the grace is over. But a launcher
that sees one rank leave with a code sends SIGTERM and, 30 s later at most, SIGKILL to the others. Stopping the launcher
(SIGSTOP) instead would stop the store that torchrun's agent of node 0 serves, which a rank may need to save. So its
signals wait: those of a script's own launcher until the process, or the last rank, has ended by itself; torchrun's
agent never gets to them, and so does not report on ranks that did as they were asked.

An agent that somebody else asks to stop hands that on to its ranks only, and not to their DataLoader workers, without
which they cannot save: torch signals the whole session of a rank.
"""

from __future__ import annotations

import functools
import os
import signal
import time

import k8sddp_events
import k8sddp_hooks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

ASKED = "asked"  # in RANK_DIR, made by the worker when the pod is asked to stop, before it asks anybody here
SAVING = "saving"  # there too, while ranks that it has asked live
ENDS = (signal.SIGTERM, signal.SIGKILL)
PAUSE = 0.02  # seconds between two looks
AGENT = "torch.distributed.elastic.multiprocessing.api"
# what a launcher ends with because ranks, or it, did as they were asked; a rank's own exception is told all the same
NO_NEWS = ("ProcessExitedException", "SignalException")

_launcher = {"pid": 0, "folder": "", "closing": False}


def install() -> None:
    """Make this process, the launcher, hold back its signals whenever the worker says so."""
    _launcher.update(pid=os.getpid(), folder=os.environ[k8sddp_events.RANK_DIR])
    one, group = os.kill, os.killpg

    @functools.wraps(group)
    def killpg(pid: int, number: int, /) -> None:
        (one if _launcher["closing"] and number == signal.SIGTERM else group)(pid, number)

    os.kill, os.killpg = _held(one), _held(killpg)
    k8sddp_hooks.when_imported(AGENT, _hold_agent)


def is_no_news(kind: type[BaseException]) -> bool:
    """Return whether an exception that ends this process need not be printed."""
    return kind.__name__ in NO_NEWS and _told(ASKED)


def _told(name: str) -> bool:
    """Return whether this process is the launcher, and no rank, and the worker has made `name`."""
    if os.getpid() != _launcher["pid"] or k8sddp_events.own_rank() is not None:
        return False
    return os.path.exists(os.path.join(str(_launcher["folder"]), name))


def _held(send: Callable[[int, int], None]) -> Callable[[int, int], None]:
    @functools.wraps(send)
    def held(pid: int, number: int, /) -> None:
        if number in ENDS and isinstance(pid, int) and pid > 0 and pid != _launcher["pid"]:
            while _told(SAVING) and _lives(pid):
                time.sleep(PAUSE)
        send(pid, number)

    return held


def _lives(pid: int) -> bool:
    try:
        with open("/proc/%d/stat" % pid, "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except (OSError, IndexError):
        return False


def _hold_agent(module: Any) -> None:
    original = module.PContext.close

    @functools.wraps(original)
    def close(self: Any, *args: Any, **options: Any) -> Any:
        while _told(SAVING):  # until the worker ends this process
            time.sleep(PAUSE)
        _launcher["closing"] = True
        try:
            return original(self, *args, **options)
        finally:
            _launcher["closing"] = False

    module.PContext.close = close
