"""Talk to a cluster: connect, read one job, carry out a plan, follow it, read logs, delete it.

The only package that imports `kubernetes`, and only when a connection is opened. It decides nothing: what to do is a
`plan`, and what a state means is `plan.status`.
"""

from k8sddp.cluster.api import Applied, Cluster, Listing
from k8sddp.cluster.asking import Asker
from k8sddp.cluster.connection import connect
from k8sddp.cluster.deleting import delete
from k8sddp.cluster.execution import execute
from k8sddp.cluster.observing import jobs, observe, observe_job
from k8sddp.cluster.pod_http import get as get_from_pod
from k8sddp.cluster.pod_http import get_all as get_from_pods
from k8sddp.cluster.pod_logs import logs
from k8sddp.cluster.replacing import replace_pod
from k8sddp.cluster.streams import Change, Stop, watch
from k8sddp.cluster.watching import follow

__all__ = [
    "Applied",
    "Asker",
    "Change",
    "Cluster",
    "Listing",
    "Stop",
    "connect",
    "delete",
    "execute",
    "follow",
    "get_from_pod",
    "get_from_pods",
    "jobs",
    "logs",
    "observe",
    "observe_job",
    "replace_pod",
    "watch",
]
