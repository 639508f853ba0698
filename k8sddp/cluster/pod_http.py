"""GET from the worker in a pod, through the API server's proxy of its HTTP port (docs/status-and-metrics.md).

It takes the right to `get pods/proxy`, which the role `edit` has and `view` has not. What is asked is asked once, is
bounded in size and soon given up: a worker answers within two seconds, and who does not is frozen, gone, or on a
Kubernetes Node that is. Every failure is a sentence about that pod; the API server itself is not taken for being away.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Final

from k8sddp import constants, errors
from k8sddp.cluster import abreast, answers
from k8sddp.cluster.api import Cluster
from k8sddp.cluster.transport import Query, SilenceError
from k8sddp.manifest import Manifest
from k8sddp.plan import pods as pod_facts
from k8sddp.worker.contract import wording

LIMIT: Final = 5.0  # seconds for the next piece of an answer
MAX_ANSWER: Final = 4 << 20  # bytes; the stacks of eight ranks are some 100 KiB
MAX_REASON: Final = 200

# What the API server says where the pod does not answer (apimachinery/pkg/util/proxy/transport.go), and the worker
# where it does not know the path, cannot tell, or needs too long
_TOLD: Final = (400, 404, 500, 502, 503, 504)
_NOT_OURS: Final = b"not found; there are: "  # net/http_server.py
_UNREACHED: Final = "error trying to reach service: "


def get(cluster: Cluster, pod: Manifest, path: str, *, query: Query = (), limit: float = LIMIT) -> bytes:
    """Return what the worker in `pod` answers to GET `path` (`/stacks`).

    Raises ForbiddenError naming the right that is missing, NotFoundError where the pod is gone or its worker has no
    such path or no such thing, and ClusterError where it does not run or does not answer.
    """
    name = str(pod["metadata"]["name"])
    port = http_port(pod)
    if port is None:
        raise errors.ClusterError(f"pod {name} has no port named http: it was not made by k8sddp")
    if pod_facts.started_at(pod) is None:
        raise errors.ClusterError(f"pod {name} does not run ({pod_facts.state(pod)}), so it cannot be asked")
    url = cluster.path("v1", "Pod", f"{name}:{port}") + "/proxy" + path
    try:
        with cluster.transport.stream(url, query=query, silence=limit, accepted=_TOLD) as response:
            body = response.read(MAX_ANSWER)
            status = response.status
    except SilenceError:
        raise errors.ClusterError(_silent(name, limit)) from None
    except answers.transport_errors() as fault:
        if answers.is_silence(fault):
            raise errors.ClusterError(_silent(name, limit)) from None
        why = answers.why_no_answer(fault)
        raise errors.ClusterError(f"pod {name} broke off in the middle of its answer ({why})") from None
    if status == 200:
        return body
    raise _refusal(cluster, name, url=url, path=path, status=status, body=body)


def get_all(
    cluster: Cluster, pods: Mapping[int, Manifest], path: str, *, query: Query = (), limit: float = LIMIT
) -> dict[int, bytes | errors.ClusterError]:
    """Return what each of these pods answers, or why it does not, by the same keys; some are asked at a time.

    Who is told once that this user may not ask is not asked for the other pods.
    """
    forbidden: list[errors.ForbiddenError] = []

    def answer(pod: Manifest) -> bytes | errors.ClusterError:
        try:
            return forbidden[0] if forbidden else get(cluster, pod, path, query=query, limit=limit)
        except errors.ForbiddenError as fault:
            forbidden.append(fault)
            return fault
        except errors.ClusterError as fault:
            return fault

    return abreast.ask({key: functools.partial(answer, pod) for key, pod in pods.items()})


def http_port(pod: Manifest) -> int | None:
    """Return the port on which the worker of a pod answers, None where it has none."""
    for container in pod["spec"].get("containers") or ():
        if container.get("name") == constants.CONTAINER_NAME:
            ports = {one.get("name"): one.get("containerPort") for one in container.get("ports") or ()}
            return ports.get("http")
    return None


def _silent(name: str, limit: float) -> str:
    return f"pod {name} gave no answer within {limit:g} s: its worker or its Kubernetes Node is frozen or overloaded"


def _refusal(cluster: Cluster, name: str, *, url: str, path: str, status: int, body: bytes) -> errors.ClusterError:
    """Return the error for an answer that is none of the worker's, or a no."""
    said = answers.message(body)  # of the API server itself, empty where the worker has spoken
    if status == 404 and said:
        return errors.NotFoundError(f"pod {name} does not exist any more", status=404)
    if status == 404:
        if body.startswith(_NOT_OURS):
            text = f"the worker of pod {name} does not know {path}: it is of an older k8sddp"
        else:
            text = f"pod {name}: {_short(body.decode('utf-8', 'replace'))}"
        return errors.NotFoundError(text, status=404)
    text = said or body.decode("utf-8", "replace")
    if _UNREACHED in text:
        where = url.partition("/pods/")[2].partition("/")[0].rpartition("%3A")[2]
        why = _short(text.partition(_UNREACHED)[2])
        return errors.ClusterError(f"the worker of pod {name} does not answer on port {where}: {why}", status=status)
    if said:
        return answers.error("GET", url, status, body, target=cluster.transport.target)
    return errors.ClusterError(f"the worker of pod {name} answered {status}: {_short(text)}", status=status)


def _short(text: str) -> str:
    return wording.shorten(text, MAX_REASON)
