"""`k8sddp validate`: say whether each job file can be applied, with every problem of every file at once.

The code folder is packed too, because a folder that cannot travel makes the job as unusable as a wrong field. No
cluster is asked.
"""

from __future__ import annotations

import click

from k8sddp import errors
from k8sddp.cli import job_file, screen, usage

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
            screen.out(f"{loaded.source} is valid: {loaded.summary()}")
        except errors.K8sddpError as error:
            screen.error(str(error))
            code = max(code, error.exit_code)
    return code
