"""What a worker says about itself: /status as JSON. Pure.

One value in, one text out. Nothing secret is in it: whoever reaches the port may read it, so of past failures it has
class, rank, node and exit code, and no text of a rank's. Node 0 knows the whole gang, the others themselves.
docs/status-and-metrics.md lists what is told; metrics.py tells it to Prometheus.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Optional

from .gang import hanging, member, progress, stragglers, summary

PAST = ("attempt", "counted", "class", "rank", "node_rank", "exit_code")  # what is told of an attempt that ended

STATES = {  # of the member -> what is told of the node
    member.SEEKING: "joining",
    member.WAITING: "waiting",
    member.RUNNING: "training",
    member.ENDING: "restarting",
    member.LEAVING: "ending",
}


class Seen(NamedTuple):
    """One rank as this node knows it, `heard` seconds ago."""

    node_rank: int
    heard: float
    rank: progress.Rank


class Facts(NamedTuple):
    """One node at one moment."""

    job: str
    namespace: str
    node_rank: int
    nnodes: int
    nproc_per_node: int
    pod: str
    kube_node: str
    state: str  # joining | waiting | training | restarting | ending
    attempt: Optional[int]  # None before the first
    max_attempts: int
    spent: int  # attempts that count
    history: Sequence[Mapping[str, object]]  # how earlier attempts ended, the newest last (gang/memory.py)
    nodes: Mapping[int, str]  # on node 0: node rank -> what it does; else empty
    progress: Optional[summary.Summary]  # of the gang on node 0, else of this node; None while no ranks run
    stragglers: Sequence[stragglers.Straggler]  # on node 0
    hang: Optional[hanging.Finding]  # on node 0: who holds up the others, as was said last
    ranks: Sequence[Seen]  # those that are told: not all of a large gang
    rss: Optional[int]  # bytes, of the worker alone; None where that cannot be read


def to_json(facts: Facts) -> str:
    """Return the answer of /status."""
    far = facts.progress
    record = {
        **facts._asdict(),
        "history": [past(one) for one in facts.history],
        "nodes": {str(node): state for node, state in facts.nodes.items()},
        "progress": {**far._asdict(), "loss": progress.to_json(far.loss)} if far else None,
        "stragglers": [
            {**one._asdict(), "node_rank": one.rank // facts.nproc_per_node, "share": one.share}
            for one in facts.stragglers
        ],
        "hang": _hang(facts.hang) if facts.hang else None,
        "ranks": [_rank(one) for one in facts.ranks],
    }
    return json.dumps(record, sort_keys=True)


def past(entry: Mapping[str, object]) -> dict[str, object]:
    """Return what is told of an attempt that ended."""
    return {name: entry.get(name) for name in PAST}


def _hang(found: hanging.Finding) -> dict[str, object]:
    """Return what is told of a hang: no place in the code, which the log has and /stacks shows."""
    return {"ranks": found.ranks, "works": found.works, "waited": found.waited}


def _rank(seen: Seen) -> dict[str, object]:
    """Return a rank as JSON can say it, which has no word for a loss that is no number."""
    one = seen.rank
    return {
        **one._asdict(),
        "node_rank": seen.node_rank,
        "heard": seen.heard,
        "loss": progress.to_json(one.loss),
        "metrics": {name: progress.to_json(value) for name, value in one.metrics},
        "mean_step": one.mean_step,
        "phase": one.phase,
    }
