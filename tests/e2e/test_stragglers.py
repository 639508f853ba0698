"""What node 0 tells of the whole gang on a real cluster: every pod's ranks, and the one that holds the others up."""

import json
from pathlib import Path

import pytest

from tests.e2e import jobs
from tests.e2e.users import User, eventually

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

TRAINS = """
import os, time, torch, torch.distributed as dist
dist.init_process_group("gloo")
model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(4, 4))
optimizer = torch.optim.SGD(model.parameters(), lr=0.001)
while True:
    time.sleep(0.1 if os.environ["RANK"] == "1" else 0.01)
    model(torch.ones(1, 4)).square().sum().backward()
    optimizer.step()
"""


def test_node_0_tells_of_another_pods_rank_that_holds_it_up(user: User, tmp_path: Path) -> None:
    """In /status with its figures, and in one line of its log; the other pod tells of its own rank alone."""
    name = "slow"
    small = {"cpu": "100m", "memory": "700Mi"}
    spec = {"image": user.cluster.image, "nnodes": 2, "launcher": "direct", "resources": small}
    assert 0 == user.k8sddp("apply", str(jobs.write(tmp_path, name, TRAINS, **spec))).code
    user.await_ready(name, 2)
    pods = [user.pod(name, node)["metadata"]["name"] for node in (0, 1)]

    def status(node: int) -> dict:
        path = f"/api/v1/namespaces/{user.namespace}/pods/{pods[node]}:29401/proxy/status"
        return json.loads(user.kubectl("get", "--raw", path))

    told = eventually(lambda: status(0), lambda found: found["stragglers"])
    (slow,) = told["stragglers"]
    assert (1, 1) == (slow["rank"], slow["node_rank"])
    assert slow["own"] >= 0.1 > slow["others"]
    assert [(0, 0), (1, 1)] == [(one["rank"], one["node_rank"]) for one in told["ranks"]]
    assert abs(told["ranks"][0]["step"] - told["ranks"][1]["step"]) <= 3 / 0.1  # a row is a second old, or two
    assert [1] == [one["rank"] for one in status(1)["ranks"]]
    log = user.kubectl("logs", pods[0])
    assert "straggler: rank 1 (node 1) spends " in log
    print(json.dumps(told["progress"]), *[line for line in log.splitlines() if "straggler" in line], sep="\n")
    assert 0 == user.k8sddp("delete", name).code
