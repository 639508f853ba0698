"""`k8sddp apply`: create a job on the cluster, or say that it is unchanged, or why it may not be changed.

The first line, before anything is sent, says where: context, namespace, mode. One line per object follows on stdout, as
kubectl prints it; the API server's warnings and the next command go to stderr. What to do is decided by `plan.diff`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from k8sddp import errors
from k8sddp.cli import job_file, screen, target, usage

if TYPE_CHECKING:
    from k8sddp import cluster, manifest, plan

EXAMPLES = (
    usage.Example("create the job", "apply job.yaml"),
    usage.Example("delete the job of this name and start anew", "apply job.yaml --replace"),
    usage.Example("have the API server check everything, create nothing", "apply job.yaml --dry-run"),
)
REPLACE_HELP = "Delete the job of this name first, running or finished."


@click.command(cls=usage.Examples, examples=EXAMPLES)
@job_file.argument
@click.option("--replace", is_flag=True, help=REPLACE_HELP)
@click.option("--mode", type=click.Choice(("direct", "operator")), default="direct", help="Who creates the objects.")
@click.option("--dry-run", is_flag=True, help="Only say what would happen.")
@target.options
def command(file: str, replace: bool, mode: str, dry_run: bool, at: target.Target) -> None:
    """Create a job on the cluster."""
    if mode == "operator":
        raise errors.UsageError("--mode operator is not supported yet; leave it out, or say --mode direct")
    loaded = job_file.load(file)
    chosen = at.for_job(loaded.source, loaded.job.namespace)
    submit(loaded, chosen.connect(), replace=replace, dry_run=dry_run)
    if not dry_run:
        screen.hint(f"follow it with: {chosen.command(f'logs {loaded.job.name} -f')}")


def submit(
    loaded: job_file.Loaded,
    connection: cluster.Cluster,
    *,
    replace: bool,
    dry_run: bool = False,
    only_preflight: bool = False,
    report: Callable[[str], None] = screen.out,
) -> None:
    """Bring the job to the cluster; `report` gets a line for each object.

    Raises RefusedError where it would change or lose something, and ClusterError for what the API server refuses.
    """
    from k8sddp import cluster, plan

    manifests = loaded.manifests(only_preflight=only_preflight)
    screen.note(f"{target.where(connection)}, mode direct{' (dry run)' if dry_run else ''}")
    connection.server_version()
    snapshot = cluster.observe(connection, manifests)
    steps = plan.diff(manifests, snapshot, replace=replace)
    try:
        if dry_run:
            _pretend(steps, connection, snapshot)
        else:
            cluster.execute(steps, connection, report=report)
            _tell_queue(connection, loaded.job.name)
    except KeyboardInterrupt:
        program = screen.program()
        screen.note(
            f"interrupted: run `{program} apply FILE` again to finish, or `{program} delete {loaded.job.name}` "
            "to remove it"
        )
        raise
    finally:
        for text in connection.warnings:
            screen.warning(text)


def _tell_queue(connection: cluster.Cluster, name: str) -> None:
    """Say where the job waits for Kueue: the pods come when that starts it, and not before."""
    from k8sddp import constants, manifest
    from k8sddp.plan import snapshot

    job = connection.get(snapshot.job_ref(name))
    queue = "" if job is None else manifest.label(job, constants.LABEL_KUEUE_QUEUE)
    if job is not None and queue and job["spec"].get("suspend"):
        screen.note(f"queued in {queue}: Kueue starts it")


def _pretend(steps: plan.Plan, connection: cluster.Cluster, snapshot: plan.Snapshot) -> None:
    """Print what the plan would do; what can be sent as a dry run is, so that the API server checks it."""
    from k8sddp import manifest
    from k8sddp.cluster import execution
    from k8sddp.plan import actions

    if steps.refusal:
        raise errors.RefusedError(steps.refusal)
    replaces = any(isinstance(step, actions.DeleteJob | actions.DeleteChild) for step in steps.actions)
    for step in steps.actions:
        match step:
            case actions.DeleteJob() | actions.DeleteChild():
                screen.out(f"{step.ref} deleted (dry run)")
            case actions.Unchanged():
                screen.out(f"{step.ref} unchanged (dry run)")
            case actions.ApplyChild() | actions.StartJob() | actions.LeaveToQueue():
                ref = manifest.ref_of(step.manifest)
                owned = isinstance(step, actions.ApplyChild) and steps.owner_uid
                sent = execution.owned(step.manifest, steps.job, steps.owner_uid) if owned else step.manifest
                # Beside an object that is still there, the API server would answer for that one.
                stored = None if replaces else connection.apply(sent, dry_run=True, observed_version="")
                existing = snapshot.get(ref)
                created = replaces or existing is None or not isinstance(step, actions.ApplyChild)
                same = stored is not None and existing is not None and _content(stored.manifest) == _content(existing)
                screen.out(f"{ref} {'created' if created else 'unchanged' if same else 'configured'} (dry run)")


def _content(one: manifest.Manifest) -> object:
    """Return what a change would change: everything but what the API server notes about the writing."""
    noted = ("managedFields", "resourceVersion", "generation")
    return {**one, "metadata": {key: value for key, value in one["metadata"].items() if key not in noted}}
