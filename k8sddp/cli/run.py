"""`k8sddp run`: train, watch, and end with the job's own exit code; on the cluster, or with --local on this machine.

stdout is what the ranks print; everything about the job is on stderr: what runs where, why it waits, and at the end one
sentence with the first failure. On a cluster Ctrl-C detaches and the job runs on; on this machine it ends every rank.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from k8sddp import errors
from k8sddp.cli import job_file, screen, target, usage

if TYPE_CHECKING:
    from k8sddp import local

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
    started = time.monotonic()
    result = local.run(loaded.manifests(), work_dir=Path(work_dir), out=screen.raw)
    _tell_end(loaded.job.name, result, seconds=time.monotonic() - started)
    return result.exit_code


def _tell_end(name: str, result: local.Result, *, seconds: float) -> None:
    failure = (result.verdict or {}).get("first_failure") or {}
    if result.exit_code == 0:
        screen.note(screen.painted(f"{name} is complete after {seconds:.0f} s", "green"))
    else:
        cause = failure.get("message") or f"exit code {result.exit_code}"
        screen.note(screen.painted(f"{name} failed after {seconds:.0f} s: {cause}", "red"))
    for volume, folder in sorted(result.volumes.items()):
        screen.note(f"volume {volume}: {folder}")
