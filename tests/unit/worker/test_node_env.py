"""The environment contract: parsed once, wrong values named all at once, the key never shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from k8sddp.worker.contract import node_env
from tests.unit.worker import workers


def test_the_environment_becomes_values(tmp_path: Path) -> None:
    """Numbers are numbers, absent texts are empty, ports follow from one."""
    node = node_env.parse(workers.make_env(1, tmp_path, 29400, K8SDDP_NNODES="2"))
    assert (2, 1, 30.0, 0.0, "") == (node.nnodes, node.node_rank, node.join_timeout, node.cpus, node.code_zip)
    assert ((), ()) == (node.fail_on, node.retry_on)
    codes = node_env.parse(workers.make_env(0, tmp_path, 29400, K8SDDP_FAIL_ON="3,137", K8SDDP_IGNORED_COUNT="2"))
    assert ((3, 137), 2) == (codes.fail_on, codes.ignored_count)
    volumes = node_env.parse(
        workers.make_env(0, tmp_path, 29400, K8SDDP_VOLUMES='[["scratch", "/scratch", 99]]')
    ).volumes
    assert (("scratch", "/scratch", 99),) == volumes
    assert (29401, 29410) == (node.http_port, node.first_master_port)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        pytest.param("K8SDDP_NNODES", "two", "K8SDDP_NNODES='two' must be a whole number", id="no number"),
        pytest.param("K8SDDP_NNODES", "", "K8SDDP_NNODES is not set", id="empty"),
        pytest.param("K8SDDP_VOLUMES", "[1]", "K8SDDP_VOLUMES=.* must be a list of", id="volumes"),
        pytest.param(
            "K8SDDP_LAUNCHER", "mpirun", "K8SDDP_LAUNCHER='mpirun' must be one of torchrun, direct, spawn", id="choice"
        ),
        pytest.param(
            "K8SDDP_FAIL_ON", "3,x", "K8SDDP_FAIL_ON='3,x' must be exit codes from 1 to 255, separated", id="codes"
        ),
        pytest.param("K8SDDP_RETRY_ON", "0", "K8SDDP_RETRY_ON='0' must be exit codes from 1 to 255", id="code 0"),
        pytest.param("K8SDDP_ON_HANG", "stop", "K8SDDP_ON_HANG='stop' must be one of restart, fail, report", id="hang"),
        pytest.param("K8SDDP_NODE_RANK", "1", "K8SDDP_NODE_RANK=1 must be below K8SDDP_NNODES=1", id="rank"),
        pytest.param("K8SDDP_CPUS", "many", "K8SDDP_CPUS='many' must be a number", id="cpus"),
    ],
)
def test_a_wrong_value_is_named(tmp_path: Path, name: str, value: str, said: str) -> None:
    """Variable, value and rule."""
    with pytest.raises(node_env.NodeEnvError, match=said):
        node_env.parse(workers.make_env(0, tmp_path, 29400, **{name: value}))


def test_all_problems_are_told_at_once() -> None:
    """Nobody mends a pod template one variable at a time."""
    with pytest.raises(node_env.NodeEnvError) as caught:
        node_env.parse({})
    assert str(caught.value).count(" is not set") >= 15
