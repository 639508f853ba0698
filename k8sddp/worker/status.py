"""What a worker says about itself: /status as JSON, /metrics in Prometheus' text format. Pure.

One value in, one text out. Nothing secret is in it: whoever reaches the port may read it, so of past failures it has
class, rank, node and exit code, and no text of a rank's. Node 0 knows the whole gang, the others themselves. Names of
metrics begin with k8sddp_; docs/status-and-metrics.md lists them. The label is job_name, because `job` is Prometheus'
own name for what it scrapes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Optional

from .gang import member
from .ranks import rank_page

PAST = ("attempt", "counted", "class", "rank", "node_rank", "exit_code")  # what is told of an attempt that ended

STATES = {  # of the member -> what is told of the node
    member.SEEKING: "joining",
    member.WAITING: "waiting",
    member.RUNNING: "training",
    member.ENDING: "restarting",
    member.LEAVING: "ending",
}


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
    ranks: Sequence[rank_page.Progress]
    rss: Optional[int]  # bytes, of the worker alone; None where that cannot be read


def to_json(facts: Facts) -> str:
    """Return the answer of /status."""
    record = {
        **facts._asdict(),
        "history": [_past(one) for one in facts.history],
        "nodes": {str(node): state for node, state in facts.nodes.items()},
        "ranks": [{**one._asdict(), "mean_step": one.mean_step, "phase": one.phase} for one in facts.ranks],
    }
    return json.dumps(record, sort_keys=True)


def to_metrics(facts: Facts) -> str:
    """Return the answer of /metrics, format version 0.0.4; what nobody has counted is left out."""
    lines: list[str] = []
    job = {"job_name": facts.job, "namespace": facts.namespace}
    node = {**job, "node_rank": str(facts.node_rank)}

    def metric(name: str, kind: str, text: str, samples: Sequence[tuple[Mapping[str, str], Optional[float]]]) -> None:
        known = [(labels, value) for labels, value in samples if value is not None]
        if known:
            lines.append("# HELP k8sddp_%s %s" % (name, text))
            lines.append("# TYPE k8sddp_%s %s" % (name, kind))
            lines.extend("k8sddp_%s{%s} %r" % (name, _labels(labels), value) for labels, value in known)

    metric("attempt", "gauge", "Number of the attempt, from 0.", [(node, facts.attempt)])
    metric("attempts_spent", "gauge", "Attempts that count against restart.maxAttempts.", [(node, facts.spent)])
    metric("attempts_limit", "gauge", "restart.maxAttempts.", [(node, facts.max_attempts)])
    training = int(facts.state == "training")
    metric("training", "gauge", "1 while the ranks of this node run.", [(node, training)])
    states = [({**job, "node_rank": str(rank), "state": state}, 1) for rank, state in facts.nodes.items()]
    metric("node_state", "gauge", "What each node does, as node 0 sees it.", states)
    metric("worker_resident_memory_bytes", "gauge", "Memory of the worker, without its ranks.", [(node, facts.rss)])
    past = [({**job, **{name: _text(value) for name, value in _past(one).items()}}, 1) for one in facts.history]
    metric("past_attempt", "gauge", "1 for each of the last attempts: how it ended.", past)
    ranks = [({**job, "rank": str(one.rank)}, one) for one in facts.ranks]
    metric("steps_total", "counter", "Optimizer steps in this attempt.", [(at, one.step) for at, one in ranks])
    seconds = [(at, one.step_time) for at, one in ranks]
    metric("step_seconds_total", "counter", "Time of the steps in this attempt, from the second on.", seconds)
    metric("step_age_seconds", "gauge", "Time since the last step, or the start.", [(at, one.age) for at, one in ranks])
    return "\n".join(lines)


def _past(entry: Mapping[str, object]) -> dict[str, object]:
    return {name: entry.get(name) for name in PAST}


def _text(value: object) -> str:
    """Return a label's value: empty where nothing is known."""
    return "" if value is None else str(value).lower()


def _labels(labels: Mapping[str, str]) -> str:
    return ",".join('%s="%s"' % (name, _escaped(value)) for name, value in sorted(labels.items()))


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
