"""`k8sddp validate`: say whether each job file can be applied, with every problem of every file at once.

The code folder is packed too, because a folder that cannot travel makes the job as unusable as a wrong field. No
cluster is asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from k8sddp import errors, topology
from k8sddp.cli import job_file, screen, usage

if TYPE_CHECKING:
    from k8sddp.spec import DDPJob

EXAMPLES = (
    usage.Example("check one file, or several", "validate job.yaml other.yaml"),
    usage.Example("check what a generator prints", "validate -"),
)


@click.command(cls=usage.Examples, examples=EXAMPLES)
@click.argument("files", nargs=-1, metavar="FILE...")
@click.option(
    "-f", "--filename", "more", multiple=True, metavar="FILE", help="The same, as for kubectl; - reads stdin."
)
def command(files: tuple[str, ...], more: tuple[str, ...]) -> int:
    """Check job files without a cluster."""
    if not (*files, *more):
        raise click.UsageError("FILE is missing; - reads stdin", click.get_current_context())
    code = 0
    for file in (*files, *more):
        try:
            loaded = job_file.load(file)
            loaded.manifests()
            screen.out(f"{loaded.source} is valid: {summary(loaded.job)}")
        except errors.K8sddpError as error:
            screen.error(str(error))
            code = max(code, error.exit_code)
    return code


def summary(job: DDPJob) -> str:
    """Return the job in one line: `digits, 2 nodes x 1 process = 2 ranks, gloo`."""
    nodes, processes = job.spec.nnodes, job.spec.nproc_per_node
    ranks = topology.world_size(nodes, processes)
    shape = f"{_count(nodes, 'node')} x {_count(processes, 'process')} = {_count(ranks, 'rank')}"
    return f"{job.name}, {shape}, {job.spec.backend}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "es" if noun.endswith("s") else "s")
