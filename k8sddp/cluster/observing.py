"""Read everything about one job once -> Snapshot.

Four kinds of requests: the objects by name, the pods by the Job's label, the events of the Job and of those pods that
do not run. Events are not read for the whole namespace: a busy one has tens of thousands.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from k8sddp import constants, manifest
from k8sddp.cluster.api import Cluster
from k8sddp.manifest import Manifest, Ref
from k8sddp.plan import ownership, snapshot
from k8sddp.plan import pods as pod_facts
from k8sddp.plan.snapshot import Snapshot

MAX_PODS_ASKED: Final = 8  # events are read for that many pods: the first ones say what is wrong with all


def observe(cluster: Cluster, desired: Sequence[Manifest]) -> Snapshot:
    """Return the observed counterparts of the desired objects, without pods and events: what `plan.diff` needs."""
    found = (cluster.get(manifest.ref_of(one)) for one in desired)
    return snapshot.of(one for one in found if one is not None)


def observe_job(cluster: Cluster, name: str) -> Snapshot:
    """Return the Job `name` with its pods and the events that explain them: what `plan.status` needs."""
    job = cluster.get(snapshot.job_ref(name))
    if job is None:
        return Snapshot()
    pods = cluster.list("v1", "Pod", label_selector=pod_selector(job)).items
    return snapshot.of([job], pods=pods, events=events(cluster, job, pods))


def jobs(cluster: Cluster) -> tuple[Manifest, ...]:
    """Return every Indexed Job of ours in the namespace."""
    return cluster.list("batch/v1", "Job", label_selector=ownership.ALL).items


def events(cluster: Cluster, job: Manifest, pods: Iterable[Manifest], *, patient: bool = True) -> tuple[Manifest, ...]:
    """Return the events of the Job and of its pods that wait; `patient` as for `Transport.request`."""
    asked: list[Ref] = [manifest.ref_of(job)]
    asked.extend([manifest.ref_of(pod) for pod in pods if pod_facts.needs_explanation(pod)][:MAX_PODS_ASKED])
    found: list[Manifest] = []
    for ref in asked:
        selector = f"involvedObject.kind={ref.kind},involvedObject.name={ref.name}"
        found.extend(cluster.list("v1", "Event", field_selector=selector, patient=patient).items)
    return tuple(found)


def pod_selector(job: Manifest) -> str:
    """Return the label selector of the pods of exactly this Job, not of an earlier one of its name."""
    return f"{constants.LABEL_BATCH_CONTROLLER_UID}={job['metadata']['uid']}"
