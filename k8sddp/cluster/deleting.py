"""Delete one job, and what a half-made or damaged one left behind.

The Job is deleted in the background: its pods and children go by ownerReference. Children that no Job owns (they were
rendered and applied by kubectl, somebody deleted the Job with --cascade=orphan, or a raw DELETE orphaned its pods) are
found by our labels and deleted one by one. What is not labelled as managed by k8sddp is never touched.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from k8sddp import errors, manifest
from k8sddp.cluster.api import Cluster
from k8sddp.manifest import Ref
from k8sddp.plan import ownership, snapshot

_CHILD_KINDS: Final = (
    ("v1", "Service"),
    ("v1", "ConfigMap"),
    ("networking.k8s.io/v1", "NetworkPolicy"),
    ("v1", "Pod"),
)


def delete(cluster: Cluster, name: str, *, report: Callable[[str], None]) -> None:
    """Delete the job `name`; `report` gets one line per object that is deleted by hand, not by ownerReference.

    Raises NotFoundError where nothing of that name is ours, RefusedError where the Job is somebody else's.
    """
    ref = snapshot.job_ref(name)
    job = cluster.get(ref)
    if job is not None:
        foreign = ownership.refusal(job)
        if foreign:
            raise errors.RefusedError(f"{foreign}; `kubectl delete job {name}` deletes it")
        if job["metadata"].get("deletionTimestamp"):
            report(f"{ref} is already being deleted")
        else:
            cluster.delete(ref, uid=str(job["metadata"]["uid"]))
            report(f"{ref} deleted")
    orphans = _orphans(cluster, name)
    for orphan, uid in orphans:
        if cluster.delete(orphan, uid=uid):
            report(f"{orphan} deleted")
    if job is None and not orphans:
        context = f" (context {cluster.context})" if cluster.context else ""
        raise errors.NotFoundError(
            f"there is no job {name} in namespace {cluster.namespace}{context}; `k8sddp get` lists those there are",
            status=404,
        )


def _orphans(cluster: Cluster, name: str) -> list[tuple[Ref, str]]:
    """Return our objects of that name which no owner takes along, with their uids."""
    found: list[tuple[Ref, str]] = []
    for api_version, kind in _CHILD_KINDS:
        for one in cluster.list(api_version, kind, label_selector=ownership.selector(name)).items:
            metadata = one["metadata"]
            if not metadata.get("ownerReferences") and not metadata.get("deletionTimestamp"):
                found.append((manifest.ref_of(one), str(metadata["uid"])))
    return found
