"""`k8sddp run`: train, watch, and end with the job's own exit code; on the cluster, or with --local on this machine.

stdout is what the ranks print; everything about the job is on stderr: what runs where, why it waits, and at the end one
sentence with the first failure. On a cluster Ctrl-C detaches and the job runs on; on this machine it ends every rank.
"""

from __future__ import annotations

import click

from k8sddp import errors
from k8sddp.cli import job_file, screen, target, usage

DEFAULT_WORK_DIR = ".k8sddp"  # never part of a code folder, and in .gitignore by habit

EXAMPLES = (
    usage.Example("on this machine; needs torch here, but no cluster", "run --local job.yaml"),
    usage.Example("on the cluster; Ctrl-C detaches, the job runs on", "run job.yaml"),
)


@click.command(cls=usage.Examples, examples=EXAMPLES)
@job_file.argument
@click.option("--local", "here", is_flag=True, help="Run the pods as processes on this machine.")
@click.option("--work-dir", metavar="DIR", help=f"With --local: where volumes are kept (default: {DEFAULT_WORK_DIR}).")
@click.option("--replace", is_flag=True, help="Delete the job of this name first, running or finished.")
@target.options
def command(file: str, here: bool, work_dir: str | None, replace: bool, target: target.Target) -> int:
    """Train, show rank 0's output, end with the job's exit code."""
    if here:
        return _on_this_machine(job_file.load(file), work_dir or DEFAULT_WORK_DIR)
    raise errors.UsageError("run: only --local is there yet")


def _on_this_machine(loaded: job_file.Loaded, work_dir: str) -> int:
    from pathlib import Path

    from k8sddp import local

    screen.note(f"{loaded.summary()}, on this machine")
    result = local.run(loaded.manifests(), work_dir=Path(work_dir), out=screen.raw, report=screen.note)
    for name, folder in sorted(result.volumes.items()):
        screen.note(f"volume {name}: {folder}")
    screen.result(result.message, good=result.state == "complete")
    return result.exit_code
