"""The Job's pods are laid out by index, with a working directory, or refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from k8sddp import errors
from k8sddp.worker.contract import node_env
from tests.unit.local.builders import make_job, make_layout, make_template


def test_each_completion_is_a_pod() -> None:
    """Pods have the names and indexes that an Indexed Job gives them."""
    assert [(0, "digits-0"), (1, "digits-1")] == [(pod.index, pod.name) for pod in make_layout(make_job(nnodes=2))]


def test_a_replacement_has_a_name_and_folders_of_its_own() -> None:
    """The same address, program and kept volumes; a new name, new scratch folders and what the Job has counted."""
    template = make_template(make_job(nnodes=2))

    first, second = template.pod(1), template.pod(1, ordinal=2, failures=1, ignored=3)

    assert (
        ("digits-1", "digits-1-2")
        == (first.name, second.name)
        == tuple(pod.env[node_env.POD_NAME] for pod in (first, second))
    )
    assert (Path("/scratch/pods/1"), Path("/memory/1")) == (first.folders.scratch, first.folders.memory)
    assert (Path("/scratch/pods/1-2"), Path("/memory/1-2")) == (second.folders.scratch, second.folders.memory)
    assert first.folders.kept == second.folders.kept
    assert first.termination_log != second.termination_log
    assert (first.argv, first.index) == (second.argv, second.index)
    assert [("0", ""), ("1", "3")] == [
        (pod.env[node_env.FAILURE_COUNT], pod.env[node_env.IGNORED_COUNT]) for pod in (first, second)
    ]


WORK = {"volumes": [{"name": "v", "emptyDir": {}}], "mounts": [{"name": "v", "mountPath": "/k8sddp/work"}]}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({}, "/home/ada/project", id="without code: where the user stands"),
        pytest.param(
            WORK | {"env": {node_env.WORK_DIR: "/k8sddp/work"}}, "/kept/digits/files/digits-0", id="with code"
        ),
        pytest.param(
            WORK | {"container": {"workingDir": "/k8sddp/work"}}, "/kept/digits/digits-0/volumes/v", id="workingDir"
        ),
    ],
)
def test_the_working_directory(changes: dict[str, Any], expected: str) -> None:
    """A pod starts in its code, else in the user's current folder."""
    assert Path(expected) == make_layout(make_job(**changes))[0].cwd


def test_the_grace_period_is_the_pods() -> None:
    """The seconds between SIGTERM and SIGKILL come from the manifest."""
    assert 7.0 == make_layout(make_job(grace=7))[0].grace_period


def test_more_pods_than_addresses_are_refused() -> None:
    """127.0.0.2 to 127.0.0.254 are 253 addresses."""
    assert "127.0.0.254" == make_layout(make_job(nnodes=253, env={node_env.POD_IP: "x"}))[252].env[node_env.POD_IP]
    with pytest.raises(errors.LocalError, match="254 pods need an address each"):
        make_layout(make_job(nnodes=254))


def test_a_run_needs_exactly_one_job() -> None:
    """Manifests without a Job, or with two, are refused."""
    with pytest.raises(errors.LocalError, match="2 Jobs"):
        make_layout(make_job(), make_job())


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        pytest.param("/tmp/venv/bin/python", "/tmp/venv/bin/python", id="in our scratch: this machine's"),
        pytest.param("/envs/bin/python", "/kept/digits/volumes/c/bin/python", id="in a volume of the user's"),
    ],
)
def test_the_program_may_lie_in_a_volume(program: str, expected: str) -> None:
    """A pod's own /tmp starts empty, so an interpreter in /tmp is this machine's."""
    volumes = [{"name": "t", "emptyDir": {}}, {"name": "e", "persistentVolumeClaim": {"claimName": "c"}}]
    mounts = [{"name": "t", "mountPath": "/tmp"}, {"name": "e", "mountPath": "/envs"}]
    env = {node_env.SCRATCH_DIR: "/tmp"}

    (pod,) = make_layout(make_job(command=[program], env=env, volumes=volumes, mounts=mounts))

    assert expected == pod.argv[0]
