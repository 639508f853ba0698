"""The page /stacks: what each rank of this node does at this moment, for people, or with ?format=json for programs.

`?rank=5` looks at that rank alone; one of another node is answered with the node that has it, because a worker can look
at its own processes only. It shows names of files and functions, numbers and states. The text of the program is not
shown: whoever reaches the port may read it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from typing import Optional, Union

from .contract import stacks
from .contract.stacks import RankStack
from .net import http_server
from .status import Facts

Look = Callable[[Callable[[tuple[RankStack, ...]], None], Optional[Collection[int]]], Optional[http_server.Forget]]

FORMATS = {"text": http_server.TEXT, "json": http_server.JSON}
MAX_DIGITS = 9  # of a rank


def route(facts: Callable[[], Facts], look: Look) -> http_server.Route:
    """Return the route; `look` looks at ranks of this node, None: all."""

    def kind(request: http_server.Request) -> str:
        return FORMATS.get(request.query.get("format", "text"), http_server.TEXT)

    def ask(request: http_server.Request, respond: http_server.Respond) -> Optional[http_server.Forget]:
        form = request.query.get("format", "text")
        node = facts()
        if form not in FORMATS:
            respond(400, "format=%.20s is neither text nor json" % form)
            return None
        wanted = chosen(request.query.get("rank"), node)
        if isinstance(wanted, tuple):
            respond(*wanted)
            return None
        say = to_json if form == "json" else to_text
        return look(lambda seen: respond(200, say(facts(), seen)), wanted)

    return http_server.Route(kind, ask)


def chosen(text: Optional[str], node: Facts) -> Union[range, http_server.Answer, None]:
    """Return the rank that is asked for, None for all of this node, or the answer where it has no such rank."""
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS):
        return 400, "rank=%.40s is no rank" % text
    rank, size = int(text), node.nproc_per_node
    if rank >= node.nnodes * size:
        return 404, "there is no rank %d: the job has ranks 0 to %d" % (rank, node.nnodes * size - 1)
    if rank // size != node.node_rank:
        there = rank // size
        return 404, "rank %d is on node %d, with ranks %s; this is node %d, with ranks %s" % (
            rank,
            there,
            _ranks(there, size),
            node.node_rank,
            _ranks(node.node_rank, size),
        )
    return range(rank, rank + 1)


def to_json(node: Facts, seen: Sequence[RankStack]) -> str:
    """Return the answer for programs; frames stand with the innermost first."""
    about = ("job", "namespace", "node_rank", "nnodes", "nproc_per_node", "pod", "kube_node", "state", "attempt")
    record = {**{name: getattr(node, name) for name in about}, "stacks": [stacks.to_record(one) for one in seen]}
    return json.dumps(record, sort_keys=True)


def to_text(node: Facts, seen: Sequence[RankStack]) -> str:
    """Return the answer for people, the most recent call last, as in a traceback."""
    who = "node %d of %d, pod %s" % (node.node_rank, node.nnodes, node.pod)
    if not seen:
        return "%s: no ranks run (%s)" % (who, node.state)
    found = ["%s, attempt %s: what its ranks do, the most recent call last" % (who, node.attempt)]
    for one in seen:
        found += ["", "rank %d (%s)" % (one.rank, one.heading), *stacks.lines(one)]
    return "\n".join(found)


def _ranks(node_rank: int, size: int) -> str:
    first = node_rank * size
    return str(first) if size == 1 else "%d-%d" % (first, first + size - 1)
