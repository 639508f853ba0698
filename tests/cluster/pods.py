"""Pods for the tests of the cluster itself: a restricted one that runs a Python program."""

import json
import time
from collections.abc import Callable, Sequence

from tests.cluster.clusters import Cluster
from tests.cluster.errors import ClusterError

SLEEP = "import time; time.sleep(3600)"


def make_pod(name: str, program: str, *, image: str, kube_node: str = "", token: bool = False) -> dict[str, object]:
    """Build a pod that the restricted profile admits."""
    container: dict[str, object] = {
        "name": "main",
        "image": image,
        "command": ["python3", "-c", program],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    spec: dict[str, object] = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 0,
        "automountServiceAccountToken": token,
        "containers": [container],
        "securityContext": {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
        "nodeSelector": {"kubernetes.io/hostname": kube_node} if kube_node else {},
        "hostname": name,
        "subdomain": "peers",
    }
    meta = {"name": name, "labels": {"app": "peers"}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}


def make_service() -> dict[str, object]:
    """Build the headless Service that gives each pod a name."""
    spec = {"clusterIP": "None", "selector": {"app": "peers"}, "publishNotReadyAddresses": True}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "peers"}, "spec": spec}


def create(cluster: Cluster, namespace: str, manifests: Sequence[dict[str, object]]) -> None:
    """Create the objects; a new namespace's default service account may take a moment."""
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(manifests)})
    eventually(lambda: cluster.kubectl("get", "serviceaccount", "default", f"--namespace={namespace}"))
    cluster.kubectl("create", f"--namespace={namespace}", "--filename=-", stdin=text)


def wait(cluster: Cluster, namespace: str, condition: str, *names: str, seconds: int = 60) -> None:
    """Wait until the pods meet a condition as kubectl spells it."""
    pods = [f"pod/{name}" for name in names]
    limit = f"--timeout={seconds}s"
    cluster.kubectl("wait", f"--namespace={namespace}", f"--for={condition}", limit, *pods, timeout=seconds + 10)


def execute(cluster: Cluster, namespace: str, pod: str, program: str, *, check: bool = True) -> str:
    """Run a Python program in the pod's container and return what it printed."""
    command = (f"--namespace={namespace}", pod, "--", "python3", "-c", program)
    return cluster.kubectl("exec", *command, check=check).strip()


def eventually(attempt: Callable[[], object], seconds: float = 30) -> object:
    """Call until it neither raises ClusterError nor returns something false; then return that."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if (answer := attempt()) or time.monotonic() > deadline:
                return answer
        except ClusterError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.3)
