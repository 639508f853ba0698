"""The Job's pods are laid out by index, with a working directory, or refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from k8sddp import errors
from k8sddp.worker import node_env
from tests.unit.local.builders import make_job, make_layout


def test_each_completion_is_a_pod() -> None:
    """Pods have the names and indexes that an Indexed Job gives them."""
    assert [(0, "digits-0"), (1, "digits-1")] == [(pod.index, pod.name) for pod in make_layout(make_job(nnodes=2))]


WORK = {"volumes": [{"name": "v", "emptyDir": {}}], "mounts": [{"name": "v", "mountPath": "/k8sddp/work"}]}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({}, "/home/ada/project", id="without code: where the user stands"),
        pytest.param(WORK | {"env": {node_env.WORK_DIR: "/k8sddp/work"}}, "/scratch/0/work", id="with code"),
        pytest.param(
            WORK | {"container": {"workingDir": "/k8sddp/work"}}, "/work/digits/digits-0/volumes/v", id="workingDir"
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
