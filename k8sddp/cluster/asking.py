"""Ask node 0's worker how far the gang is, through the API server's proxy of its pod.

A favour, never needed: one GET that is not repeated, small and soon given up. Whoever may not use `pods/proxy` (the
role `edit` may, `view` may not), whose API server does not reach pods, or whose pod is another version's gets None.
Many jobs are asked side by side within one limit: a pod that does not answer costs nobody else's answer.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Final

from k8sddp import errors
from k8sddp.cluster import abreast, pod_http
from k8sddp.cluster.api import Cluster
from k8sddp.cluster.transport import Query
from k8sddp.manifest import Manifest
from k8sddp.plan import pods as pod_facts
from k8sddp.plan import progress
from k8sddp.plan.progress import Progress

LIMIT: Final = 3.0  # seconds for the next piece of the answer
FEW: Final = (("ranks", "0"),)  # of all ranks the gang's figures alone, and this one
TOGETHER: Final = 2.0  # seconds for the answers of all jobs that are asked at once


class Asker:
    """Asks about the jobs of one cluster, and no more once it was told that it may not.

    Who was answered before may ask: an API server that has just started knows nobody's roles for a moment.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._was_answered = False
        self.forbidden = False

    def ask_all(self, jobs: Mapping[str, Sequence[Manifest]]) -> dict[str, Progress]:
        """Return what the node 0 of each job says, by name, of those that answer within TOGETHER seconds.

        Of one job alone it is all ranks: the one that hangs back may be any.
        """
        query = FEW if len(jobs) > 1 else ()
        told = abreast.ask(
            {name: functools.partial(self.ask, pods, query=query, limit=TOGETHER / 2) for name, pods in jobs.items()},
            within=TOGETHER,
        )
        return {name: one for name, one in told.items() if one is not None}

    def ask_again(self, pods: Sequence[Manifest], before: Progress | None) -> Progress | None:
        """Return what node 0 says after `before`: of a gang that makes steps, of the rank that was last alone.

        Before the first step any rank may hang back, and all are told of; that is 300 KiB where there are 512.
        """
        gang = before.gang if before is not None else None
        return self.ask(pods, query=(("ranks", str(gang.last or 0)),) if gang is not None and gang.step else ())

    def ask(self, pods: Sequence[Manifest], *, query: Query = (), limit: float | None = None) -> Progress | None:
        """Return what node 0 says; None where it does not run, or cannot be asked."""
        pod = pod_facts.newest_by_index(pods).get(0)
        if pod is None or self.forbidden or pod_facts.is_deleting(pod) or pod_facts.started_at(pod) is None:
            return None
        try:
            answer = pod_http.get(self._cluster, pod, "/status", query=query, limit=limit or LIMIT)
            self._was_answered = True
            return progress.parse(answer)
        except errors.ForbiddenError:
            self.forbidden = not self._was_answered
        except errors.ClusterError:
            pass  # it has just ended, is frozen, or is of another version
        return None
