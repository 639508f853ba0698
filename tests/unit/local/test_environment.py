"""A local pod's environment is the container's, with this machine's paths, addresses and hosts."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from k8sddp import errors
from k8sddp.worker.contract import node_env
from tests.unit.local.builders import make_job, make_layout, make_template


def field(name: str, path: str) -> dict[str, Any]:
    """Return a variable from the downward API."""
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


def with_env(*entries: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Return a job with exactly these variables."""
    return make_job(container={"env": list(entries)}, **changes)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("metadata.name", "digits-1"),
        ("metadata.namespace", "local"),
        ("status.podIP", "127.0.0.3"),
        ("spec.nodeName", "laptop"),
        ("metadata.labels['batch.kubernetes.io/job-completion-index']", "1"),
        ("metadata.labels['batch.kubernetes.io/controller-uid']", "uid"),
        ("metadata.annotations['batch.kubernetes.io/job-index-failure-count']", "0"),
        ("metadata.annotations['batch.kubernetes.io/job-index-ignored-failure-count']", ""),
    ],
)
def test_the_downward_api_is_filled_in(path: str, expected: str) -> None:
    """Every field that the worker's contract uses has its value for the second pod."""
    assert expected == make_layout(with_env(field("X", path), nnodes=2))[1].env["X"]


def test_the_kubelets_dollar_rule_holds() -> None:
    """Earlier variables are expanded in values and arguments, `$$` is one dollar, unknown names stay."""
    env = {"A": "1", "B": "$(A)-$$(A)-$(C)", "C": "3"}

    (pod,) = make_layout(make_job(env=env, args=["$(B)", "$$x", "$(NO)"]))

    assert "1-$(A)-$(C)" == pod.env["B"]
    assert ("1-$(A)-$(C)", "$x", "$(NO)") == pod.argv[-3:]


def test_bind_addresses_and_the_coordinator_are_loopback() -> None:
    """Each pod binds its own address, and the coordinator's DNS name is the first pod's address."""
    entries = [
        {"name": node_env.BIND_HOST, "value": ""},
        {"name": node_env.COORDINATOR, "value": "digits-0.digits"},
        field(node_env.POD_IP, "status.podIP"),
    ]

    job = with_env(*entries, nnodes=2)
    pods = make_layout(job)

    names = (node_env.BIND_HOST, node_env.POD_IP, node_env.COORDINATOR)
    assert [("127.0.0.2",) * 3, ("127.0.0.3", "127.0.0.3", "127.0.0.2")] == [
        tuple(pod.env[name] for name in names) for pod in pods
    ]
    other = dataclasses.replace(make_template(job), block=3)
    assert ("127.0.3.3", "127.0.3.3", "127.0.3.2") == tuple(other.pod(1).env[name] for name in names)


def test_a_path_under_no_mount_lies_in_scratch() -> None:
    """The termination log, which the container runtime mounts, is a file of the pod's scratch folder."""
    (pod,) = make_layout(make_job(env={node_env.TERMINATION_LOG: "/dev/termination-log"}))

    assert "/scratch/pods/0/termination-log" == pod.env[node_env.TERMINATION_LOG] == str(pod.termination_log)


def test_this_python_comes_first_on_path() -> None:
    """`python3` in the image's command is the interpreter that runs k8sddp."""
    (pod,) = make_layout(make_job(), environ={"PATH": "/usr/bin"})

    assert "/venv/bin:/usr/bin" == pod.env["PATH"]


def test_the_containers_variables_win_over_the_machines() -> None:
    """What the spec sets is not overridden by the user's shell, by TMPDIR or by the share of GPUs."""
    env = {"HOME": "/h", "CUDA_VISIBLE_DEVICES": "3", "PATH": "/p"}

    (pod,) = make_layout(make_job(env=env), environ={"HOME": "/home/ada", "PATH": "/usr/bin"})

    assert env == {name: pod.env[name] for name in env}


@pytest.mark.parametrize(
    ("container", "words"),
    [
        pytest.param({"envFrom": [{"secretRef": {"name": "s3"}}]}, "envFrom secretRef 's3'", id="envFrom"),
        pytest.param(
            {"env": [{"name": "K", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]},
            "variable K comes from secretKeyRef",
            id="a secret's key",
        ),
        pytest.param({"env": [field("U", "metadata.uid")]}, "variable U comes from metadata.uid", id="a field"),
    ],
)
def test_values_from_a_cluster_are_refused(container: dict[str, Any], words: str) -> None:
    """The refusal names the variable or the source."""
    with pytest.raises(errors.LocalError, match=words):
        make_layout(make_job(container=container))


def test_the_volumes_that_are_looked_at_are_folders_here() -> None:
    """The contract's lists of paths are rewritten path by path."""
    entries = [{"name": node_env.WRITABLE, "value": '[["ckpt","/ckpt"],["other","/not/mounted"]]'}]
    volumes = {"volumes": [{"name": "ckpt", "emptyDir": {}}], "mounts": [{"name": "ckpt", "mountPath": "/ckpt"}]}
    (pod,) = make_layout(with_env(*entries, **volumes))
    (_, here), other = json.loads(pod.env[node_env.WRITABLE])
    assert (str(pod.folders.kept / "ckpt"), ["other", "/not/mounted"]) == (here, other)
