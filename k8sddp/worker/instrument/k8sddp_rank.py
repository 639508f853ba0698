"""Turns a process into a reporting rank: its output to the worker's pipe, its end to the worker's event pipe.

Which process is what: under torchrun and direct RANK and LOCAL_RANK make a rank, from its start. Under spawn, where
RANK is the node's, the first process below the worker is the launcher, and it and what it starts become ranks when
their process group has formed, with the rank that torch gives them (k8sddp_world). Processes below a rank report
nothing, so that a rank's own subprocess never names a false cause. What is reported when a process ends is in
k8sddp_ends.
"""

from __future__ import annotations

import os
import sys

import k8sddp_ends
from k8sddp_events import RANK_DIR, emit, guarded, load, own_rank, send, state

RANK_PID = "K8SDDP_RANK_PID"
LAUNCHER_PID = "K8SDDP_LAUNCHER_PID"
JOINED = "K8SDDP_JOINED"  # the rank of RANK_PID while it is in a process group, empty when it has left it


def install() -> None:
    """Find out what this process is and install what that needs."""
    environ = os.environ
    pid = os.getpid()
    state["pid"] = pid
    if below_a_rank():
        _watch_group()
        return
    if environ.get("K8SDDP_LAUNCHER") != "spawn" and "RANK" in environ and "LOCAL_RANK" in environ:
        become_rank(int(environ["RANK"]))
        guarded(_watch_group)
        return
    import k8sddp_hooks
    import k8sddp_page  # now, for a child that becomes a rank when this folder is off sys.path

    if environ.get("K8SDDP_LAUNCHER") == "spawn":
        k8sddp_page.counter.watch()
    if environ.get("K8SDDP_FAULTS"):
        import k8sddp_faults  # noqa: F401
    place = environ.get("LOCAL_RANK", "")
    if environ.setdefault(LAUNCHER_PID, str(pid)) == str(pid):
        import k8sddp_stop

        k8sddp_stop.install()
        k8sddp_ends.watch(is_no_news=k8sddp_stop.is_no_news)
        k8sddp_hooks.watch_launcher()
    elif environ[LAUNCHER_PID] == str(os.getppid()) and place.isdigit() and int(place):
        # the script has started itself again, as Lightning does; what has LOCAL_RANK=0 may as well be its helper
        k8sddp_ends.watch()
        emit("starting", local_rank=int(place))
    k8sddp_hooks.watch_children()


def below_a_rank() -> bool:
    """Return whether a rank has started or forked this process."""
    pid = str(os.getpid())
    return os.environ.get(RANK_PID, pid) != pid


def become_rank(rank: int) -> None:
    """Send this process's output and end to the worker as those of `rank`; later calls do nothing."""
    pid = os.getpid()
    if own_rank() is not None:
        return
    os.environ[RANK_PID] = str(pid)
    state.update(rank=rank, pid=pid)
    k8sddp_ends.begin()
    send(b'{"event": "start", "pid": %d, "rank": %d}' % (pid, rank))  # json costs 2 ms in a process that just starts
    _redirect(os.path.join(os.environ[RANK_DIR], "rank-%d.out" % rank))
    k8sddp_ends.watch()
    guarded(_count, rank)
    guarded(_answer_looks, rank)


def _watch_group() -> None:
    import k8sddp_hooks

    k8sddp_hooks.watch_group()


def _count(rank: int) -> None:
    counter = load("k8sddp_page").counter
    counter.start(os.path.join(os.environ[RANK_DIR], "rank-%d.page" % rank))
    if os.environ.get("K8SDDP_FAULTS"):
        counter.after_step = load("k8sddp_faults").of_rank(rank)


def _answer_looks(rank: int) -> None:
    load("k8sddp_stacks").install(os.path.join(os.environ[RANK_DIR], "rank-%d.stack" % rank))


def _redirect(path: str) -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):
            pass
    try:
        # no O_CREAT: a rank that the worker did not expect keeps the launcher's output
        fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:
        return
    os.set_blocking(fd, True)
    os.dup2(fd, 1)
    os.dup2(fd, 2)
    os.close(fd)
