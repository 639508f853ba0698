"""`k8sddp preflight`: the job that it makes, and what it shows of the nodes' lines."""

from __future__ import annotations

import json

import pytest

from k8sddp import render, spec
from k8sddp.cli import preflight
from k8sddp.worker.contract import finding, node_env


def make_job(name: str = "digits", nnodes: int = 2, **fields: object) -> spec.DDPJob:
    """Return a job."""
    asked = {"image": "img", "command": ["train.py"], "nnodes": nnodes, **fields}
    job = {"apiVersion": "k8sddp.dev/v1alpha1", "kind": "DDPJob", "metadata": {"name": name}, "spec": asked}
    return spec.load(json.dumps(job))


@pytest.mark.parametrize(
    ("name", "nnodes", "expected"),
    [
        pytest.param("digits", 2, "digits-preflight", id="short"),
        pytest.param("d" * 56, 2, "d" * 46 + "-preflight", id="longest"),
        pytest.param("d" * 45 + "-" + "e" * 10, 2, "d" * 45 + "-preflight", id="cut at a dash"),
        pytest.param("d" * 56, 4096, "d" * 46 + "-preflight", id="many nodes"),
    ],
)
def test_the_name_is_the_jobs_own_as_far_as_it_fits(name: str, nnodes: int, expected: str) -> None:
    """With the longest generated name within a DNS label, so the API server takes all of them."""
    job = preflight.checked_only(make_job(name, nnodes), limit=60)
    assert expected == job.name
    found = render.render(job, code=None, only_preflight=True)
    longest = [one["metadata"]["name"] for one in found] + [f"{job.name}-{nnodes - 1}"]
    assert max(map(len, longest)) <= 63
    spec.load(json.dumps({"apiVersion": job.api_version, "kind": "DDPJob", **spec.canonical(job)}))


def test_the_pods_are_those_of_the_job_but_for_one_variable() -> None:
    """Same image, resources, volumes, scheduling and environment: rendered by the same functions."""
    volume = {"name": "data", "mountPath": "/data", "persistentVolumeClaim": {"claimName": "a"}}
    job = make_job(
        "a-preflight", resources={"memory": "1Gi"}, volumes=[volume], scheduling={"nodeSelector": {"zone": "moon"}}
    )
    plain = render.render(job, code=None)[-1]["spec"]["template"]
    checked = render.render(job, code=None, only_preflight=True)[-1]["spec"]["template"]
    env = checked["spec"]["containers"][0]["env"]
    assert [{"name": node_env.ONLY_PREFLIGHT, "value": "1"}] == [
        one for one in env if one not in plain["spec"]["containers"][0]["env"]
    ]
    env.remove({"name": node_env.ONLY_PREFLIGHT, "value": "1"})
    assert plain == checked


@pytest.mark.parametrize(
    ("given", "expected"), [(None, 660), (100, 100), (100000, 660)], ids=["none", "a short one", "a long one"]
)
def test_the_job_ends_and_removes_itself_should_nobody_do_it(given: int | None, expected: int) -> None:
    """A command that is killed leaves nothing for long."""
    fields = {} if given is None else {"activeDeadlineSeconds": given}
    job = preflight.checked_only(make_job(**fields), limit=600)
    assert (expected, 60) == (job.spec.active_deadline_seconds, job.spec.ttl_seconds_after_finished)


def said(node: int, *levels: str) -> list[bytes]:
    """Return what a worker's log says of a node with findings of these levels."""
    found = [finding.Finding("ports", level, "it is so") for level in levels]
    lines = finding.lines(finding.node_name(node, f"digits-{node}"), found, seconds=0.03)
    return [f"[k8sddp] {line}\n".encode() for line in lines]


def test_a_line_is_shown_once_and_without_what_all_begin_with(capsys: pytest.CaptureFixture[str]) -> None:
    """It stands in the node's own log and in node 0's."""
    lines = preflight.Lines()
    (passed,) = said(1, finding.OK)
    assert [True, False] == [lines.take(passed), lines.take(passed)]
    assert [False, False] == [lines.take(b"[rank 0] preflight"), lines.take(b"[k8sddp] all 2 nodes have joined")]
    assert "node 1 (pod digits-1): 1 check passed in 0.03 s\n" == capsys.readouterr().out


def test_a_node_that_does_not_find_node_0_is_heard(capsys: pytest.CaptureFixture[str]) -> None:
    """It can tell nobody else."""
    assert preflight.Lines().take(b"[k8sddp] node 1 looks for node 0, 31 s so far: digits-0 port 29400: no answer")
    shown = capsys.readouterr()
    assert ("", "node 1 looks for node 0, 31 s so far: digits-0 port 29400: no answer\n") == shown


@pytest.mark.parametrize(
    ("levels", "result"),
    [
        pytest.param([[finding.OK], [finding.OK]], "2 nodes checked", id="well"),
        pytest.param([[finding.WARNING], [finding.OK]], "2 nodes checked, 1 warning", id="warning"),
        pytest.param([[finding.WARNING], [finding.PROBLEM]], "1 of 2 nodes with problems, 1 warning", id="problem"),
    ],
)
def test_the_last_line_counts(levels: list[list[str]], result: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Nodes with problems, not problems."""
    lines = preflight.Lines()
    for node, of_node in enumerate(levels):
        for line in said(node, *of_node):
            lines.take(line)
    capsys.readouterr()
    assert result == lines.result(2)
