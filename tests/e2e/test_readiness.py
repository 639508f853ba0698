"""A pod is Ready when its node takes part in an attempt, not when its container runs: the Job counts on that."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import jobs
from tests.e2e.users import User, eventually

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

ASK = """
import urllib.error, urllib.request
try:
    print(urllib.request.urlopen("http://127.0.0.1:29401/readyz", timeout=5).read().decode())
except urllib.error.HTTPError as error:
    print(error.code, error.read().decode())
except OSError as error:  # the worker does not listen yet
    print(error)
"""


def is_ready(pod: dict[str, Any]) -> bool:
    """Return what the kubelet says of the pod."""
    return {"Ready": "True"}.items() <= {one["type"]: one["status"] for one in pod["status"]["conditions"]}.items()


def probed(user: User, pod: str) -> dict[str, int]:
    """Return what the kubelet says of failed probes of the pod, and how often it wrote that."""
    found = json.loads(user.kubectl("get", "events", f"--field-selector=involvedObject.name={pod}", "--output=json"))
    return {one["message"]: one.get("count", 1) for one in found["items"] if one["reason"] == "Unhealthy"}


def test_a_node_that_waits_for_the_other_is_not_ready(user: User, tmp_path: Path) -> None:
    """A quota admits one pod of two: it runs, says that it waits, is not Ready; then the other comes, and both are."""
    scope = ("--namespace", user.namespace)
    user.cluster.kubectl(*scope, "create", "--filename=-", stdin=json.dumps(jobs.ONE_POD))
    eventually(lambda: user.object("resourcequota", "one").get("status", {}).get("hard"), bool)
    file = jobs.write(tmp_path, "half", jobs.HOLD, image=user.cluster.image, nnodes=2)
    assert 0 == user.k8sddp("apply", str(file)).code
    (pod,) = eventually(lambda: user.pods("half"), lambda pods: [one["status"]["phase"] for one in pods] == ["Running"])
    assert not is_ready(pod)  # without a probe it would be so with the first word that it runs
    name = pod["metadata"]["name"]
    assert name.startswith("half-0-")

    eventually(lambda: user.execute(name, ASK), lambda said: said == "503 waiting for the other nodes")
    said = eventually(lambda: probed(user, name), lambda said: "503" in str(said))
    waited = sum(count for message, count in said.items() if "503" in message)
    assert waited <= 2  # in 27 s at least: one a second would be 25, and then the kubelet's own limit
    assert not is_ready(user.object("pod", name))
    assert not user.object("job", "half")["status"].get("ready")
    assert ["half", "0/2"] == user.k8sddp("get", "half").out.splitlines()[1].split()[:3:2]

    user.cluster.kubectl(*scope, "delete", "resourcequota", "one")
    user.await_ready("half", 2)
    assert [name, True, True] == [user.pod("half", 0)["metadata"]["name"], *map(is_ready, user.pods("half"))]
    assert "training" == user.execute(name, ASK)
