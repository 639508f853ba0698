"""Ranks and nodes of a job as a command checks them."""

from __future__ import annotations

import pytest

from k8sddp import errors
from k8sddp.cli import jobs
from tests.unit.render.jobs import make_indexed_job


def test_shape_is_read_from_what_the_pods_are_told() -> None:
    """No second place says how many ranks there are."""
    shape = jobs.shape(make_indexed_job(nnodes=3, nprocPerNode=4))
    assert (3, 4) == (shape.nnodes, shape.nproc_per_node)
    assert [0, 0, 1, 2] == [shape.check_rank(rank) for rank in (0, 3, 4, 11)]
    assert ["0-3", "8-11"] == [shape.ranks(node) for node in (0, 2)]


@pytest.mark.parametrize("rank", [-1, 12])
def test_rank_outside_is_refused_with_the_range(rank: int) -> None:
    """The user learns which ranks there are."""
    with pytest.raises(errors.UsageError, match=rf"--rank {rank}: digits has ranks 0 to 11"):
        jobs.Shape("digits", 3, 4).check_rank(rank)


def test_node_outside_is_refused_with_the_range() -> None:
    """One node has a sentence of its own."""
    with pytest.raises(errors.UsageError, match="--node 1: digits has node 0 only"):
        jobs.Shape("digits", 1, 4).check_node(1)


def test_name_may_be_written_as_kubectl_prints_it() -> None:
    """What is copied from another command's output works."""
    assert ["digits", "digits"] == [jobs.bare("job.batch/digits"), jobs.bare("digits")]


@pytest.mark.parametrize("label", ["app.kubernetes.io/managed-by", "k8sddp.dev/job"])
def test_a_job_of_somebody_else_is_refused_by_what_it_lacks(label: str) -> None:
    """What `delete` and `apply` do not take for ours, `get` and `logs` do not either."""
    job = make_indexed_job()
    jobs.check_ours(job)
    job["metadata"]["labels"] |= {label: "other"}
    with pytest.raises(errors.RefusedError, match=rf"digits was not made by k8sddp \(it has no label {label}="):
        jobs.check_ours(job)


@pytest.mark.parametrize("env", [None, [], [{"name": "NNODES", "value": "two"}]])
def test_a_job_that_only_has_our_labels_is_refused(env: list[dict[str, str]] | None) -> None:
    """Somebody wrote it after ours, or took the container out."""
    job = make_indexed_job()
    (container,) = job["spec"]["template"]["spec"]["containers"]
    container |= {"name": "main"} if env is None else {"env": env}
    with pytest.raises(errors.RefusedError, match=r"digits has k8sddp's labels, .*; use kubectl for it"):
        jobs.shape(job)
