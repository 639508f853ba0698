"""Ask node 0's worker how far the gang is, through the API server's proxy of its pod.

A favour, never needed: one GET that is not repeated, small and soon given up. Whoever may not use `pods/proxy` (the
role `edit` may, `view` may not), whose API server does not reach pods, or whose pod is another version's gets None,
and nothing is said about it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from k8sddp import constants, errors
from k8sddp.cluster import answers
from k8sddp.cluster.api import Cluster
from k8sddp.manifest import Manifest
from k8sddp.plan import pods as pod_facts
from k8sddp.plan import progress
from k8sddp.plan.progress import Progress

LIMIT: Final = 3.0  # seconds for the next piece of the answer
MAX_ANSWER: Final = 1 << 20  # bytes; 4,096 nodes are 80 KiB


class Asker:
    """Asks about the jobs of one cluster, and no more once it was told that it may not."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.forbidden = False

    def ask(self, pods: Sequence[Manifest]) -> Progress | None:
        """Return what node 0 says; None where it does not run, or cannot be asked."""
        pod = pod_facts.newest_by_index(pods).get(0)
        port = http_port(pod) if pod is not None and pod_facts.started_at(pod) else None
        if pod is None or port is None or self.forbidden or pod_facts.is_deleting(pod):
            return None
        path = self._cluster.path("v1", "Pod", f"{pod['metadata']['name']}:{port}") + "/proxy/status"
        try:
            with self._cluster.transport.stream(path, silence=LIMIT) as response:
                return progress.parse(response.read(MAX_ANSWER))
        except errors.ForbiddenError:
            self.forbidden = True
        except errors.ClusterError:
            pass  # it has just ended, or is frozen
        except answers.transport_errors():
            pass  # in the middle of its answer
        return None


def http_port(pod: Manifest) -> int | None:
    """Return the port on which the worker of a pod answers, None where it has none."""
    for container in pod["spec"].get("containers") or ():
        if container.get("name") == constants.CONTAINER_NAME:
            ports = {one.get("name"): one.get("containerPort") for one in container.get("ports") or ()}
            return ports.get("http")
    return None
