"""`k8sddp stacks`: what every rank of a job does at this moment, in the words of Python.

Every worker is asked at once, through the API server, and looks at its own ranks; nothing is done to them but a signal
that they answer. Ranks that do the same are shown once, the odd ones out first. What could not be asked is named on
stderr; the command fails only where nobody could be.
"""

from __future__ import annotations

import contextlib
import json
import queue
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from k8sddp import errors
from k8sddp.cli import jobs, screen, target, usage
from k8sddp.worker.contract import stacks
from k8sddp.worker.contract.stacks import RankStack

if TYPE_CHECKING:
    from k8sddp import cluster, plan
    from k8sddp.manifest import Manifest

EXAMPLES = (
    usage.Example("what all ranks do, the odd ones out first", "stacks digits"),
    usage.Example("one rank", "stacks digits --rank 5"),
    usage.Example("for a program", "stacks digits -o json"),
)
MAX_WHY = 5  # nodes whose reason is told one by one


class Told(NamedTuple):
    """What the workers of a job said."""

    seen: tuple[RankStack, ...]
    silent: Mapping[int, str]  # node -> why it could not be asked


@click.command(cls=usage.Examples, examples=EXAMPLES)
@click.argument("name", metavar="NAME")
@click.option("--rank", type=int, metavar="N", help="Only this rank.")
@click.option("-o", "--output", type=click.Choice(("json",)), help="Another form than the text.")
@target.options
def command(name: str, rank: int | None, output: str | None, at: target.Target) -> None:
    """Show where every rank is in its Python code."""
    connection = at.connect()
    name = jobs.bare(name)
    job, told = _seen(connection, name, rank=rank)
    if output == "json":
        screen.out(json.dumps(_record(name, told), indent=2))
    else:
        screen.out(_text(connection, job, told))
    for line in _missing(told.silent, jobs.shape(job)):
        screen.note(line)


@contextlib.contextmanager
def on_request(connection: cluster.Cluster, name: str, *, tell: Callable[[str], None]) -> Iterator[None]:
    """While the block runs, tell what every rank does whenever SIGQUIT (Ctrl-\\) comes; another thread tells it.

    A caller that ignores the signal, or is not in the main thread, goes without.
    """
    before = signal.getsignal(signal.SIGQUIT)
    if before is signal.SIG_IGN or threading.current_thread() is not threading.main_thread():
        yield
        return
    wishes: queue.SimpleQueue[bool] = queue.SimpleQueue()

    def work() -> None:
        while wishes.get():
            try:
                for paragraph in _paragraphs(connection, name):
                    tell(paragraph)
            except errors.K8sddpError as fault:
                tell(str(fault))

    threading.Thread(target=work, daemon=True).start()
    signal.signal(signal.SIGQUIT, lambda *_: wishes.put(True))
    try:
        yield
    finally:
        signal.signal(signal.SIGQUIT, before if before is not None else signal.SIG_DFL)
        wishes.put(False)


def _paragraphs(connection: cluster.Cluster, name: str) -> list[str]:
    """Return what every rank does, and who is missing."""
    job, told = _seen(connection, name, rank=None)
    return [*_text(connection, job, told).split("\n\n"), *_missing(told.silent, jobs.shape(job))]


def _seen(connection: cluster.Cluster, name: str, *, rank: int | None) -> tuple[Manifest, Told]:
    """Return the job, and what its ranks do (or this one); raises K8sddpError where nothing is seen of any."""
    snapshot = jobs.find(connection, name)
    job = snapshot.indexed_job(name)
    assert job is not None
    shape = jobs.shape(job)
    nodes = range(shape.nnodes) if rank is None else [shape.check_rank(rank)]
    told = _asked(connection, snapshot, nodes, rank=rank)
    if not told.seen:
        raise _none(told, jobs.status(snapshot, name))
    return job, told


def _text(connection: cluster.Cluster, job: Manifest, told: Told) -> str:
    from k8sddp.cli import code_lines, stack_text

    return stack_text.text(told.seen, source=code_lines.of_job(connection, job))


def _asked(connection: cluster.Cluster, snapshot: plan.Snapshot, nodes: Sequence[int], *, rank: int | None) -> Told:
    """Ask the newest pod of each of these nodes."""
    from k8sddp import cluster
    from k8sddp.plan import pods

    newest = pods.newest_by_index(snapshot.pods)
    query = [("format", "json"), *([] if rank is None else [("rank", str(rank))])]
    answers = cluster.get_from_pods(
        connection, {node: newest[node] for node in nodes if node in newest}, "/stacks", query=query
    )
    silent = {node: "it has no pod" for node in nodes if node not in newest}
    seen: list[RankStack] = []
    for node, answer in answers.items():
        found = str(answer) if isinstance(answer, errors.ClusterError) else _read(answer)
        if isinstance(found, str):
            silent[node] = found
        else:
            seen += found
    return Told(tuple(sorted(seen)), dict(sorted(silent.items())))


def _read(answer: bytes) -> list[RankStack] | str:
    """Return the stacks of an answer, or why there are none."""
    try:
        record: Any = json.loads(answer)
        records = record["stacks"]
        found = [stacks.from_record(one) for one in records if isinstance(one, Mapping)]
    except (ValueError, TypeError, KeyError, RecursionError):
        return "its answer is not that of a k8sddp worker"
    return [one for one in found if one] or f"no ranks run there ({record.get('state')})"


def _record(name: str, told: Told) -> Mapping[str, object]:
    return {
        "job": name,
        "stacks": [stacks.to_record(one) for one in told.seen],
        "silent": [{"node_rank": node, "why": why} for node, why in told.silent.items()],
    }


def _none(told: Told, status: plan.JobStatus) -> errors.K8sddpError:
    """Return the error for a job of which nothing can be seen."""
    if status.finished:
        return errors.K8sddpError(f"{status.name} is {status.state.lower()}: none of its ranks runs any more")
    why = status.waiting.sentence or next(iter(told.silent.values()), "it has no pods yet")
    return errors.K8sddpError(f"no rank of {status.name} can be seen: {why}")


def _missing(silent: Mapping[int, str], shape: jobs.Shape) -> list[str]:
    """Return which nodes could not be asked, and why."""
    lines = [f"node {node} (ranks {shape.ranks(node)}) is missing: {silent[node]}" for node in list(silent)[:MAX_WHY]]
    return lines + ([f"{len(silent) - MAX_WHY} more nodes are missing"] if len(silent) > MAX_WHY else [])
