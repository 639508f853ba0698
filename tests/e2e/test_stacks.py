"""`k8sddp stacks` of a job on a real cluster: through the API server's proxy of each pod, with RBAC as it is."""

import json
import time
from pathlib import Path

import pytest

from tests.e2e import jobs
from tests.e2e.users import User, eventually

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

# Four ranks on two nodes: one sleeps in C with the GIL held, one is stopped, two are asleep.
TRAIN = """
import ctypes, os, signal, time
rank = int(os.environ["RANK"])
def asleep():
    while True:
        time.sleep(100)
def holding_the_gil():
    sleep = ctypes.PyDLL(None).sleep
    while True:
        sleep(100)
def stopped():
    os.kill(os.getpid(), signal.SIGSTOP)
print("up", flush=True)
{1: stopped, 2: holding_the_gil}.get(rank, asleep)()
"""


def test_every_rank_of_a_running_job_is_seen(user: User, tmp_path: Path) -> None:
    """The stopped one first, with the lines of the program; by rank, and for programs; and the job trains on."""
    name = "stacks"
    spec = {"nnodes": 2, "nprocPerNode": 2, "launcher": "direct"}
    assert 0 == user.k8sddp("apply", str(jobs.write(tmp_path, name, TRAIN, image=user.cluster.image, **spec))).code
    user.await_ready(name, 2)
    shown = eventually(
        lambda: user.k8sddp("stacks", name).out, lambda out: "stopped" in out and "holding_the_gil" in out
    )
    started = time.monotonic()
    ended = user.k8sddp("stacks", name)
    print(f"{time.monotonic() - started:.1f} s\n{shown}")
    assert (0, "") == (ended.code, ended.err)
    first, second, third = ended.out.split("\n\n")
    assert first.startswith("rank 1 (pid ")
    assert first.endswith(", stopped, starting, step 0)\n  is stopped")
    assert second.startswith("rank 2 (pid ")
    assert second.endswith("/main.py:10 in holding_the_gil\n      sleep(100)")
    assert third.startswith("ranks 0, 3 (sleeping")
    assert third.rstrip().endswith("/main.py:6 in asleep\n      time.sleep(100)")
    record = json.loads(user.k8sddp("stacks", name, "--rank", "2", "-o", "json").out)
    assert ([], ["holding_the_gil"]) == (record["silent"], [one["user_frame"]["function"] for one in record["stacks"]])
    pod = user.pod(name, 0)["metadata"]["name"]
    path = f"/api/v1/namespaces/{user.namespace}/pods/{pod}:29401/proxy/stacks"
    assert "rank 0 (pid " in user.kubectl("get", "--raw", path)
    assert 2 == len(user.pods(name))
    user.kubectl("delete", "pod", pod, "--grace-period=1", "--wait=false")
    eventually(lambda: user.k8sddp("stacks", name), lambda ended: "is missing: " in ended.err or ended.code == 1)
    assert 0 == user.k8sddp("delete", name).code
    assert 1 == user.k8sddp("stacks", name).code
