"""The preflight of jobs that run here: `preflight --local`, and what `preflight: fail | warn | skip` does to a run."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.local.cluster_users import User, user
from tests.unit.cli import program

__all__ = ["user"]

needs_torch = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="torch is not installed: pip install 'k8sddp[torch]'"
)
JOB = """\
apiVersion: k8sddp.dev/v1alpha1
kind: DDPJob
metadata: {name: small}
spec:
  image: none
  launcher: direct
  nnodes: 2
"""
GOOD = JOB + "  command: [train.py]\n  code: {path: .}\n"
BAD = JOB + "  command: [/nowhere/train.py]\n"


def write(folder: Path, text: str) -> None:
    """Write a job file, and a script that must not run."""
    (folder / "job.yaml").write_text(text)
    (folder / "train.py").write_text("open('ran', 'w')\n")


@needs_torch
@pytest.mark.usefixtures("nothing_left")
def test_two_nodes_pass_here_and_leave_nothing(tmp_path: Path) -> None:
    """One line per node on stdout, the rest on stderr; no folder is left, and no script has run."""
    write(tmp_path, GOOD + "  volumes: [{name: data, mountPath: /data, emptyDir: {}}]\n")
    ended = program.k8sddp("preflight", "--local", "job.yaml", cwd=tmp_path)
    assert 0 == ended.code, ended
    assert ["node 0 (pod small-preflight-0)", "node 1 (pod small-preflight-1)"] == sorted(
        line.partition(":")[0] for line in ended.out.splitlines()
    )
    assert all(": 8 checks passed in " in line for line in ended.out.splitlines())
    assert "2 nodes checked" == ended.err.splitlines()[-1]
    assert ["job.yaml", "tmp", "train.py"] == sorted(path.name for path in tmp_path.iterdir())


@needs_torch
def test_a_problem_is_told_for_each_node_and_other_files_stay(tmp_path: Path) -> None:
    """77; what other jobs keep in the work folder is theirs."""
    write(tmp_path, BAD)
    (tmp_path / ".k8sddp" / "small").mkdir(parents=True)
    ended = program.k8sddp("preflight", "--local", "job.yaml", cwd=tmp_path)
    assert 77 == ended.code, ended
    said = "problem: script: the script /nowhere/train.py is not in "
    assert [0, 1] == sorted(int(line.split()[1]) for line in ended.out.splitlines() if said in line)
    assert "2 of 2 nodes with problems" in ended.err
    assert ["small"] == [path.name for path in (tmp_path / ".k8sddp").iterdir()]


@needs_torch
@pytest.mark.parametrize(
    ("mode", "code", "said"),
    [
        pytest.param("fail", 77, False, id="fail"),
        pytest.param("warn", 2, True, id="warn"),
        pytest.param('"off"', 2, False, id="off"),
    ],
)
def test_a_run_does_with_a_problem_what_it_is_told_to(tmp_path: Path, mode: str, code: int, said: bool) -> None:
    """`fail` starts no rank; with the others Python itself finds that the script is not there, and exits with 2."""
    write(tmp_path, BAD + f"  preflight: {mode}\n  restart: {{maxAttempts: 1}}\n")
    ended = program.k8sddp("run", "--local", "job.yaml", cwd=tmp_path)
    assert code == ended.code, ended
    line = "problem: script: the script /nowhere/train.py is not in"
    assert said is (line in ended.out)
    assert (code == 77) is ("attempt 0 starts" not in ended.out)


def until_it_waits(process: subprocess.Popen[str]) -> None:
    """Read what a preflight says until it waits for its pods, so that they are there."""
    assert process.stderr is not None
    assert any(line.startswith("waiting") for line in process.stderr)


def test_options_of_a_cluster_are_refused_with_local(tmp_path: Path) -> None:
    """As in `run`."""
    write(tmp_path, GOOD)
    ended = program.k8sddp("preflight", "--local", "job.yaml", "-n", "research", cwd=tmp_path)
    assert (2, "") == (ended.code, ended.out)
    assert "the options that name a cluster are not for --local" in ended.err


def test_a_preflight_whose_pods_do_not_come_ends_and_leaves_nothing(user: User) -> None:
    """Exit code 4 with what it waits for; every object that it made is deleted."""
    ended = user.says("preflight", "job.yaml", "--timeout", "1s")
    assert (4, "") == (ended.code, ended.out)
    assert "error: digits-preflight has not ended after 1 s: node 0 (pod digits-preflight-0-" in ended.err
    assert [] == [name for name in user.fake.names("events") if "digits" in name]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda one: one.name)
def test_an_interrupted_preflight_leaves_nothing(user: User, number: signal.Signals) -> None:
    """Whoever ends it, by Ctrl-C, a scheduler or a closed terminal."""
    with user.starts("preflight", "job.yaml") as process:
        until_it_waits(process)
        process.send_signal(number)
        assert 130 == process.wait(60)
    assert [] == [name for name in user.fake.names("events") if "digits" in name]


def test_a_job_of_that_name_that_trains_is_not_touched(user: User) -> None:
    """Somebody may call a job so."""
    user.write(metadata={"name": "digits-preflight"})
    user.says("apply", "job.yaml")
    before = user.fake.object("jobs", "digits-preflight")
    user.write()
    assert "job digits-preflight exists and is no preflight" in user.refused("preflight", "job.yaml")
    assert before == user.fake.object("jobs", "digits-preflight")


def test_one_preflight_of_a_job_runs_at_a_time(user: User) -> None:
    """The second is refused and deletes nothing of the first."""
    with user.starts("preflight", "job.yaml") as process:
        until_it_waits(process)
        said = user.refused("preflight", "job.yaml")
        assert "a preflight of this job is running (digits-preflight)" in said
        assert user.fake.object("jobs", "digits-preflight") is not None
        process.send_signal(signal.SIGINT)
        process.wait(60)


def test_what_a_killed_preflight_left_is_replaced(user: User) -> None:
    """Its Job has ended by its deadline; the next one starts anew."""
    with user.starts("preflight", "job.yaml") as process:
        until_it_waits(process)
        os.kill(process.pid, signal.SIGKILL)
        process.wait(60)
    user.fake.end_container(user.fake.pod("digits-preflight", 0), 77)
    ended = user.says("preflight", "job.yaml", "--timeout", "1s")
    assert 4 == ended.code
    assert [] == [name for name in user.fake.names("events") if "digits" in name]


def test_a_preflight_of_two_nodes_shows_each_once(user: User) -> None:
    """A node says it in its own log and node 0 in its; 0 when the Job is complete."""
    with user.starts("preflight", "job.yaml") as process:
        lines = [
            b"[k8sddp] preflight of node %d (pod p%d): 9 checks passed in 0.03 s" % (node, node) for node in (0, 1)
        ]
        until_it_waits(process)
        pods = [user.fake.pod("digits-preflight", index) for index in range(2)]
        for pod in pods:
            user.fake.run_pod(pod)
        user.fake.write_log(pods[0], *lines)
        user.fake.write_log(pods[1], lines[1])
        for pod in reversed(pods):
            user.fake.end_container(pod, 0)
        out, err = process.communicate(timeout=60)
    assert 0 == process.returncode, err
    assert [f"node {node} (pod p{node}): 9 checks passed in 0.03 s" for node in (0, 1)] == sorted(out.splitlines())
    assert "2 nodes checked" == err.splitlines()[-1]
    assert [] == [name for name in user.fake.names("events") if "digits" in name]
