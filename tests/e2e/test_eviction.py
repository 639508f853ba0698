"""A pod that Kubernetes evicts for what it holds is no disruption: it counts, is named, and the job ends in time."""

import json
from pathlib import Path
from typing import Any

import pytest

from k8sddp import manifest
from tests.e2e import jobs
from tests.e2e.users import User, eventually

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

FILLS = """
import sys, time
with open(sys.argv[1] + "/data", "wb") as file:
    file.write(bytes(32 << 20))
print("filled", flush=True)
time.sleep(600)
"""
LIMIT = {
    "apiVersion": "v1",
    "kind": "LimitRange",
    "metadata": {"name": "little"},
    "spec": {"limits": [{"type": "Container", "default": {"ephemeral-storage": "8Mi"}}]},
}
SCRATCH = {"name": "scratch", "mountPath": "/scratch", "emptyDir": {"sizeLimit": "8Mi"}}


def end(user: User, tmp_path: Path, name: str, **spec: Any) -> str:
    """Apply a job of one node and two attempts that is evicted each time; return what `get` says at its end."""
    file = jobs.write(
        tmp_path, name, FILLS, image=user.cluster.image, restart={"maxAttempts": 2}, launcher="direct", **spec
    )
    assert 0 == user.k8sddp("apply", str(file)).code
    eventually(lambda: user.object("job", name), lambda job: manifest.condition(job, "Failed"), seconds=400)
    return user.k8sddp("get", name).out


def test_a_volume_over_its_limit_counts_and_is_named(user: User, tmp_path: Path) -> None:
    """With nobody attached: the second eviction is the last, and the sentence names volume, limit and remedy."""
    said = end(user, tmp_path, "fills-scratch", command=["main.py", "/scratch"], volumes=[SCRATCH])
    assert "volume scratch (/scratch) holds more than its sizeLimit of 8 MiB" in said
    assert "raise it, or use a claim" in said
    assert 2 == len(user.pods("fills-scratch"))


def test_a_pod_over_a_limit_range_counts_and_is_named(user: User, tmp_path: Path) -> None:
    """A limit that the job does not name reaches the worker by the downward API, and ends the job as one of its own."""
    scope = ("--namespace", user.namespace)
    user.cluster.kubectl(*scope, "create", "--filename=-", stdin=json.dumps(LIMIT))
    said = end(user, tmp_path, "fills-tmp", command=["main.py", "/tmp"])
    assert "holds more than the 8 MiB of ephemeral storage that a LimitRange allows it" in said
    assert 2 == len(user.pods("fills-tmp"))
