"""`k8sddp preflight`: start the job's pods for their checks alone, tell each node's findings, leave nothing behind.

The pods are those of the job (image, resources, volumes, scheduling, environment), under the name NAME-preflight; their
workers stop after the checks. One line per node on stdout as it comes, everything else on stderr. Exit code 0, 77 with
a problem, 4 where the pods did not come in time. Whatever ends the command, what it made is deleted; should it be
killed, the Job ends and removes itself.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import click

from k8sddp import constants, errors
from k8sddp.cli import apply, delete, job_file, screen, target, usage
from k8sddp.worker.contract import exit_codes, finding

if TYPE_CHECKING:
    from pathlib import Path
    from types import FrameType

    from k8sddp import cluster, plan
    from k8sddp.manifest import Manifest
    from k8sddp.spec import DDPJob

SUFFIX: Final = "-preflight"
LIMIT: Final = 600.0  # seconds for images to be pulled and nodes to come
SPARE: Final = 60  # seconds that the Job gets beyond, before it ends itself
KEPT: Final = 60  # seconds after which a finished Job that nobody deleted goes
GONE: Final = 90.0  # seconds for the pods to go
LONGEST_SUFFIX: Final = len("-worker")  # of the generated names; those of hosts end with a number

EXAMPLES = (
    usage.Example("on the cluster: same image, resources and volumes, a few seconds of each", "preflight job.yaml"),
    usage.Example("on this machine", "preflight --local job.yaml"),
)


@click.command(cls=usage.Examples, examples=EXAMPLES)
@job_file.argument
@click.option("--local", "here", is_flag=True, help="Check this machine instead of a cluster.")
@click.option(
    "--timeout", callback=target.seconds, metavar="TIME", help="Longest wait for all nodes, as in 5m (default: 10m)."
)
@target.options
def command(file: str, here: bool, timeout: float | None, at: target.Target) -> int:
    """Check every node that the job would run on; train nothing."""
    loaded = job_file.load(file)
    limit = timeout or LIMIT
    loaded = loaded._replace(job=checked_only(loaded.job, limit=limit))
    if here:
        if at != target.Target():
            raise errors.UsageError("the options that name a cluster are not for --local; leave them out")
        return _on_this_machine(loaded)
    return _on_the_cluster(loaded, at, limit=limit)


def checked_only(job: DDPJob, *, limit: float) -> DDPJob:
    """Return the job under a name of its own, with an end of its own."""
    most = constants.MAX_NAME - len(SUFFIX) - max(LONGEST_SUFFIX, len(f"-{job.spec.nnodes - 1}"))
    name = job.name[:most].rstrip("-") + SUFFIX
    ends = min(job.spec.active_deadline_seconds or 2**31 - 1, int(limit) + SPARE)
    spec = job.spec.model_copy(update={"active_deadline_seconds": ends, "ttl_seconds_after_finished": KEPT})
    metadata = job.metadata.model_copy(update={"name": name})
    return job.model_copy(update={"metadata": metadata, "spec": spec})


class Lines:
    """The nodes' lines, each shown once: a node says it in its own log, and node 0 in its."""

    def __init__(self) -> None:
        self._shown: set[str] = set()
        self._levels: dict[int, set[str]] = {}
        self.warnings = 0

    def take(self, line: bytes) -> bool:
        """Show what the line says of a node; return whether it was shown."""
        text = line.decode("utf-8", "replace").rstrip("\n").removeprefix("[k8sddp] ")
        node, level = finding.of_line(text)
        searching = node < 0 and " looks for node 0, " in text
        if text in self._shown or not (node >= 0 or searching):
            return False
        self._shown.add(text)
        if searching:
            screen.note(text)
            return True
        self._levels.setdefault(node, set()).add(level)
        self.warnings += level == finding.WARNING
        screen.out(text.removeprefix("preflight of "))
        return True

    def result(self, nnodes: int) -> str:
        """Return how it went for all nodes."""
        bad = sum(finding.PROBLEM in levels for levels in self._levels.values())
        nodes = f"{nnodes} node{'' if nnodes == 1 else 's'}"
        warned = f", {self.warnings} warning{'' if self.warnings == 1 else 's'}" if self.warnings else ""
        return f"{bad} of {nodes} with problems{warned}" if bad else f"{nodes} checked{warned}"


def _on_this_machine(loaded: job_file.Loaded) -> int:
    import sys
    from pathlib import Path

    from k8sddp import local
    from k8sddp.cli import run

    if sys.__stdout__ is None:
        raise errors.K8sddpError("standard output is closed, and nobody would see what is found; add >/dev/null")
    lines = Lines()
    folder = Path(run.DEFAULT_WORK_DIR)

    def out(data: bytes) -> None:
        for line in data.splitlines():
            lines.take(line)

    with (
        _removed(folder, folder / loaded.job.name),
        local.Output(out, screen.note, reader=sys.__stdout__.fileno()) as output,
    ):
        output.report(f"{loaded.summary()}, on this machine")
        manifests = loaded.manifests(only_preflight=True)
        result = local.run(manifests, work_dir=folder, output=output, code_folder=loaded.code_folder())
        output.finish()
    good = result.exit_code == exit_codes.COMPLETE
    known = good or result.exit_code == exit_codes.PREFLIGHT
    screen.result(lines.result(loaded.job.spec.nnodes) if known else result.message, good=good)
    if known and not good:
        screen.note(result.message)
    return result.exit_code


@contextlib.contextmanager
def _removed(folder: Path, own: Path) -> Iterator[None]:
    """Remove `own` at the end, and `folder` around it where nothing else is in it."""
    import shutil

    try:
        yield
    finally:
        shutil.rmtree(own, ignore_errors=True)
        with contextlib.suppress(OSError):  # it holds other jobs' files, or is not there
            folder.rmdir()


def _on_the_cluster(loaded: job_file.Loaded, chosen: target.Target, *, limit: float) -> int:
    from k8sddp.cli import following

    chosen = chosen.for_job(loaded.source, loaded.job.namespace)
    screen.note(loaded.summary())
    connection = chosen.connect()
    name, nnodes = loaded.job.name, loaded.job.spec.nnodes
    replaces = _may_replace(connection, name)
    lines = Lines()
    again = chosen.command(f"delete {name}")
    with _interruptible(), _deleted(connection, name, again=again):
        apply.submit(loaded, connection, replace=replaces, report=lambda _line: None, only_preflight=True)
        follower = following.Follower(
            connection, name, emit=lines.take, tell=screen.note, again=chosen.command(f"logs {name} -f")
        )
        status = follower.follow(range(min(nnodes, following.MAX_NODES)), limit=limit)
        return _tell_end(status, lines, nnodes)


def _tell_end(status: plan.JobStatus, lines: Lines, nnodes: int) -> int:
    if status.exit_code == exit_codes.COMPLETE:
        screen.result(lines.result(nnodes), good=True)
        return exit_codes.COMPLETE
    if status.exit_code == exit_codes.PREFLIGHT:
        screen.result(lines.result(nnodes), good=False)
    screen.note(f"{status.name} failed: {status.first_failure}")
    return status.exit_code or 1


def _may_replace(connection: cluster.Cluster, name: str) -> bool:
    """Return whether a Job of that name is left from an earlier preflight; raises RefusedError for any other one."""
    from k8sddp.plan import snapshot, statuses

    job = connection.get(snapshot.job_ref(name))
    if job is None:
        return False
    if not _is_preflight(job):
        raise errors.RefusedError(f"job {name} exists and is no preflight: rename it, or the job in the file")
    if not statuses.is_over(job, ()):
        raise errors.RefusedError(
            f"a preflight of this job is running ({name}); wait for it, or `k8sddp delete {name}` ends it"
        )
    return True


def _is_preflight(job: Manifest) -> bool:
    from k8sddp.worker.contract import node_env

    containers = job["spec"]["template"]["spec"]["containers"]
    names = {one["name"] for container in containers for one in container.get("env") or ()}
    return node_env.ONLY_PREFLIGHT in names


@contextlib.contextmanager
def _deleted(connection: cluster.Cluster, name: str, *, again: str) -> Iterator[None]:
    """Delete the job at the end, whatever the end is, and wait until its pods are gone."""
    from k8sddp import cluster

    try:
        yield
    finally:
        try:
            with contextlib.suppress(errors.NotFoundError):
                cluster.delete(connection, name, report=lambda _line: None)
            delete.wait_until_gone(connection, [name], limit=GONE)
        except (errors.K8sddpError, KeyboardInterrupt) as fault:
            screen.warning(f"{name} may not be gone ({fault or 'interrupted'}); `{again}` deletes it")


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the command as Ctrl-C does, so that what was made is deleted."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
