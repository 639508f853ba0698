"""`k8sddp logs`: what a rank printed; rank 0 unless another is asked for.

One rank's lines come as the script printed them on stdout, the worker's own remarks on stderr. `--node` and `--all`
show whole logs, each line with its `[rank N]`. With -f a job that has not started is waited for, saying why it waits,
and pods that replace lost ones are followed too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import click

from k8sddp import errors
from k8sddp.cli import jobs, rank_lines, screen, stamps, target, usage

if TYPE_CHECKING:
    from k8sddp import cluster, plan
    from k8sddp.cli import following

EXAMPLES = (
    usage.Example("follow rank 0 of a job", "logs digits -f"),
    usage.Example("what rank 5 printed", "logs digits --rank 5"),
    usage.Example("the last lines of every rank", "logs digits --all --tail 20"),
)
TIMESTAMPS_HELP = "Show before each line when it was printed, in UTC."


@click.command(cls=usage.Examples, examples=EXAMPLES)
@click.argument("name", metavar="NAME")
@click.option("--rank", type=int, metavar="N", help="The rank (default: 0).")
@click.option("--node", type=int, metavar="N", help="The whole log of a node, every line with its rank.")
@click.option("--all", "everything", is_flag=True, help="The whole logs of all nodes.")
@click.option("-f", "--follow", is_flag=True, help="Go on until the job ends.")
@click.option(
    "--tail", type=click.IntRange(min=0), metavar="N", help="Begin with the last N lines of the rank, or of each node."
)
@click.option("--since", callback=target.seconds, metavar="TIME", help="Only what is younger, as in 30s or 5m.")
@click.option("--timestamps", is_flag=True, help=TIMESTAMPS_HELP)
@target.options
def command(
    name: str,
    rank: int | None,
    node: int | None,
    everything: bool,
    follow: bool,
    tail: int | None,
    since: float | None,
    timestamps: bool,
    at: target.Target,
) -> None:
    """Show what the ranks print."""
    from k8sddp.cli import following

    if sum((rank is not None, node is not None, everything)) > 1:
        raise errors.UsageError("--rank, --node and --all exclude each other; give one")
    connection = at.connect()
    name = jobs.bare(name)
    snapshot = jobs.find(connection, name)
    job = snapshot.indexed_job(name)
    assert job is not None
    shape = jobs.shape(job)
    shown = stamps.Stamps(shown=timestamps)
    nodes, emit = _chosen(shape, shown, rank=rank, node=node, everything=everything)
    begin = following.Begin(tail, since)
    if node is None and not everything:
        begin = begin._replace(wanted=rank_lines.belongs_to(rank or 0))
    if follow:
        if len(nodes) > following.MAX_NODES:
            raise errors.UsageError(f"-f follows at most {following.MAX_NODES} nodes at once; {name} has {len(nodes)}")
        again = at.command(f"logs {name} -f")
        following.Follower(connection, name, emit=emit, tell=shown.tell, again=again, begin=begin, stamps=shown).follow(
            nodes
        )
    else:
        _print(connection, snapshot, name, nodes=nodes, emit=lambda line: emit(shown.take(line)), begin=begin)


def _chosen(
    shape: jobs.Shape, shown: stamps.Stamps, *, rank: int | None, node: int | None, everything: bool
) -> tuple[Sequence[int], Callable[[bytes], object]]:
    """Return the nodes whose logs are read, and what is done with a line."""
    if everything:
        return range(shape.nnodes), shown.line
    if node is not None:
        return [shape.check_node(node)], shown.line
    rank = rank or 0
    return [shape.check_rank(rank)], rank_lines.of_rank(rank, out=shown.line, remark=shown.note)


def _print(
    connection: cluster.Cluster,
    snapshot: plan.Snapshot,
    name: str,
    *,
    nodes: Sequence[int],
    emit: Callable[[bytes], object],
    begin: following.Begin,
) -> None:
    from k8sddp import cluster
    from k8sddp.cli import following
    from k8sddp.plan import pods

    newest = pods.newest_by_index(snapshot.pods)
    readable = [node for node in nodes if node in newest and following.is_readable(newest[node])]
    if not readable:
        raise errors.K8sddpError(_why_none(jobs.status(snapshot, name), nodes))
    for node in sorted({*nodes} - {*readable}):
        screen.note(f"node {node} has no log")
    for node in readable:
        for line in cluster.logs(connection, newest[node]["metadata"]["name"], stamps=True, **begin._asdict()):
            emit(line)


def _why_none(status: plan.JobStatus, nodes: Sequence[int]) -> str:
    which = f"node {nodes[0]} has" if len(nodes) == 1 else "its nodes have"
    if status.finished:
        failure = f": {status.first_failure}" if status.first_failure else ""
        return f"{status.name} is {status.state.lower()} and {which} no pod any more, so the log is gone{failure}"
    why = status.waiting.sentence or "its pods are just starting"
    return f"{status.name}: {which} no log yet: {why}; -f waits for it"
