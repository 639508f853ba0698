"""Looks at each default process group that forms: whether it is the job's, and who this process is in it.

A script that joins with a size or address of its own trains on, silently, without the gradients of the other ranks. So
a group of another size than the job's ends the process, and by the worker the job, before it trains; so does a rank
that is another node's. Groups of a rank's own subprocesses are their business (an evaluation, a checkpoint that is
written in the background), and so are subgroups. Loaded when a group has formed; a step costs nothing.
"""

from __future__ import annotations

import os
import sys
import time

import k8sddp_events
import k8sddp_rank

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

BAD_CONFIGURATION = 78  # worker/contract/exit_codes.py
PATIENCE = 5.0  # seconds for the worker to end the node, before a launcher buries the sentence under its traceback
FAKE = "fake"  # torch.testing's backend, whose groups have one process
LOCAL = ("localhost", "::1", "0.0.0.0", "::")


class World:
    """A group that has formed, beside the job that it should be."""

    def __init__(self, rank: int, size: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        environ = os.environ
        self.rank = rank
        self.size = size
        self.nnodes = int(environ["K8SDDP_NNODES"])
        self.nproc = int(environ["K8SDDP_NPROC_PER_NODE"])
        self.node_rank = int(environ["K8SDDP_NODE_RANK"])
        self.spawn = environ.get("K8SDDP_LAUNCHER") == "spawn"
        self.asked = kwargs.get("world_size", args[3] if len(args) > 3 else -1)  # what the script passed
        method = kwargs.get("init_method", args[1] if len(args) > 1 else None) or "env://"
        self.host = _host(method)
        self.given = environ.get("K8SDDP_MASTER_ADDR", "")  # what MASTER_ADDR was

    @property
    def right(self) -> bool:
        """Return whether it has the job's size."""
        return self.size == self.nnodes * self.nproc

    @property
    def placed(self) -> bool:
        """Return whether this process's rank is one of this node's."""
        return self.rank // self.nproc == self.node_rank

    @property
    def elsewhere(self) -> bool:
        """Return whether it has met at an address that the worker has not given."""
        return bool(self.host and self.given) and self.host.lower() != self.given.lower()


# What is wrong with a group of another size: the first that holds. `%(x)s` is an attribute of the World.
REASONS: tuple[tuple[Callable[[World], bool], str], ...] = (
    (
        lambda world: world.size == 1 and world.asked == 1,
        "the script joins with world_size=1, so each rank trains alone",
    ),
    (
        lambda world: world.nnodes > 1 and world.elsewhere and is_local(world.host),
        "the script joins at %(host)s instead of MASTER_ADDR with world_size=%(size)d, so each node trains alone",
    ),
    (
        lambda world: world.size == world.nnodes and world.nproc > 1 and world.spawn,
        "the script joins with a world_size that counts nodes, as WORLD_SIZE does under launcher: spawn; it is"
        " WORLD_SIZE * LOCAL_WORLD_SIZE",
    ),
    (
        lambda world: world.size == world.nnodes and world.nproc > 1,
        "the script joins with a world_size that counts nodes; WORLD_SIZE counts ranks",
    ),
    (
        lambda world: world.size == world.nproc and world.nnodes > 1,
        "the script joins with a world_size that counts the ranks of one node",
    ),
    (
        lambda world: world.size == 1,
        "the script joins with WORLD_SIZE=1, so each rank trains alone",
    ),
    (
        lambda world: world.spawn and world.size % world.nnodes == 0,
        "the script starts %(per_node)s on each node, and spec.nprocPerNode is %(nproc)d",
    ),
    (
        lambda world: True,
        "the script joins with a world_size of its own",
    ),
)
BELOW = "a rank starts ranks of its own, which is what launcher: spawn is for"


def formed(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Take note that init_process_group(*args, **kwargs) of `module` has returned: become a rank, or end."""
    if module.get_backend() == FAKE:
        return
    world = World(module.get_rank(), module.get_world_size(), args, kwargs)
    joined = os.environ.get(k8sddp_rank.JOINED)  # what the rank above this process has done
    if k8sddp_events.own_rank() is None and k8sddp_rank.below_a_rank():
        if world.spawn and world.right and world.placed and joined != str(world.rank):
            _join(world)  # the rank above has started the others after it has joined, or has left for them
        elif joined is None and world.right:
            k8sddp_events.emit("joined")
        elif joined is None and world.size > 1:
            _refuse("%s: %s" % (sizes(world), BELOW))
        return
    if not world.right:
        _refuse("%s: %s" % (sizes(world), reason(world)))
    if not world.placed:
        _refuse(misplaced(world))
    _join(world)


def _join(world: World) -> None:
    k8sddp_rank.become_rank(world.rank)
    os.environ[k8sddp_rank.JOINED] = str(world.rank)
    k8sddp_events.emit("joined")


def sizes(world: World) -> str:
    """Return what formed and what should have."""
    nodes = "%s of %s" % (_count(world.nnodes, "node"), _count(world.nproc, "rank"))
    return "the ranks formed a group of %d, the job has %d (%s)" % (world.size, world.nnodes * world.nproc, nodes)


def reason(world: World) -> str:
    """Return why, most likely."""
    text = next(text for holds, text in REASONS if holds(world))
    return text % {**vars(world), "per_node": _count(world.size // world.nnodes, "rank")}


def misplaced(world: World) -> str:
    """Return why this process cannot be the rank that it has joined as."""
    first = world.node_rank * world.nproc
    own = "rank %d" % first if world.nproc == 1 else "ranks %d-%d" % (first, first + world.nproc - 1)
    return "a process of node %d joined as rank %d, but node %d has %s: a rank is %s" % (
        world.node_rank,
        world.rank,
        world.node_rank,
        own,
        "NODE_RANK * LOCAL_WORLD_SIZE + its number on the node" if world.spawn else "what RANK says",
    )


def is_local(host: str) -> bool:
    """Return whether `host` is another machine on every node."""
    import socket

    own = (*LOCAL, socket.gethostname().lower(), os.environ.get("K8SDDP_POD_IP", ""))
    return host.lower() in own or host.startswith("127.")


def _host(method: str) -> str:
    """Return where the ranks have met, the empty string where that is no host."""
    if method.startswith("env:"):
        return os.environ.get("MASTER_ADDR", "")
    if not method.startswith("tcp:"):
        return ""
    from urllib.parse import urlparse

    return urlparse(method).hostname or ""


def _count(number: int, what: str) -> str:
    return "%d %s%s" % (number, what, "" if number == 1 else "s")


def _refuse(sentence: str) -> NoReturn:
    """End this process: nothing that the script catches or cleans up may let it train on."""
    try:
        told = k8sddp_events.emit("refused", detail=sentence)
        for stream in (sys.stdout, sys.stderr):
            k8sddp_events.guarded(stream.flush)
        if not told:
            os.write(2, ("k8sddp: %s\n" % sentence).encode())
        elif os.environ.get("K8SDDP_WORKER_PID"):
            time.sleep(PATIENCE)
    finally:
        os._exit(BAD_CONFIGURATION)
