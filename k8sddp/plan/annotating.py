"""What is written on a Job for those who have only kubectl: its first failure, on the Job that outlives its pods.

The Job's own condition names a pod and an exit code, and the pod that ended the Job is often not the one that failed.
Whoever is attached when the job ends writes the sentence into an annotation, where `kubectl describe job` shows it
first; the role `edit` may do that, but not create Events. Pure: the manifest to apply, or nothing.
"""

from __future__ import annotations

from typing import Final

from k8sddp import constants
from k8sddp.manifest import Manifest
from k8sddp.plan.statuses import JobStatus

FIELD_MANAGER: Final = f"{constants.FIELD_MANAGER}-first-failure"  # owns this field alone, so no apply takes it away


def first_failure(job: Manifest, status: JobStatus) -> Manifest | None:
    """Return what to apply to `job` to say why it failed, None where it did not, or says so already.

    A namesake that has come since `status` was seen is not marked; the uid keeps out one that comes before the apply.
    """
    told = (job["metadata"].get("annotations") or {}).get(constants.ANNOTATION_FIRST_FAILURE)
    is_it = job["metadata"].get("uid") == status.uid
    if not is_it or not status.finished or status.first_failure in ("", told):
        return None
    return {
        "apiVersion": job["apiVersion"],
        "kind": job["kind"],
        "metadata": {
            "name": job["metadata"]["name"],
            "uid": job["metadata"]["uid"],
            "annotations": {constants.ANNOTATION_FIRST_FAILURE: status.first_failure},
        },
    }
