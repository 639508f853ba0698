"""What a failed test leaves of its namespace: pods, events and logs, written before the namespace is deleted.

The folder is named after the test, lies beside the components' logs, and is bounded: so many pods, so many bytes each.
Nothing here raises for a cluster that does not answer: the test's own failure is what has to be read.
"""

import json
import re
import shutil
import subprocess
from pathlib import Path

from tests.cluster.clusters import Cluster
from tests.cluster.errors import ClusterError

FOLDER = "failed-tests"
MAX_PODS = 32
MAX_BYTES = 1 << 20  # of each file: its end, but of a pod's log its last lines
MAX_LINES = 5000
LIMIT = 20.0  # seconds for one request


def collect(cluster: Cluster, namespace: str, test: str) -> str:
    """Write what the namespace holds and return one sentence that says where it is, or why it is not there."""
    folder = cluster.logs_dir / FOLDER / file_name(test)
    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        _save(cluster, folder / "pods.yaml", namespace, "get", "pods,jobs", "--output=yaml")
        _save(cluster, folder / "events.txt", namespace, "get", "events", "--sort-by=.lastTimestamp")
        found = json.loads(_ask(cluster, namespace, "get", "pods", "--output=json") or '{"items": []}')["items"]
        newest = sorted(found, key=lambda pod: str(pod["metadata"]["creationTimestamp"]))[-MAX_PODS:]
        for pod in (one["metadata"]["name"] for one in newest):
            bounds = (f"--tail={MAX_LINES}", f"--limit-bytes={MAX_BYTES}")
            _save(cluster, folder / f"{pod}.log", namespace, "logs", pod, "--all-containers", *bounds)
    except (ClusterError, OSError, subprocess.TimeoutExpired, ValueError) as error:
        return f"not all of namespace {namespace} could be written to {folder}: {error}"
    return f"pods, events and logs of namespace {namespace}: {folder}"


def file_name(test: str) -> str:
    """Return a test's node id without its folders, as the name of a file."""
    path, separator, rest = test.partition("::")
    return re.sub(r"[^\w.-]+", "-", Path(path).name + separator + rest).strip("-")[:100]


def _save(cluster: Cluster, path: Path, namespace: str, *words: str) -> None:
    path.write_text(_ask(cluster, namespace, *words)[-MAX_BYTES:])


def _ask(cluster: Cluster, namespace: str, *words: str) -> str:
    """Return what kubectl says, which for a pod that never started is an error."""
    argv = cluster.kubectl_argv(f"--namespace={namespace}", f"--request-timeout={LIMIT:g}s", *words)
    done = cluster.run_inside(argv, timeout=LIMIT + 5, check=False)
    return done.stdout or done.stderr
