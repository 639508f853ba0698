"""`k8sddp run`: train, watch, and end with the job's own exit code; on the cluster, or with --local on this machine.

stdout is what the ranks print; everything about the job is on stderr: what runs where, why it waits, and at the end one
sentence with the first failure. On a cluster Ctrl-C detaches and the job runs on; on this machine it ends every rank.
"""

from __future__ import annotations

import collections
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from k8sddp import errors
from k8sddp.cli import apply, job_file, jobs, logs, rank_lines, remarks, screen, stacks, stamps, target, usage

if TYPE_CHECKING:
    from k8sddp import cluster, plan

LAST_LINES = 500  # of rank 0, kept to know whether its traceback has been seen
TRACEBACK_TAIL = 3
_RANKS_OWN = re.compile(r"\[rank\d+\]:")  # what torch writes before each line of a traceback (c10d's excepthook)
DEFAULT_WORK_DIR = ".k8sddp"  # in the current folder; never part of a code folder

WORK_DIR_HELP = (
    f"With --local: where volumes and the files that a script writes are kept (default: {DEFAULT_WORK_DIR})."
)
FAULT_EXAMPLE = 'run --local job.yaml --fault "kill rank=1 step=20"'
FAULT_HELP = (
    'With --local: break something to see what happens: "kill rank=1 step=20"; likewise stop (a hang, which Ctrl-C '
    'ends), raise, segfault, "exit rank=1 step=20 code=3" and "lose-node 1". Repeatable.'
)

EXAMPLES = (
    usage.Example("on this machine; needs torch here, but no cluster", "run --local job.yaml"),
    usage.Example("kill rank 1 after its 20th step here, and see the gang restart", FAULT_EXAMPLE),
    usage.Example("on the cluster; Ctrl-C detaches, the job runs on", "run job.yaml"),
)


@click.command(cls=usage.Examples, examples=EXAMPLES)
@job_file.argument
@click.option("--local", "here", is_flag=True, help="Run the pods as processes on this machine.")
@click.option("--work-dir", metavar="DIR", help=WORK_DIR_HELP)
@click.option("--fault", "wanted", metavar="FAULT", multiple=True, help=FAULT_HELP)
@click.option("--replace", is_flag=True, help=apply.REPLACE_HELP)
@click.option("--no-replace", is_flag=True, help="Leave lost pods to the Job and its back-off of 10 s and more.")
@click.option("--timestamps", is_flag=True, help=logs.TIMESTAMPS_HELP)
@target.options
def command(
    file: str,
    here: bool,
    work_dir: str | None,
    wanted: tuple[str, ...],
    replace: bool,
    no_replace: bool,
    timestamps: bool,
    at: target.Target,
) -> int:
    """Train, show rank 0's output, end with the job's exit code."""
    if here:
        if replace or no_replace or timestamps or at != target.Target():
            raise errors.UsageError(
                "--replace, --no-replace, --timestamps and the options that name a cluster are not for --local; "
                "leave them out"
            )
        return _on_this_machine(job_file.load(file), work_dir or DEFAULT_WORK_DIR, wanted)
    if wanted:
        raise errors.UsageError("--fault is for --local; on a cluster, `kubectl delete pod` takes a node away")
    if work_dir:
        raise errors.UsageError("--work-dir is for --local; on a cluster, volumes are in the job file")
    return _on_the_cluster(job_file.load(file), at, replace=replace, replace_pods=not no_replace, timestamps=timestamps)


def _on_this_machine(loaded: job_file.Loaded, work_dir: str, wanted: Sequence[str]) -> int:
    import os
    import sys
    from pathlib import Path

    from k8sddp import local
    from k8sddp.cli import console, local_figures
    from k8sddp.local import faults

    if sys.__stdout__ is None:
        raise errors.K8sddpError(
            "standard output is closed, and a local run ends with its reader; to train without one, add >/dev/null"
        )
    spec = loaded.job.spec
    asked = [faults.parse(text, nnodes=spec.nnodes, nproc_per_node=spec.nproc_per_node) for text in wanted]
    where = console.Console(os.environ)
    with local.Output(where.out, where.report, clear=where.clear, reader=sys.__stdout__.fileno()) as output:
        output.report(f"{loaded.summary()}, on this machine")
        for fault in asked:
            output.report(f"will inject: {fault.said()}")
        result = local.run(
            loaded.manifests(),
            work_dir=Path(work_dir),
            output=output,
            live=where.live,
            code_folder=loaded.code_folder(),
            asked=asked,
            tell=local_figures.Figures(output, where).tell,
        )
        for name, folder in sorted(result.volumes.items()):
            output.report(f"volume {name}: {folder}")
        output.report(screen.result_text(result.message, good=result.state == "complete"))
        if result.verdict and not sys.__stdout__.isatty():  # else node 0's own line stands on the same screen
            for remark in result.verdict.remarks:
                output.report(screen.warning_text(remark))
        output.finish()
    return result.exit_code


def _on_the_cluster(
    loaded: job_file.Loaded, chosen: target.Target, *, replace: bool, replace_pods: bool, timestamps: bool
) -> int:
    from k8sddp.cli import following, standing

    name = loaded.job.name
    chosen = chosen.for_job(loaded.source, loaded.job.namespace)
    screen.note(loaded.summary())
    connection = chosen.connect()
    is_new = _submit(loaded, connection, replace=replace)
    clock = stamps.Stamps(shown=timestamps, attached=None if is_new else jobs.now())
    shown = _Shown(clock, remarks.Remarks(name))
    emit = rank_lines.of_rank(0, out=shown.line, remark=shown.remark)
    again = chosen.command(f"logs {name} -f")
    try:
        with standing.Standing() as live:
            follower = following.Follower(
                connection,
                name,
                emit=emit,
                tell=clock.tell,
                again=again,
                stamps=clock,
                replace=replace_pods,
                standing=live,
            )
            with stacks.on_request(connection, name, tell=follower.remark):
                status = follower.follow([0])
    except KeyboardInterrupt:
        screen.note(f"detached; {name} runs on")
        screen.hint(f"come back with: {chosen.command(f'logs {name} -f')}")
        screen.hint(f"end it with: {chosen.command(f'delete {name}')}")
        raise
    code = _tell_end(status, chosen, shown)
    _mark(connection, status)
    return code


def _mark(connection: cluster.Cluster, status: plan.JobStatus) -> None:
    """Write the first failure on the Job, for those who have only kubectl; the run's end stands without it."""
    from k8sddp.manifest import Ref
    from k8sddp.plan import annotating

    try:
        job = connection.get(Ref("batch/v1", "Job", status.name), patient=False)
        note = annotating.first_failure(job, status) if job else None
        if note:
            connection.apply(note, field_manager=annotating.FIELD_MANAGER, force=True, observed_version="")
    except errors.ClusterError as fault:
        screen.note(f"the Job could not be marked with its first failure: {fault}")


def _submit(loaded: job_file.Loaded, connection: cluster.Cluster, *, replace: bool) -> bool:
    """Bring the job to the cluster and return whether it is new.

    What was made with it is said in its own line, what takes time at once.
    """
    lines: list[str] = []

    def report(line: str) -> None:
        if line.endswith((" created", " unchanged")):
            lines.append(line)
        else:
            screen.note(line)

    apply.submit(loaded, connection, replace=replace, report=report)
    *others, job = lines
    outcome = job.rpartition(" ")[2]
    alike = [line.partition("/")[0].partition(".")[0] for line in others if line.endswith(f" {outcome}")]
    for line in others:
        if not line.endswith(f" {outcome}"):
            screen.note(line)
    screen.note(f"{job} ({', '.join(dict.fromkeys(alike))})" if alike and outcome == "created" else job)
    return outcome == "created"


class _Shown:
    """What rank 0 has printed last: a traceback that stands on the screen is not printed again."""

    def __init__(self, clock: stamps.Stamps, said: remarks.Remarks) -> None:
        self._clock = clock
        self._said = said
        self._last: collections.deque[str] = collections.deque(maxlen=LAST_LINES)

    def remark(self, line: str) -> None:
        """Print what is new in a remark of the worker's."""
        text = self._said.take(line)
        if text:
            self._clock.note(text)

    def has_said(self, remark: str) -> bool:
        """Return whether the worker's own lines held this remark."""
        return self._said.were_said(remark)

    def line(self, line: bytes) -> None:
        """Print a line, and remember it."""
        self._clock.line(line)
        self._last.append(_RANKS_OWN.sub("", line.decode("utf-8", "replace")).strip())

    def holds(self, text: str) -> bool:
        """Return whether the last lines of a text are among those printed."""
        tail = [line.strip() for line in text.splitlines() if line.strip()][-TRACEBACK_TAIL:]
        return all(line in self._last for line in tail)


def _tell_end(status: plan.JobStatus, chosen: target.Target, shown: _Shown) -> int:
    from k8sddp.plan import statuses

    took = "" if status.duration is None else f" after {statuses.age(status.duration)}"
    if status.exit_code == 0:
        screen.result(f"{status.name} complete{took}", good=True)
        for remark in status.remarks:
            if not shown.has_said(remark):
                screen.warning(remark)
        return 0
    if status.traceback and not shown.holds(status.traceback):
        screen.note("\n".join("  " + line for line in status.traceback.splitlines()))
    account = f"; {status.attempts}" if status.attempts else ""
    screen.result(f"{status.name} failed{took}: {status.first_failure}{account}", good=False)
    screen.hint(f"more: {chosen.command(f'get {status.name}')}, {chosen.command(f'logs {status.name} --all')}")
    return status.exit_code or 1
