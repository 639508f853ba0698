"""The path of an apply: observe, diff, execute; what is there after each step, and after a second apply."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import datetime, timezone

import pytest

from k8sddp import cluster, constants, errors, manifest, plan
from k8sddp.manifest import Manifest
from k8sddp.plan import Plan, actions
from tests.contract.under_test import CHILDREN, UnderTest

# Service, ConfigMap of the worker, NetworkPolicy between the suspended Job and its start
STEPS = 5


def carry_out(plan: Plan, connection: cluster.Cluster, steps: slice) -> list[str]:
    """Execute a part of a plan, as a client does that dies afterwards; return the report."""
    lines: list[str] = []
    cluster.execute(dataclasses.replace(plan, actions=plan.actions[steps]), connection, report=lines.append)
    return lines


def is_suspended(one: Manifest) -> bool:
    """Return whether the Job controller has seen that the Job is suspended."""
    return manifest.condition(one, "Suspended") is not None


def test_execute_reports_every_object_once_in_order(cluster_under_test: UnderTest) -> None:
    """The Job comes last: it is created only when it runs."""
    name = cluster_under_test.name
    lines = cluster_under_test.apply(cluster_under_test.connect(), cluster_under_test.objects())
    expected = [
        f"service/{name} created",
        f"configmap/{name}-worker created",
        f"networkpolicy.networking.k8s.io/{name} created",
        f"job.batch/{name} created",
    ]
    assert expected == lines


def test_pods_appear_only_after_the_start(cluster_under_test: UnderTest) -> None:
    """Before its last step a creation is one inert Job, marked as incomplete."""
    connection, objects = cluster_under_test.connect(), cluster_under_test.objects()
    plan = cluster_under_test.diff(connection, objects)
    carry_out(plan, connection, slice(0, -1))
    job = cluster_under_test.job_is(connection, is_suspended)
    assert job["spec"]["suspend"]
    assert "true" == manifest.annotation(job, constants.ANNOTATION_INCOMPLETE)
    assert () == cluster_under_test.listed(connection, "v1", "Pod")
    cluster_under_test.apply(connection, objects)
    assert 2 == len(cluster_under_test.pods_are(connection, 2))


def test_started_job_keeps_neither_mark_nor_suspend_of_ours(cluster_under_test: UnderTest) -> None:
    """Nobody of ours owns `suspend` any more, so that Kueue or a person may set it without a conflict."""
    connection, objects = cluster_under_test.connect(), cluster_under_test.objects()
    cluster_under_test.apply(connection, objects)
    job = cluster_under_test.job_is(connection, lambda one: not one["spec"]["suspend"])
    assert "" == manifest.annotation(job, constants.ANNOTATION_INCOMPLETE)
    patch = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": cluster_under_test.name},
        "spec": {"suspend": True},
    }
    assert "configured" == connection.apply(patch, field_manager="somebody").outcome


def test_every_child_belongs_to_the_job_without_blocking_it(cluster_under_test: UnderTest) -> None:
    """blockOwnerDeletion is 403 for the role `edit` where OwnerReferencesPermissionEnforcement is on."""
    connection = cluster_under_test.connect()
    cluster_under_test.apply(connection, cluster_under_test.objects())
    job = connection.get(cluster_under_test.job_ref)
    assert job is not None
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": cluster_under_test.name, "uid": job["metadata"]["uid"]}
    children = [one for kind in CHILDREN for one in cluster_under_test.listed(connection, *kind)]
    assert [[owner]] * 3 == [one["metadata"]["ownerReferences"] for one in children]


def test_second_apply_changes_no_object(cluster_under_test: UnderTest) -> None:
    """Every line says unchanged, and every resourceVersion is the same."""
    connection, objects = cluster_under_test.connect(), cluster_under_test.objects(code={"path": "."})
    created = cluster_under_test.apply(connection, objects)
    cluster_under_test.pods_are(connection, 2)
    cluster_under_test.job_is(connection, lambda job: (job.get("status") or {}).get("active") == 2)
    before = cluster_under_test.versions(connection, objects)
    again = cluster_under_test.apply(connection, objects)
    assert [line.replace("created", "unchanged") for line in created] == again
    assert before == cluster_under_test.versions(connection, objects)


def test_lost_child_comes_back_with_the_next_apply(cluster_under_test: UnderTest) -> None:
    """Somebody deleted the Service: it is made again, with its owner, and nothing else is touched."""
    connection, objects = cluster_under_test.connect(), cluster_under_test.objects()
    cluster_under_test.apply(connection, objects)
    connection.delete(manifest.Ref("v1", "Service", cluster_under_test.name))
    lines = cluster_under_test.apply(connection, objects)
    assert ["created", "unchanged", "unchanged", "unchanged"] == [line.split()[-1] for line in lines]
    (service,) = cluster_under_test.listed(connection, "v1", "Service")
    assert cluster_under_test.name == service["metadata"]["ownerReferences"][0]["name"]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        pytest.param({"nnodes": 3}, "its spec changed (spec.nnodes: 2 -> 3)", id="nnodes"),
        pytest.param({"env": {"A": "secret"}}, "its spec changed (spec.env.A: added)", id="env"),
    ],
)
def test_changed_spec_is_refused(cluster_under_test: UnderTest, fields: dict[str, object], said: str) -> None:
    """The refusal names what changed and the command that does it; nothing is sent."""
    connection, objects = cluster_under_test.connect(), cluster_under_test.objects()
    cluster_under_test.apply(connection, objects)
    with pytest.raises(errors.RefusedError) as caught:
        cluster_under_test.apply(connection, cluster_under_test.objects(**fields))
    sentence = f"job.batch/{cluster_under_test.name} exists and {said}; "
    assert f"{sentence}`k8sddp apply FILE --replace` deletes it and starts anew" == str(caught.value)


def test_changed_code_is_refused(cluster_under_test: UnderTest) -> None:
    """Other code under the same spec is another training."""
    connection, objects = cluster_under_test.connect(), cluster_under_test.objects(code={"path": "."})
    cluster_under_test.apply(connection, objects)
    changed = [*objects[:-1], annotated(objects[-1], constants.ANNOTATION_CODE_DIGEST, "sha256:0123456789abcdef")]
    with pytest.raises(errors.RefusedError, match=r"exists and its code changed \(digest \w{12} -> 0123456789ab\)"):
        cluster_under_test.apply(connection, changed)


def annotated(one: Manifest, key: str, value: str) -> Manifest:
    """Return the object with one annotation set."""
    metadata = one["metadata"]
    return {**one, "metadata": {**metadata, "annotations": {**metadata["annotations"], key: value}}}


def test_upgrade_of_k8sddp_leaves_a_running_job_alone(cluster_under_test: UnderTest) -> None:
    """Digests of spec and code are compared, not what another version would render."""
    connection, objects = cluster_under_test.connect(), cluster_under_test.objects()
    cluster_under_test.apply(connection, objects)
    newer = [*objects[:-1], annotated(objects[-1], constants.ANNOTATION_VERSION, "99.0.0")]
    lines = cluster_under_test.apply(connection, newer)
    assert ["unchanged"] * 4 == [line.split()[-1] for line in lines]


def test_replace_deletes_waits_and_creates(cluster_under_test: UnderTest) -> None:
    """A new Job with children of its own; no pod of the old one is left."""
    connection = cluster_under_test.connect()
    cluster_under_test.apply(connection, cluster_under_test.objects())
    old = uids(cluster_under_test, connection, cluster_under_test.objects())
    cluster_under_test.pods_are(connection, 2)
    lines = cluster_under_test.apply(connection, cluster_under_test.objects(nnodes=3), replace=True)
    assert ["deleted"] * 4 + ["created"] * 4 == [line.split()[-1] for line in lines]
    assert set() == old & uids(cluster_under_test, connection, cluster_under_test.objects())
    cluster_under_test.pods_are(connection, 3)


def uids(under_test: UnderTest, connection: cluster.Cluster, objects: Sequence[Manifest]) -> set[str]:
    """Return the uids of the objects as they are in the cluster."""
    return {one["metadata"]["uid"] for one in cluster.observe(connection, objects).objects.values()}


@pytest.mark.parametrize("step", range(1, STEPS))
def test_half_made_job_is_finished_by_the_next_apply(cluster_under_test: UnderTest, step: int) -> None:
    """Wherever the client died, the same command leads to the same end."""
    connection, objects = cluster_under_test.connect(), cluster_under_test.objects()
    plan = cluster_under_test.diff(connection, objects)
    assert STEPS == len(plan.actions)
    carry_out(plan, connection, slice(0, step))
    cluster_under_test.apply(connection, objects)
    assert 4 == len(cluster_under_test.versions(connection, objects))
    cluster_under_test.pods_are(connection, 2)
    assert ["unchanged"] * 4 == [line.split()[-1] for line in cluster_under_test.apply(connection, objects)]


@pytest.mark.parametrize("step", range(1, STEPS + 1))
def test_half_made_job_is_removed_by_delete(cluster_under_test: UnderTest, step: int) -> None:
    """One command removes whatever exists."""
    connection, objects = cluster_under_test.connect(), cluster_under_test.objects()
    carry_out(cluster_under_test.diff(connection, objects), connection, slice(0, step))
    cluster.delete(connection, cluster_under_test.name, report=lambda _line: None)
    assert cluster_under_test.is_gone(connection)


def test_half_made_job_of_another_version_is_made_anew(cluster_under_test: UnderTest) -> None:
    """Its template may differ and cannot be changed; no pod has run, so nothing is lost."""
    connection, objects = cluster_under_test.connect(), cluster_under_test.objects()
    older = [*objects[:-1], annotated(objects[-1], constants.ANNOTATION_VERSION, "0.0.1")]
    carry_out(cluster_under_test.diff(connection, older), connection, slice(0, 3))
    plan = cluster_under_test.diff(connection, objects)
    assert isinstance(plan.actions[0], actions.DeleteJob)
    cluster_under_test.apply(connection, objects)
    cluster_under_test.pods_are(connection, 2)


def test_delete_removes_the_job_with_its_children_and_pods(cluster_under_test: UnderTest) -> None:
    """A raw DELETE of a Job would leave its pods."""
    connection = cluster_under_test.connect()
    cluster_under_test.apply(connection, cluster_under_test.objects())
    cluster_under_test.pods_are(connection, 2)
    lines: list[str] = []
    cluster.delete(connection, cluster_under_test.name, report=lines.append)
    assert [f"job.batch/{cluster_under_test.name} deleted"] == lines
    assert cluster_under_test.is_gone(connection)
    with pytest.raises(errors.NotFoundError, match="there is no job"):
        cluster.delete(connection, cluster_under_test.name, report=lines.append)


def test_what_is_not_ours_stands_in_the_way_and_stays(cluster_under_test: UnderTest) -> None:
    """Somebody's Service of that name is named, and nothing is created beside it."""
    connection, objects = cluster_under_test.connect(), cluster_under_test.objects()
    ports = {"clusterIP": "None", "ports": [{"port": 80}]}
    metadata = {"name": cluster_under_test.name}
    stored = connection.apply({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": ports}).manifest
    with pytest.raises(errors.RefusedError, match=f"service/{cluster_under_test.name} exists and is not of this job"):
        cluster_under_test.apply(connection, objects)
    assert 1 == len(cluster_under_test.versions(connection, objects))
    connection.delete(manifest.ref_of(stored))


def test_a_failure_on_the_way_says_what_exists_and_how_to_go_on(cluster_under_test: UnderTest) -> None:
    """The Job is inert, the next apply finishes it."""
    connection, objects = cluster_under_test.connect(), cluster_under_test.objects()
    policy = objects[2]
    broken = [*objects[:2], {**policy, "spec": {**policy["spec"], "bogus": 1}}, objects[-1]]
    with pytest.raises(errors.InvalidError) as caught:
        cluster_under_test.apply(connection, broken)
    name = cluster_under_test.name
    assert f"so far job.batch/{name}, service/{name}, configmap/{name}-worker exist (suspended: no pod runs)" in str(
        caught.value
    )
    cluster_under_test.apply(connection, objects)
    cluster_under_test.pods_are(connection, 2)


QUEUE = {constants.LABEL_KUEUE_QUEUE: "team-a"}


def queued(under_test: UnderTest) -> Sequence[Manifest]:
    """Return the rendered objects of a job that a Kueue queue starts."""
    return under_test.objects(metadata={"name": under_test.name, "labels": QUEUE})


def stays_inert(under_test: UnderTest, connection: cluster.Cluster) -> Manifest:
    """Return the Job once the Job controller has seen it, suspended; it has no pod."""
    job = under_test.job_is(connection, is_suspended)
    assert job["spec"]["suspend"]
    assert () == under_test.listed(connection, "v1", "Pod")
    return job


def test_a_queued_job_is_created_suspended_and_never_started(cluster_under_test: UnderTest) -> None:
    """Kueue starts it when the queue has room; before, not even for a moment, is there a pod."""
    connection, objects = cluster_under_test.connect(), queued(cluster_under_test)
    assert isinstance(cluster_under_test.diff(connection, objects).actions[-1], actions.LeaveToQueue)
    lines = cluster_under_test.apply(connection, objects)
    assert ["created"] * 4 == [line.split()[-1] for line in lines]
    job = stays_inert(cluster_under_test, connection)
    assert "" == manifest.annotation(job, constants.ANNOTATION_INCOMPLETE)
    assert "Queued" == plan.status(job, (), (), now=datetime.now(timezone.utc)).state
    children = [one for kind in CHILDREN for one in cluster_under_test.listed(connection, *kind)]
    assert [job["metadata"]["uid"]] * 3 == [one["metadata"]["ownerReferences"][0]["uid"] for one in children]


def test_applying_a_queued_job_again_changes_nothing(cluster_under_test: UnderTest) -> None:
    """It waits on; no version moves."""
    connection, objects = cluster_under_test.connect(), queued(cluster_under_test)
    cluster_under_test.apply(connection, objects)
    stays_inert(cluster_under_test, connection)
    before = cluster_under_test.versions(connection, objects)
    lines = cluster_under_test.apply(connection, objects)
    assert ["unchanged"] * 4 == [line.split()[-1] for line in lines]
    assert before == cluster_under_test.versions(connection, objects)
    stays_inert(cluster_under_test, connection)


def test_a_queued_job_runs_when_its_queue_starts_it_and_stays_so_at_the_next_apply(
    cluster_under_test: UnderTest,
) -> None:
    """Kueue unsuspends by an update of its own, and no apply of ours owns or sends that field."""
    connection, objects = cluster_under_test.connect(), queued(cluster_under_test)
    cluster_under_test.apply(connection, objects)
    stays_inert(cluster_under_test, connection)
    connection.patch(cluster_under_test.job_ref, {"spec": {"suspend": False}})
    cluster_under_test.pods_are(connection, 2)
    cluster_under_test.apply(connection, objects)
    job = cluster_under_test.job_is(connection, lambda one: not one["spec"]["suspend"])
    owners = [one for one in job["metadata"].get("managedFields") or () if one["operation"] == "Apply"]
    assert not [one for one in owners if "f:suspend" in one["fieldsV1"].get("f:spec", {})]
    assert 2 == len(cluster_under_test.listed(connection, "v1", "Pod"))


@pytest.mark.parametrize("step", range(1, STEPS))
def test_a_half_made_queued_job_is_finished_without_being_started(cluster_under_test: UnderTest, step: int) -> None:
    """Wherever the client died: only the mark goes."""
    connection, objects = cluster_under_test.connect(), queued(cluster_under_test)
    carry_out(cluster_under_test.diff(connection, objects), connection, slice(0, step))
    cluster_under_test.apply(connection, objects)
    job = stays_inert(cluster_under_test, connection)
    assert "" == manifest.annotation(job, constants.ANNOTATION_INCOMPLETE)
    assert ["unchanged"] * 4 == [line.split()[-1] for line in cluster_under_test.apply(connection, objects)]


def test_a_patch_changes_single_fields(cluster_under_test: UnderTest) -> None:
    """What it does not name stays; null removes."""
    connection = cluster_under_test.connect()
    ref = manifest.ref_of(connection.apply(cluster_under_test.config_map(a="1", b="2")).manifest)
    assert {"a": "1", "c": "3"} == connection.patch(ref, {"data": {"b": None, "c": "3"}})["data"]
    connection.delete(ref)


def test_delete_takes_what_kubectl_applied_without_owners(cluster_under_test: UnderTest) -> None:
    """`render | kubectl apply` knows no uid of the Job, so nothing goes with it by itself."""
    connection = cluster_under_test.connect()
    for one in cluster_under_test.objects():
        connection.apply(one)
    cluster.delete(connection, cluster_under_test.name, report=lambda _line: None)
    assert cluster_under_test.is_gone(connection)


def test_delete_leaves_what_somebody_else_manages(cluster_under_test: UnderTest) -> None:
    """Its label names the job, and another manager."""
    connection = cluster_under_test.connect()
    foreign = cluster_under_test.config_map(a="1")
    foreign["metadata"]["labels"][constants.LABEL_APP_MANAGED_BY] = "Helm"
    ref = manifest.ref_of(connection.apply(foreign).manifest)
    cluster_under_test.apply(connection, cluster_under_test.objects())
    cluster.delete(connection, cluster_under_test.name, report=lambda _line: None)
    assert connection.get(ref) is not None
    connection.delete(ref)
    assert cluster_under_test.is_gone(connection)
