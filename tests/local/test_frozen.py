"""A worker that does not run any more, with limits as they are: SIGSTOP, as a hypervisor does to a whole machine."""

from __future__ import annotations

import signal
from pathlib import Path

from tests.unit.worker import workers

HOLD = """
import os, time
print("up", flush=True)
while os.environ["K8SDDP_ATTEMPT"] == "0" or not os.path.exists("go"):
    time.sleep(0.05)
"""
GONE = "its worker said nothing for 20 s: it is stopped, or its machine or network is gone"


def test_a_frozen_worker_is_lost_and_superseded_when_it_wakes(tmp_path: Path) -> None:
    """Its kernel answers for it, so only its silence tells; its replacement trains, and it leaves with 79 at last."""
    with workers.Gang(tmp_path, HOLD, nnodes=2).start() as gang:
        node_0, frozen = gang.pods
        for pod in gang.pods:
            pod.wait_for("] up")
        frozen.send(signal.SIGSTOP)
        try:
            node_0.wait_for(f"attempt 0 ended: node 1 (pod digits-1, node node-b): {GONE}")
            gang.start(
                1,
                name="new",
                K8SDDP_POD_NAME="digits-new",
                K8SDDP_IGNORED_COUNT="1",
                **workers.at("127.0.0.9"),
            )
            gang.pods[2].wait_for("attempt 1 starts")
        finally:
            frozen.send(signal.SIGCONT)
        assert 79 == frozen.wait()
        assert "superseded by pod digits-new" in str(frozen.cause["message"])
        assert "this worker did not run for " in frozen.log
        (tmp_path / "go").touch()
        assert [0, 0] == [node_0.wait(), gang.pods[2].wait()]
    assert [] == workers.alive(str(frozen.folder))


def test_a_frozen_node_0_is_looked_for_and_accuses_nobody_when_it_wakes(tmp_path: Path) -> None:
    """The others leave it; awake again it says that it was itself, and the same pods train in attempt 1."""
    (tmp_path / "go").touch()
    with workers.Gang(tmp_path, HOLD, nnodes=3, max_attempts="2").start() as gang:
        node_0, *others = gang.pods
        for pod in gang.pods:
            pod.wait_for("] up")
        node_0.send(signal.SIGSTOP)
        try:
            for pod in others:
                pod.wait_for(f"node 0 is lost (127.0.0.2 port {gang.port}: {GONE})")
        finally:
            node_0.send(signal.SIGCONT)
        assert [0, 0, 0] == gang.wait()
    (entry,) = node_0.verdict["history"]
    assert (0, True) == (entry["attempt"], entry["counted"])
    assert str(entry["message"]).startswith("node 0 (pod digits-0, node node-a): its worker did not run for ")
