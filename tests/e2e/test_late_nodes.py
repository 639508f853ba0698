"""A gang whose node comes late, and one whose worker does not run any more: neither is a failure of the job."""

import json
import time
from pathlib import Path

import pytest

from tests.cluster import faults
from tests.e2e import jobs
from tests.e2e.users import LIMIT, User, eventually

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]

LATE = 90  # seconds until a second Kubernetes Node fits
FITS = "k8sddp.test/fits"  # label of the Kubernetes Nodes that fit
TOLD = "import os\nprint('trained in attempt', os.environ['K8SDDP_ATTEMPT'], flush=True)\n"
HOLD = "import os, time\nprint('up', flush=True)\nif os.environ['K8SDDP_ATTEMPT'] == '0':\n    time.sleep(600)\n" + TOLD
GONE = "its worker said nothing for 20 s: it is stopped, or its machine or network is gone"


def test_a_kube_node_that_fits_late_finds_the_job_in_attempt_0(user: User, tmp_path: Path) -> None:
    """Four times rendezvous.timeout, with one attempt in the budget: no pod ends, who waits says so, and it trains."""
    name = "late"
    nodes = json.loads(user.cluster.kubectl("get", "nodes", "--output=json"))["items"]
    first, second = (node["metadata"]["name"] for node in nodes[:2])
    apart = {"labelSelector": {"matchLabels": {"k8sddp.dev/job": name}}, "topologyKey": "kubernetes.io/hostname"}
    file = jobs.write(
        tmp_path,
        name,
        TOLD,
        image=user.cluster.image,
        nnodes=2,
        restart={"maxAttempts": 1},
        rendezvous={"timeout": "20s"},
        scheduling={
            "nodeSelector": {FITS: "yes"},
            "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [apart]}},
        },
    )
    try:
        user.cluster.kubectl("label", "node", first, f"{FITS}=yes")
        with user.running("run", str(file)) as run:
            (waits,) = eventually(
                lambda: [pod for pod in user.pods(name) if pod["status"]["phase"] == "Running"], lambda found: found
            )
            began = time.monotonic()
            log = eventually(
                lambda: user.kubectl("logs", waits["metadata"]["name"]),
                lambda text: time.monotonic() > began + LATE and " min so far: " in text,
            )
            assert ("waiting for node " in log) or ("looks for node 0, " in log)
            user.cluster.kubectl("label", "node", second, f"{FITS}=yes")
            run.until(f"{name} complete after")
            assert 0 == run.process.wait(LIMIT)
        pods = [pod["metadata"]["name"] for pod in user.pods(name)]
        assert 2 == sum("trained in attempt 0" in user.kubectl("logs", pod) for pod in pods)
        assert 2 == len(pods)
    finally:
        user.k8sddp("delete", name)
        for node in (first, second):
            user.cluster.kubectl("label", "node", node, f"{FITS}-")


def test_a_frozen_worker_is_noticed_and_superseded(user: User, tmp_path: Path) -> None:
    """SIGSTOP of PID 1: the kubelet sees a pod that runs; its gang counts it as lost, and trains with another one."""
    if user.cluster.backend != "testbed":
        pytest.skip("only on the test bed can a test stop the first process of a container")
    name = "stopped"
    file = jobs.write(tmp_path, name, HOLD, image=user.cluster.image, nnodes=2, restart={"maxAttempts": 2})
    with user.running("run", "--no-replace", str(file)) as run:
        run.until("[node 0] up")
        user.await_ready(name, 2)
        frozen = user.pod(name, 1)["metadata"]["name"]
        worker = faults.pod_processes(user.cluster, user.namespace, frozen, containing="worker.pyz")[0]
        with faults.stopped(worker):
            began = time.monotonic()
            run.until(f"attempt 0 ended: node 1 (pod {frozen}", GONE)
            print(f"noticed after {time.monotonic() - began:.1f} s")
        # awake again it finds that the gang went on without it, and joins it: nobody has taken its place
        run.until(f"{name} complete after")
        assert 0 == run.process.wait(LIMIT)
        assert 2 == len(user.pods(name))
        assert "this worker did not run for " in user.kubectl("logs", frozen)
    user.k8sddp("delete", name)
