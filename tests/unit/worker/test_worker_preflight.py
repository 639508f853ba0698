"""Real worker processes and their preflight: what the log says, what ends a job, a run of nothing but the checks."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.unit.worker import workers

RAN = "print('ran')"
# Nobody can have this address, and the kernel says so at once (connect(2): ENETUNREACH)
NOWHERE = {"K8SDDP_POD_IP": "255.255.255.255"}


def test_all_problems_of_a_node_are_said_and_the_first_is_the_verdict(tmp_path: Path) -> None:
    """One line each; the termination log says how many more there are."""
    changes = {"K8SDDP_BACKEND": "nccl", "K8SDDP_NPROC_PER_NODE": "99"}
    gang = workers.Gang(tmp_path, "")
    gang.words = ("nothere.py",)
    with gang.start(0, **changes):
        assert [77] == gang.wait()
    assert str(gang.pods[0].cause["message"]).endswith("or with -m (and 1 more problem, see the log)")
    others = [line for line in gang.pods[0].log.splitlines() if "preflight of node 0 (pod digits-0): problem: " in line]
    assert (1, True) == (len(others), "GPUs: nccl needs a GPU per rank" in others[0])


@pytest.mark.parametrize("count", ["K8SDDP_FAILURE_COUNT", "K8SDDP_IGNORED_COUNT"])
def test_a_problem_of_a_pod_that_replaces_another_counts_and_ends_no_job(tmp_path: Path, count: str) -> None:
    """A GPU that has fallen off one Kubernetes Node ends no training of days: 75 instead of 77."""
    gang = workers.Gang(tmp_path, RAN, backend="nccl", gpus="1")
    with gang.start(0, **{count: "1"}):
        assert [75] == gang.wait()
    assert "nccl needs a GPU per rank" in str(gang.pods[0].cause["message"])


@pytest.mark.parametrize("mode", ["warn", "skip"])
def test_a_problem_ends_no_job_that_does_not_want_it(tmp_path: Path, mode: str) -> None:
    """`warn` says it, `skip` does not look; the job goes on, and the ranks find out."""
    with workers.Gang(tmp_path, "print('ran')", preflight=mode, backend="nccl", gpus="1").start() as gang:
        assert [0] == gang.wait()
    said = (
        "preflight of node 0 (pod digits-0): problem: GPUs: nccl needs a GPU per rank, nprocPerNode is 1 but /dev has"
    )
    assert ("[rank 0] ran" in gang.pods[0].log, mode == "warn") == (True, said in gang.pods[0].log)


def test_a_node_in_order_says_so_in_one_line(tmp_path: Path) -> None:
    """Before it joins."""
    with workers.Gang(tmp_path, "print('ran')").start() as gang:
        assert [0] == gang.wait()
    (line,) = [line for line in gang.pods[0].log.splitlines() if "preflight" in line]
    assert re.fullmatch(r"\[k8sddp\] preflight of node 0 \(pod digits-0\): 6 checks passed in \d\.\d\d s", line)


@pytest.mark.parametrize(
    ("mode", "codes"),
    [pytest.param("fail", [77, 79], id="fail"), pytest.param("warn", [0, 0], id="warn")],
)
def test_a_peer_that_is_not_reached_is_named_before_any_rank_starts(
    tmp_path: Path, mode: str, codes: list[int]
) -> None:
    """Both ends, the address and the reason; then the job does what it was told to."""
    with workers.Gang(tmp_path, RAN, nnodes=2, preflight=mode).start(0) as gang:
        gang.start(1, **NOWHERE)
        assert codes == gang.wait()
    said = "node 1 (pod digits-1) is not reached at 255.255.255.255 port "
    (line,) = [line for line in gang.pods[0].log.splitlines() if "preflight of" in line and said in line]
    assert line.startswith(f"[k8sddp] preflight of node 0 (pod digits-0): problem: ports: {said}")
    assert "(network is unreachable, 3 times): all pods of a job must reach each other on every port" in line
    assert (mode == "warn") is ("[rank 0] ran" in gang.pods[0].log)
    if mode == "fail":
        assert str(gang.pods[0].cause["message"]).startswith(f"node 0 (pod digits-0, node node-a): {said}")
        assert gang.pods[0].verdict == gang.pods[1].verdict


def test_no_peer_is_visited_where_the_job_does_not_want_it(tmp_path: Path) -> None:
    """`preflight: skip` neither looks nor waits."""
    with workers.Gang(tmp_path, RAN, nnodes=2, preflight="skip").start(0) as gang:
        gang.start(1, **NOWHERE)
        assert [0, 0] == gang.wait()
    assert "preflight" not in gang.pods[0].log + gang.pods[1].log


def test_a_clock_that_is_off_is_a_warning(tmp_path: Path) -> None:
    """Measured against node 0's; the node's own is set back by a module that Python itself imports."""
    late = tmp_path / "late"
    late.mkdir()
    (late / "sitecustomize.py").write_text("import time\nreal = time.time\ntime.time = lambda: real() - 60\n")
    with workers.Gang(tmp_path, RAN, nnodes=2).start(0) as gang:
        path = f"{workers.ROOT}:{workers.FAKE_TORCH}:{late}"
        gang.start(1, PYTHONPATH=path)
        assert [0, 0] == gang.wait()
    (line,) = [line for line in gang.pods[0].log.splitlines() if "clock" in line]
    said = re.match(
        r"\[k8sddp\] preflight of node 1 \(pod digits-1\): warning: clock: the clock is ([\d.]+) s behind", line
    )
    assert said is not None, line
    assert abs(float(said[1]) - 60) < 5  # half of a round trip of two processes that share a busy machine
    assert line in gang.pods[1].log


def test_a_run_of_the_checks_alone_starts_no_rank(tmp_path: Path) -> None:
    """Exit 0 when all is well; node 0's log has a line of every node, and nothing is left."""
    with workers.Gang(tmp_path, RAN, nnodes=3, only_preflight="1").start() as gang:
        assert [0, 0, 0] == gang.wait()
    lines = [line for line in gang.pods[0].log.splitlines() if "checks passed" in line]
    assert {f"node {node} (pod digits-{node})" for node in range(3)} == {
        line.removeprefix("[k8sddp] preflight of ").partition(":")[0] for line in lines
    }
    assert all("] ran" not in pod.log for pod in gang.pods)
    assert ["complete"] * 3 == [pod.verdict["outcome"] for pod in gang.pods]
    assert [[], [], []] == [pod.scratch for pod in gang.pods]


def test_a_run_of_the_checks_alone_hears_all_nodes_before_it_fails(tmp_path: Path) -> None:
    """A node with a problem joins all the same: the others may have problems too. Exit 77."""
    with workers.Gang(tmp_path, RAN, nnodes=3, only_preflight="1").start(0) as gang:
        gang.start(1, K8SDDP_SCRATCH_DIR="/proc")
        gang.start(2)
        assert [77, 79, 79] == gang.wait()
    lines = [line for line in gang.pods[0].log.splitlines() if "preflight of" in line]
    problem = "[k8sddp] preflight of node 1 (pod digits-1): problem: temporary folder: /proc cannot be written ("
    assert [1, 2] == [sum(line.startswith(problem) for line in lines), sum("checks passed" in line for line in lines)]
    message = str(gang.pods[0].cause["message"])
    assert message.startswith("node 1 (pod digits-1, node node-b): /proc cannot be written (")
