"""Replace a lost pod of a running job at once, instead of waiting for the Job's back-off.

Everything is read again right before: a Job that has ended, or an index that has a pod already, gets none. The name
follows from the lost pod's uid, so two clients that see the same loss make one replacement.
"""

from __future__ import annotations

from collections.abc import Collection

from k8sddp.cluster.api import Cluster
from k8sddp.cluster.observing import pod_selector
from k8sddp.plan import replacing, snapshot


def replace_pod(cluster: Cluster, job: str, uid: str, *, overdue: Collection[str] = frozenset()) -> str:
    """Make the replacement of the pod `uid` of a job; return its name, empty where none is due (any more).

    `overdue` is as for `plan.replacing.due`: what the caller has seen being deleted for too long.

    Raises the ClusterError of the request that failed: forbidden, quota, no answer.
    """
    indexed_job = cluster.get(snapshot.job_ref(job))
    if indexed_job is None:
        return ""
    pods = cluster.list("v1", "Pod", label_selector=pod_selector(indexed_job)).items
    for pod in replacing.due(indexed_job, pods, overdue=overdue):
        if pod["metadata"]["uid"] == uid:
            wanted = replacing.replacement(indexed_job, pod)
            return str(wanted["metadata"]["name"]) if cluster.create(wanted) else ""
    return ""
