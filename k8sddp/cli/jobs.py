"""Jobs by name: find one, or say which names there are; refuse those that are not ours; their ranks and nodes.

Shared by the commands that take NAME. A name may be written as kubectl prints it, `job.batch/digits`.
"""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, NamedTuple

from k8sddp import constants, errors, manifest, topology
from k8sddp.worker.contract import node_env

if TYPE_CHECKING:
    from k8sddp import cluster, plan

MAX_NAMES = 5  # in a message


class Shape(NamedTuple):
    """How many nodes and ranks a job has."""

    name: str
    nnodes: int
    nproc_per_node: int

    def check_rank(self, rank: int) -> int:
        """Return the node of `rank`; raises UsageError with the range where there is no such rank."""
        last = topology.world_size(self.nnodes, self.nproc_per_node) - 1
        if not 0 <= rank <= last:
            raise errors.UsageError(f"--rank {rank}: {self.name} has {_range('rank', last)}")
        return topology.node_rank(rank, self.nproc_per_node)

    def check_node(self, node: int) -> int:
        """Return `node`; raises UsageError with the range where there is no such node."""
        if not 0 <= node < self.nnodes:
            raise errors.UsageError(f"--node {node}: {self.name} has {_range('node', self.nnodes - 1)}")
        return node

    def ranks(self, node: int) -> str:
        """Return the ranks of a node: `0` or `8-15`."""
        ranks = topology.ranks_of_node(node, self.nproc_per_node)
        return str(ranks[0]) if len(ranks) == 1 else f"{ranks[0]}-{ranks[-1]}"


def bare(name: str) -> str:
    """Return the name alone, without the `job.batch/` that kubectl prints before it."""
    return name.rpartition("/")[2]


def find(connection: cluster.Cluster, name: str) -> plan.Snapshot:
    """Return the job with its pods and events; raises NotFoundError with the names that there are."""
    from k8sddp import cluster

    snapshot = cluster.observe_job(connection, name)
    job = snapshot.indexed_job(name)
    if job is None:
        raise not_found(connection, name)
    check_ours(job)
    return snapshot


def now() -> datetime:
    """Return the time by this machine's clock."""
    return datetime.now(timezone.utc)


def status(snapshot: plan.Snapshot, name: str, *, told: plan.Progress | None = None) -> plan.JobStatus:
    """Return the status of the job at this moment; `told` is what node 0 says."""
    from k8sddp import plan

    job = snapshot.indexed_job(name)
    assert job is not None
    return plan.status(job, snapshot.pods, snapshot.events, now=now(), progress=told)


def waiting(status: plan.JobStatus) -> str:
    """Return the line that says for how long the job waits, and why; empty where it waits for nothing."""
    from k8sddp.plan import statuses

    if not status.waiting:
        return ""
    waited = status.waited(now())
    return f"waiting{'' if waited is None else ' ' + statuses.age(waited)}: {status.waiting.sentence}"


def not_found(connection: cluster.Cluster, name: str) -> errors.NotFoundError:
    """Return the error for a job that does not exist, with the nearest names."""
    import difflib

    from k8sddp import cluster

    names = sorted(job["metadata"]["name"] for job in cluster.jobs(connection))
    close = difflib.get_close_matches(name, names, n=MAX_NAMES)
    if close:
        remedy = f"did you mean {' or '.join(close)}?"
    elif names:
        more = len(names) - MAX_NAMES
        remedy = f"there are {', '.join(names[:MAX_NAMES])}" + (f" and {more} more" if more > 0 else "")
    else:
        remedy = "there are none; -n chooses another namespace"
    return errors.NotFoundError(f"no DDP job {name} in namespace {connection.namespace}; {remedy}", status=404)


def check_ours(job: manifest.Manifest) -> None:
    """Raise RefusedError for a Job that somebody else made."""
    from k8sddp.plan import ownership

    foreign = ownership.refusal(job)
    if foreign:
        raise errors.RefusedError(f"{foreign}; use kubectl for it")


def shape(job: manifest.Manifest) -> Shape:
    """Return the nodes and ranks of a job, as its pods are told them.

    Raises RefusedError where they are told nothing.
    """
    env = environment(job)
    try:
        return Shape(job["metadata"]["name"], int(env[node_env.NNODES]), int(env[node_env.NPROC_PER_NODE]))
    except (KeyError, ValueError):
        raise errors.RefusedError(
            f"{manifest.ref_of(job)} has k8sddp's labels, but its container {constants.CONTAINER_NAME!r} is not told "
            f"how many ranks there are ({node_env.NNODES}, {node_env.NPROC_PER_NODE}); use kubectl for it"
        ) from None


def environment(job: manifest.Manifest) -> dict[str, str]:
    """Return what the worker's container is told in plain values, the empty string for what comes from elsewhere."""
    containers = job["spec"]["template"]["spec"]["containers"]
    found = [one.get("env") or () for one in containers if one["name"] == constants.CONTAINER_NAME]
    return {one["name"]: one.get("value", "") for one in (found[0] if found else ())}


def _range(noun: str, last: int) -> str:
    return f"{noun} 0 only" if last == 0 else f"{noun}s 0 to {last}"
