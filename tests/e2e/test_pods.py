"""What a script finds in a real pod, and what is left of a job: promises that rendered text alone would not show."""

import json
from pathlib import Path

import pytest

from tests.e2e import jobs
from tests.e2e.users import User, eventually

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(200)]

LOOK = """
import glob, json, os, socket
facts = {
    "tokens": glob.glob("/var/run/secrets/kubernetes.io/*"),
    "dns": sorted(word for line in open("/etc/resolv.conf") if line.startswith("options") for word in line.split()[1:]),
    "gloo": os.environ.get("GLOO_SOCKET_IFNAME"),
    "nccl": os.environ.get("NCCL_SOCKET_IFNAME"),
    "interfaces": [name for _, name in socket.if_nameindex()],
    "services": [name for name in os.environ if name.endswith("_SERVICE_HOST")],
}
print("facts", json.dumps(facts), flush=True)
"""


def test_a_pod_has_no_token_asks_dns_quickly_and_knows_its_interface(user: User, tmp_path: Path) -> None:
    """The ranks' interface is the one that owns the pod's address; nothing of the cluster's API is in the pod."""
    file = jobs.write(tmp_path, "look", LOOK, image=user.cluster.image, launcher="direct")
    done = user.k8sddp("run", str(file))
    assert 0 == done.code, done.out + done.err
    facts = json.loads(next(line for line in done.out.splitlines() if "facts " in line).partition("facts ")[2])
    (interface,) = (name for name in facts["interfaces"] if name != "lo")
    expected = {
        "tokens": [],
        "dns": ["attempts:2", "ndots:2", "timeout:1"],
        "gloo": interface,
        "nccl": f"={interface}",
        "interfaces": ["lo", interface],
        "services": ["KUBERNETES_SERVICE_HOST"],  # Kubernetes sets this one even without service links
    }
    assert expected == {**facts, "interfaces": sorted(facts["interfaces"], key=lambda name: name != "lo")}


def test_a_finished_job_is_gone_after_its_time(user: User, tmp_path: Path) -> None:
    """ttlSecondsAfterFinished takes the Job and all that it owns."""
    before = user.objects()
    file = jobs.write(tmp_path, "brief", jobs.DONE, image=user.cluster.image, ttlSecondsAfterFinished=1)
    assert 0 == user.k8sddp("apply", str(file)).code
    eventually(user.objects, lambda seen: not any("brief" in name for name in seen) and before <= seen)


def test_a_pod_is_not_replaced_before_it_has_ended(user: User, tmp_path: Path) -> None:
    """Two pods of one node would both write the checkpoint: the second comes when the first has ended."""
    script = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + jobs.HOLD
    file = jobs.write(
        tmp_path, "one", script, image=user.cluster.image, launcher="direct", terminationGracePeriodSeconds=8
    )
    assert 0 == user.k8sddp("apply", str(file)).code
    user.await_ready("one", 1)
    first = user.pod("one", 0)["metadata"]["name"]
    user.kubectl("delete", "pod", first, "--wait=false")
    seen = eventually(lambda: user.pods("one"), lambda pods: pods[-1]["metadata"]["name"] != first)
    living = [pod["metadata"]["name"] for pod in seen if pod["status"]["phase"] in ("Pending", "Running")]
    assert first not in living
    assert 1 == len(living)
