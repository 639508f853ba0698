"""The commands and environments of the launchers: torch's names right, inherited ones gone, the user's own kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from k8sddp.worker.contract import node_env
from k8sddp.worker.ranks import launcher
from k8sddp.worker.ranks.launcher import rank_env
from tests.unit.worker import gangs, workers


def make_command(tmp_path: Path, environ: dict[str, str] | None = None, **changes: str) -> launcher.Command:
    """Return the command of node 1 of 2."""
    env = workers.make_env(1, tmp_path, 29400, **{"K8SDDP_NNODES": "2", "K8SDDP_NPROC_PER_NODE": "4", **changes})
    env = {**env, **(environ or {})}
    place = rank_env.Place("/usr/bin/python3", "/tmp/ranks", "/w/instrument", env)
    words = ("train.py", "--epochs", "10")
    return launcher.commands(node_env.parse(env), gangs.make_attempt(), words, place=place)[0]


def test_torchrun_is_static_and_never_restarts(tmp_path: Path) -> None:
    """Node rank, sizes and address on the command line; the user's words last and untouched."""
    argv = make_command(tmp_path).argv
    assert ("/usr/bin/python3", "-m", "torch.distributed.run") == argv[:3]
    assert ("train.py", "--epochs", "10") == argv[-3:]
    expected = {
        "--nnodes=2",
        "--node-rank=1",
        "--nproc-per-node=4",
        "--master-addr=digits-0.digits",
        "--master-port=29410",
        "--max-restarts=0",
        "--rdzv-id=digits-0-token",
        "--log-dir=/tmp/ranks/torchrun",
    }
    assert expected == set(argv[3:-3])


def test_spawn_follows_the_imagenet_convention(tmp_path: Path) -> None:
    """RANK and WORLD_SIZE count nodes; the script multiplies."""
    command = make_command(tmp_path, K8SDDP_LAUNCHER="spawn")
    assert ("/usr/bin/python3", "-u", "train.py", "--epochs", "10") == command.argv
    expected = {
        "MASTER_ADDR": "digits-0.digits",
        "MASTER_PORT": "29410",
        "NNODES": "2",
        "NODE_RANK": "1",
        "RANK": "1",
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "4",
    }
    assert expected == {name: command.env.get(name) for name in expected}


@pytest.mark.parametrize("kind", ["torchrun", "spawn"])
def test_inherited_names_are_scrubbed(tmp_path: Path, kind: str) -> None:
    """What would overrule the launcher, make a false rank, or show the join's key does not get through."""
    leaked = {"PET_NNODES": "9", "TORCHELASTIC_USE_AGENT_STORE": "True", "LOCAL_RANK": "3", "K8SDDP_RANK_PID": "7"}
    env = make_command(tmp_path, leaked, K8SDDP_LAUNCHER=kind).env
    assert [] == [name for name in (*leaked, "K8SDDP_JOB_UID") if name in env]


def test_soft_defaults_fill_what_is_missing(tmp_path: Path) -> None:
    """A bare uid in a read-only image still has a home, a name and sensible threads."""
    env = make_command(tmp_path, {"HOME": "/proc/1/none"}, K8SDDP_CPUS="32").env
    expected = {
        "HOME": str(tmp_path / "tmp"),
        "USER": "k8sddp",
        "LOGNAME": "k8sddp",
        "OMP_NUM_THREADS": "8",
        "PYTHONUNBUFFERED": "1",
        "GLOO_SOCKET_IFNAME": "lo",
        "NCCL_SOCKET_IFNAME": "=lo",
        "K8SDDP_ATTEMPT": "0",
        "K8SDDP_RANK_BASE": "4",
        "K8SDDP_RANK_DIR": "/tmp/ranks",
    }
    assert expected == {name: env.get(name) for name in expected}


def test_the_users_environment_wins(tmp_path: Path) -> None:
    """Every soft default yields; PYTHONPATH keeps the user's part behind ours."""
    own = {
        "HOME": str(tmp_path),
        "USER": "ann",
        "LOGNAME": "ann",
        "OMP_NUM_THREADS": "3",
        "PYTHONUNBUFFERED": "",
        "GLOO_SOCKET_IFNAME": "net1",
        "NCCL_SOCKET_IFNAME": "net2",
    }
    env = make_command(tmp_path, {**own, "PYTHONPATH": "/mine"}, K8SDDP_CPUS="32").env
    assert own == {name: env.get(name) for name in own}
    assert "/w/instrument:/mine" == env["PYTHONPATH"]


@pytest.mark.parametrize(("cpus", "threads"), [("0.5", "1"), ("4", "1"), ("9", "2"), ("", None)])
def test_threads_are_cpus_per_rank(tmp_path: Path, cpus: str, threads: str | None) -> None:
    """At least one; without a request torch decides."""
    assert threads == make_command(tmp_path, K8SDDP_CPUS=cpus).env.get("OMP_NUM_THREADS")


def test_the_interface_is_the_one_that_owns_the_address() -> None:
    """All of 127.0.0.0/8 is lo's; an address of nobody gives no name, so that torch decides."""
    found = [
        rank_env.interface_of(address) for address in ("127.0.0.1", "127.0.0.9", "::1", "192.0.2.1", "2001:db8::1")
    ]
    assert ["lo", "lo", "lo", "", ""] == found


def test_direct_gives_each_rank_the_contract_of_torchrun(tmp_path: Path) -> None:
    """Node 1 of 2 with four ranks each starts ranks 4 to 7; the agent's store, which nobody serves, is not named."""
    env = workers.make_env(1, tmp_path, 29400, K8SDDP_NNODES="2", K8SDDP_NPROC_PER_NODE="4", K8SDDP_LAUNCHER="direct")
    place = rank_env.Place("/usr/bin/python3", "/tmp/ranks", "/w/instrument", {**env, "TORCHELASTIC_X": "1"})
    commands = launcher.commands(node_env.parse(env), gangs.make_attempt(3), ("train.py",), place=place)
    assert [4, 5, 6, 7] == [command.rank for command in commands]
    assert {("/usr/bin/python3", "-u", "train.py")} == {command.argv for command in commands}
    expected = {
        "RANK": "6",
        "LOCAL_RANK": "2",
        "WORLD_SIZE": "8",
        "LOCAL_WORLD_SIZE": "4",
        "GROUP_RANK": "1",
        "GROUP_WORLD_SIZE": "2",
        "ROLE_RANK": "6",
        "ROLE_WORLD_SIZE": "8",
        "ROLE_NAME": "default",
        "MASTER_ADDR": "digits-0.digits",
        "MASTER_PORT": "29413",
        "TORCHELASTIC_RESTART_COUNT": "0",
        "TORCHELASTIC_MAX_RESTARTS": "0",
        "TORCHELASTIC_RUN_ID": "digits-3-token",
        "TORCHELASTIC_USE_AGENT_STORE": "False",
        "TORCHELASTIC_ERROR_FILE": "/tmp/ranks/error-2.json",
        "OMP_NUM_THREADS": "1",
        "K8SDDP_ATTEMPT": "3",
    }
    assert expected == {name: commands[2].env[name] for name in expected}
    assert "TORCHELASTIC_X" not in commands[2].env
