"""`k8sddp get`: which jobs there are, how they do, why one waits and what failed first.

A row per job, as kubectl's: NAME first, AGE last, no blanks in a cell but PROGRESS. One NAME, or `-o wide`, adds a row
per node and the sentences: what runs, why it waits, how earlier attempts ended. How far a gang is and how often it has
started anew only its node 0 knows, so that is asked, of all jobs at once; where it does not answer in time the columns
say `-`. json and yaml are the Kubernetes objects themselves, not a form of ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import click

from k8sddp.cli import jobs, screen, target, usage

if TYPE_CHECKING:
    from k8sddp import cluster, manifest, plan

EXAMPLES = (
    usage.Example("all jobs of the namespace", "get"),
    usage.Example("one job with its nodes, and why it waits or failed", "get digits"),
    usage.Example("for a program", "get digits -o json"),
)
FORMS = ("wide", "json", "yaml", "name")
HEADER = ("NAME", "STATE", "READY", "RESTARTS", "PROGRESS", "AGE")


@click.command(cls=usage.Examples, examples=EXAMPLES)
@click.argument("name", required=False, metavar="[NAME]")
@click.option("-o", "--output", type=click.Choice(FORMS), help="Another form than the table.")
@target.options
def command(name: str | None, output: str | None, at: target.Target) -> None:
    """Show jobs, their nodes and first failures."""
    from k8sddp import manifest

    connection = at.connect()
    snapshots = _one(connection, jobs.bare(name)) if name else _all(connection)
    objects = [manifest_of(name, snapshot) for name, snapshot in snapshots.items()]
    if output == "json":
        screen.out(_json(objects, single=bool(name)))
    elif output == "yaml":
        screen.out(manifest.to_yaml(objects).rstrip("\n"))
    elif output == "name":
        for one in objects:
            screen.out(str(manifest.ref_of(one)))
    elif not snapshots:
        screen.note(f"no DDP jobs in namespace {connection.namespace}")
    else:
        screen.out(_text(snapshots, _told(connection, snapshots), nodes=bool(name) or output == "wide"))


def manifest_of(name: str, snapshot: plan.Snapshot) -> manifest.Manifest:
    """Return the Indexed Job of a snapshot that holds it."""
    job = snapshot.indexed_job(name)
    assert job is not None
    return job


def _one(connection: cluster.Cluster, name: str) -> Mapping[str, plan.Snapshot]:
    return {name: jobs.find(connection, name)}


def _all(connection: cluster.Cluster) -> Mapping[str, plan.Snapshot]:
    """Return every job with its pods, in two requests; events are read for single jobs only."""
    from k8sddp import cluster, constants, manifest
    from k8sddp.plan import ownership, snapshot

    pods: dict[str, list[manifest.Manifest]] = {}  # by the uid of their Job
    for pod in connection.list("v1", "Pod", label_selector=ownership.ALL).items:
        pods.setdefault(manifest.label(pod, constants.LABEL_BATCH_CONTROLLER_UID), []).append(pod)
    return {
        job["metadata"]["name"]: snapshot.of([job], pods=pods.get(job["metadata"]["uid"], ()))
        for job in sorted(cluster.jobs(connection), key=lambda job: str(job["metadata"]["name"]))
    }


def _told(connection: cluster.Cluster, snapshots: Mapping[str, plan.Snapshot]) -> Mapping[str, plan.Progress]:
    """Return what the node 0 of each job that runs says, of those that say anything."""
    from k8sddp import cluster
    from k8sddp.plan import statuses

    asker = cluster.Asker(connection)
    told = asker.ask_all(
        {
            name: snapshot.pods
            for name, snapshot in snapshots.items()
            if not statuses.is_over(manifest_of(name, snapshot), snapshot.pods)
        }
    )
    if asker.forbidden:
        screen.hint("PROGRESS needs the right to get pods/proxy, as the role edit has it")
    return told


def _text(snapshots: Mapping[str, plan.Snapshot], told: Mapping[str, plan.Progress], *, nodes: bool) -> str:
    from k8sddp.plan import statuses

    found = {name: jobs.status(snapshot, name, told=told.get(name)) for name, snapshot in snapshots.items()}
    rows = [
        (
            name,
            status.state,
            f"{status.ready}/{status.nnodes}",
            "-" if status.restarts is None else str(status.restarts),
            "-" if status.progress is None else status.progress.pace.cell,
            statuses.age(status.age),
        )
        for name, status in found.items()
    ]
    blocks = [screen.table(HEADER, rows)]
    if nodes:
        for name, status in found.items():
            blocks.append(_nodes(status, jobs.shape(manifest_of(name, snapshots[name])), titled=len(found) > 1))
    return "\n\n".join(blocks)


def _nodes(status: plan.JobStatus, shape: jobs.Shape, *, titled: bool) -> str:
    rows: list[Sequence[str]] = [
        (
            str(node.node_rank),
            shape.ranks(node.node_rank),
            node.pod or "<none>",
            node.kube_node or "<none>",
            node.state,
            node.note,
        )
        for node in status.nodes
    ]
    lines = [screen.table(("NODE", "RANKS", "POD", "KUBE-NODE", "STATE", "NOTE"), rows)]
    if titled:
        lines.insert(0, f"{status.name}:")
    account = f"; {status.attempts}" if status.attempts else ""
    if status.running:
        lines.append(f"running: {status.running}{account}")
    if status.waiting:
        lines.append(jobs.waiting(status))
    lines.extend(f"remark: {remark}" for remark in status.remarks)
    lines.extend(status.history)
    if status.first_failure:
        when = "" if status.failed_attempt is None else f" (attempt {status.failed_attempt})"
        lines.append(f"first failure{when}: {status.first_failure}{account}")
    elif account and not status.running:
        lines.append(status.attempts)
    if status.traceback:
        lines.append("\n".join("  " + line for line in status.traceback.splitlines()))
    return "\n".join(lines)


def _json(objects: Sequence[manifest.Manifest], *, single: bool) -> str:
    import json

    return json.dumps(objects[0] if single else {"apiVersion": "v1", "kind": "List", "items": objects}, indent=2)
