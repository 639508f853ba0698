"""What a worker says to Prometheus: /metrics, in the text format 0.0.4. Pure.

One value in, one text out. A rank's own series are told by the pod that it runs in: who scrapes all pods of a job gets
each once, and no answer is longer than a pod's ranks. Of the whole gang node 0 tells the few figures of
gang/summary.py. Names begin with k8sddp_; docs/status-and-metrics.md lists them. The label is job_name, because `job`
is Prometheus' own name for what it scrapes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Optional

from . import status

Labels = Mapping[str, str]
Samples = Iterable[tuple[Labels, Optional[float]]]


class Text:
    """The answer as it grows; what nobody has counted is left out."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def add(self, name: str, kind: str, text: str, samples: Samples) -> None:
        """Add one metric with its samples."""
        known = [(labels, value) for labels, value in samples if value is not None]
        if known:
            self.lines.append("# HELP k8sddp_%s %s" % (name, text))
            self.lines.append("# TYPE k8sddp_%s %s" % (name, kind))
            self.lines.extend("k8sddp_%s{%s} %s" % (name, _labels(labels), _number(value)) for labels, value in known)


def to_text(facts: status.Facts) -> str:
    """Return the answer of /metrics."""
    text = Text()
    job = {"job_name": facts.job, "namespace": facts.namespace}
    _node(text, job, facts)
    _ranks(text, job, facts)
    if facts.nodes:
        _gang(text, job, facts)
    return "\n".join(text.lines)


def _node(text: Text, job: Labels, facts: status.Facts) -> None:
    node = {**job, "node_rank": str(facts.node_rank)}
    text.add("attempt", "gauge", "Number of the attempt, from 0.", [(node, facts.attempt)])
    text.add("attempts_spent", "gauge", "Attempts that count against restart.maxAttempts.", [(node, facts.spent)])
    text.add("attempts_limit", "gauge", "restart.maxAttempts.", [(node, facts.max_attempts)])
    training = int(facts.state == "training")
    text.add("training", "gauge", "1 while the ranks of this node run.", [(node, training)])
    states = [({**job, "node_rank": str(rank), "state": state}, 1) for rank, state in facts.nodes.items()]
    text.add("node_state", "gauge", "What each node does, as node 0 sees it.", states)
    text.add("worker_resident_memory_bytes", "gauge", "Memory of the worker, without its ranks.", [(node, facts.rss)])
    past = [({**job, **{name: _word(value) for name, value in status.past(one).items()}}, 1) for one in facts.history]
    text.add("past_attempt", "gauge", "1 for each of the last attempts: how it ended.", past)


def _ranks(text: Text, job: Labels, facts: status.Facts) -> None:
    told = [({**job, "rank": str(one.rank.rank)}, one.rank) for one in facts.ranks]
    text.add("steps_total", "counter", "Optimizer steps in this attempt.", [(at, one.step) for at, one in told])
    seconds = [(at, one.step_time) for at, one in told]
    text.add("step_seconds_total", "counter", "Time of the steps in this attempt, from the second on.", seconds)
    own = [(at, one.own_time if one.own_steps else None) for at, one in told]
    text.add("own_seconds_total", "counter", "Time of the steps that a rank did not wait in, from the second on.", own)
    counts = [(at, one.own_steps or None) for at, one in told]
    text.add("own_steps_total", "counter", "Steps in k8sddp_own_seconds_total.", counts)
    waits = [(at, one.waiting) for at, one in told]
    text.add("waiting_seconds", "gauge", "Time since the rank entered backward or a collective.", waits)
    ages = [(at, one.age) for at, one in told]
    text.add("step_age_seconds", "gauge", "Time since the last step, or the start.", ages)


def _gang(text: Text, job: Labels, facts: status.Facts) -> None:
    far = facts.progress
    if far is None:
        return
    text.add("gang_steps", "gauge", "The least of all ranks' optimizer steps in this attempt.", [(job, far.step)])
    text.add("gang_steps_max", "gauge", "The most of them.", [(job, far.steps_max)])
    text.add("gang_steps_per_second", "gauge", "Over the last 10 s, or two steps.", [(job, far.rate)])
    text.add("gang_reported_step", "gauge", "The least step that the script has reported.", [(job, far.reported_step)])
    text.add("gang_total_steps", "gauge", "How many it has reported there will be.", [(job, far.total_steps)])
    text.add("gang_eta_seconds", "gauge", "Time until they are made, by the pace of the reports.", [(job, far.eta)])
    text.add("gang_loss", "gauge", "The loss that the first rank has reported.", [(job, far.loss)])
    hangs = [({**job, "rank": str(rank)}, facts.hang.waited) for rank in facts.hang.ranks] if facts.hang else []
    text.add("hang_waited_seconds", "gauge", "For how long the others had waited for it when it was said.", hangs)
    slow = [
        ({**job, "rank": str(one.rank), "node_rank": str(one.rank // facts.nproc_per_node)}, one)
        for one in facts.stragglers
    ]
    text.add(
        "straggler_share",
        "gauge",
        "Share of each step that this rank costs the gang.",
        [(at, one.share) for at, one in slow],
    )


def _number(value: float) -> str:
    """Return a number as the format has it."""
    if math.isfinite(value):
        return repr(value)
    return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"


def _word(value: object) -> str:
    """Return a label's value: empty where nothing is known."""
    return "" if value is None else str(value).lower()


def _labels(labels: Labels) -> str:
    return ",".join('%s="%s"' % (name, _escaped(value)) for name, value in sorted(labels.items()))


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
