"""What an apply would do: create, finish, repair, leave alone, replace, refuse."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from k8sddp import constants, plan
from k8sddp.manifest import Manifest, ref_of
from k8sddp.plan import actions, snapshot
from tests.unit.plan.observed import JOB_UID, observed, stored, with_annotation
from tests.unit.render import jobs

CODE = {"path": "."}


def names(steps: Sequence[actions.Action]) -> list[str]:
    """Return each action with its object: `ApplyChild service/digits`."""
    return [f"{type(step).__name__} {step.ref if hasattr(step, 'ref') else ref_of(step.manifest)}" for step in steps]


def refusal(desired: Sequence[Manifest], existing: Sequence[Manifest], *, replace: bool = False) -> str:
    """Return why the plan is refused; a refusal has no actions."""
    found = plan.diff(desired, snapshot.of(existing), replace=replace)
    assert () == found.actions
    return found.refusal


def test_new_job_is_created_suspended_before_its_children_and_started_last() -> None:
    """A client that dies in between leaves one inert Job that owns all the rest."""
    steps = plan.diff(jobs.make_objects(code=CODE), snapshot.Snapshot(), replace=False).actions
    assert [
        "CreateSuspendedJob job.batch/digits",
        "ApplyChild service/digits",
        "ApplyChild configmap/digits-worker",
        "ApplyChild configmap/digits-code",
        "ApplyChild networkpolicy.networking.k8s.io/digits",
        "StartJob job.batch/digits",
    ] == names(steps)


def test_same_job_again_is_unchanged_and_only_what_can_change_is_applied() -> None:
    """Service and NetworkPolicy are applied again; ConfigMaps and the Job are left."""
    rendered = jobs.make_objects(code=CODE)
    found = plan.diff(rendered, observed(rendered), replace=False)
    assert [
        "ApplyChild service/digits",
        "Unchanged configmap/digits-worker",
        "Unchanged configmap/digits-code",
        "ApplyChild networkpolicy.networking.k8s.io/digits",
        "Unchanged job.batch/digits",
    ] == names(found.actions)
    assert JOB_UID == found.owner_uid
    assert "7" == found.actions[0].observed_version  # type: ignore[union-attr]


def test_upgrade_of_k8sddp_changes_nothing() -> None:
    """Another version, worker and template with the same spec and code: the running job stays as it is."""
    old = observed(jobs.make_objects()).objects
    new = []
    for one in jobs.make_objects():
        upgraded: dict[str, Any] = {**one}
        if "binaryData" in one:
            upgraded["binaryData"] = {"worker.pyz": "AAAA"}
        if one["kind"] == "Job":
            upgraded = with_annotation(one, constants.ANNOTATION_VERSION, "99.0")
            upgraded["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = 99
        new.append(upgraded)
    steps = names(plan.diff(new, snapshot.Snapshot(old), replace=False).actions)
    assert {"Unchanged configmap/digits-worker", "Unchanged job.batch/digits"} <= {*steps}
    assert not [step for step in steps if "Job" in step.split()[0]]


@pytest.mark.parametrize("kind", ["Service", "ConfigMap", "NetworkPolicy"])
def test_missing_child_is_made_again(kind: str) -> None:
    """Somebody deleted it; the Job stays."""
    rendered = jobs.make_objects()
    steps = plan.diff(rendered, observed(rendered, but=kind), replace=False).actions
    missing = next(ref_of(one) for one in rendered if one["kind"] == kind)
    assert f"ApplyChild {missing}" in names(steps)
    assert "Unchanged job.batch/digits" in names(steps)


def test_interrupted_creation_is_finished() -> None:
    """The mark says that nothing has run; what is there is kept, the rest is made, the Job is started."""
    rendered = jobs.make_objects(code=CODE)
    half = stored(with_annotation(rendered[-1], constants.ANNOTATION_INCOMPLETE, "true"))
    found = plan.diff(rendered, snapshot.of([half, stored(rendered[1])]), replace=False)
    assert [
        "ApplyChild service/digits",
        "Unchanged configmap/digits-worker",
        "ApplyChild configmap/digits-code",
        "ApplyChild networkpolicy.networking.k8s.io/digits",
        "StartJob job.batch/digits",
    ] == names(found.actions)
    assert JOB_UID == found.owner_uid


def test_interrupted_creation_by_another_version_is_made_anew() -> None:
    """Its template may differ and cannot be changed; no pod ran, so nothing is lost."""
    rendered = jobs.make_objects()
    half = with_annotation(rendered[-1], constants.ANNOTATION_INCOMPLETE, "true")
    half = stored(with_annotation(half, constants.ANNOTATION_VERSION, "0.0.1"))
    steps = names(plan.diff(rendered, snapshot.of([half]), replace=False).actions)
    assert ["DeleteJob job.batch/digits", "CreateSuspendedJob job.batch/digits"] == steps[:2]


def test_changed_spec_is_refused_with_fields_and_command() -> None:
    """One sentence says what changed and what does it."""
    old = observed(jobs.make_objects(nnodes=2)).objects.values()
    text = refusal(jobs.make_objects(nnodes=4, command=["train.py", "--lr", "1"]), [*old])
    assert (
        'job.batch/digits exists and its spec changed (spec.command: ["train.py"] -> ["train.py", "--lr", "1"], '
        "spec.nnodes: 2 -> 4); `k8sddp apply FILE --replace` deletes it and starts anew"
    ) == text


def test_changed_code_is_refused_by_digest() -> None:
    """The spec is the same; the folder is not."""
    old = jobs.make_objects(code=CODE)
    new = [*old[:-1], with_annotation(old[-1], constants.ANNOTATION_CODE_DIGEST, "f" * 64)]
    text = refusal(new, [stored(one) for one in old])
    was = old[-1]["metadata"]["annotations"][constants.ANNOTATION_CODE_DIGEST][:12]
    assert f"job.batch/digits exists and its code changed (digest {was} -> ffffffffffff); " in text
    assert "--replace" in text


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ("Complete", "is complete and"),
        ("SuccessCriteriaMet", "is complete and"),
        ("Failed", "is failed (BackoffLimitExceeded) and"),
        ("FailureTarget", "is failed (BackoffLimitExceeded) and"),
    ],
)
def test_finished_job_is_refused(condition: str, said: str) -> None:
    """It never runs again; what it left behind is the user's to delete."""
    rendered = jobs.make_objects()
    job = stored(rendered[-1])
    job["status"] = {"conditions": [{"type": condition, "status": "True", "reason": "BackoffLimitExceeded"}]}
    text = refusal(rendered, [job])
    assert said in text
    assert "--replace" in text


def test_job_that_is_being_deleted_is_refused_and_waited_for_with_replace() -> None:
    """It cannot be revived; --replace waits for its end without deleting again."""
    rendered = jobs.make_objects()
    job = stored(rendered[-1], deletionTimestamp="2026-11-24T00:00:00Z")
    assert "is being deleted" in refusal(rendered, [job])
    first = plan.diff(rendered, snapshot.of([job]), replace=True).actions[0]
    assert isinstance(first, actions.DeleteJob)
    assert first.already_deleting


def test_replace_deletes_waits_for_all_it_owns_and_creates() -> None:
    """The children of the old Job must be gone before those of the new one are made."""
    rendered = jobs.make_objects()
    steps = plan.diff(rendered, observed(rendered), replace=True).actions
    first = steps[0]
    assert isinstance(first, actions.DeleteJob)
    assert JOB_UID == first.uid
    assert {ref_of(one) for one in rendered[:-1]} == {ref for ref, _ in first.owned}
    assert names(plan.diff(rendered, snapshot.Snapshot(), replace=False).actions) == names(steps[1:])
    assert {""} == {step.observed_version for step in steps if isinstance(step, actions.ApplyChild)}


@pytest.mark.parametrize("replace", [False, True], ids=["apply", "replace"])
@pytest.mark.parametrize("kind", ["Service", "ConfigMap", "NetworkPolicy", "Job"])
def test_foreign_object_of_the_same_name_is_never_touched(kind: str, replace: bool) -> None:
    """Without our labels it is somebody else's, whatever the flags."""
    rendered = jobs.make_objects()
    foreign = next(stored(one, owner={}) for one in rendered if one["kind"] == kind)
    foreign["metadata"]["labels"] = {"app": "other"}
    text = refusal(rendered, [foreign], replace=replace)
    why = "(label app.kubernetes.io/managed-by is not set, not 'k8sddp')"
    assert f"{ref_of(foreign)} exists and is not of this job {why}" in text


@pytest.mark.parametrize("kind", ["Service", "Job"])
def test_object_owned_by_another_controller_is_never_touched(kind: str) -> None:
    """Our labels, but something else made it and would undo what we do."""
    rendered = jobs.make_objects()
    owner = {"apiVersion": "k8sddp.dev/v1alpha1", "kind": "DDPJob", "name": "digits", "uid": "u"}
    owned = next(stored(one, owner=owner) for one in rendered if one["kind"] == kind)
    assert f"{ref_of(owned)} is owned by ddpjob.k8sddp.dev/digits" in refusal(rendered, [owned], replace=True)


def test_children_of_an_earlier_job_are_removed_first() -> None:
    """The garbage collector will take them: nothing is built on them."""
    rendered = jobs.make_objects()
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": "digits", "uid": "earlier"}
    left = stored(rendered[1], owner=owner)
    steps = names(plan.diff(rendered, snapshot.of([left]), replace=False).actions)
    assert ["DeleteChild configmap/digits-worker", "CreateSuspendedJob job.batch/digits"] == steps[:2]
    assert "ApplyChild configmap/digits-worker" in steps


def test_child_of_an_earlier_job_beside_the_running_one_is_made_anew() -> None:
    """It goes in a moment; the running job needs one of its own."""
    rendered = jobs.make_objects()
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": "digits", "uid": "earlier"}
    existing = [stored(one) for one in rendered if one["kind"] != "ConfigMap"] + [stored(rendered[1], owner=owner)]
    steps = names(plan.diff(rendered, snapshot.of(existing), replace=False).actions)
    position = steps.index("DeleteChild configmap/digits-worker")
    assert "ApplyChild configmap/digits-worker" == steps[position + 1]


def test_ownerless_config_map_is_kept_only_where_it_holds_the_same() -> None:
    """It is immutable: another worker in it cannot be applied over."""
    rendered = jobs.make_objects()
    same = stored(rendered[1], owner={})
    other = {**same, "binaryData": {"worker.pyz": "AAAA"}}
    steps = [names(plan.diff(rendered, snapshot.of([one]), replace=False).actions)[0] for one in (same, other)]
    assert ["CreateSuspendedJob job.batch/digits", "DeleteChild configmap/digits-worker"] == steps


def test_job_without_a_digest_is_refused() -> None:
    """What it was made from is unknown, so nothing says that it is the same."""
    rendered = jobs.make_objects()
    job = stored(rendered[-1])
    job["metadata"]["annotations"] = {}
    assert "exists without the annotation k8sddp.dev/spec-digest, so it cannot be compared" in refusal(rendered, [job])


def test_values_of_env_are_not_shown() -> None:
    """They may be secrets; the name is enough."""
    old = observed(jobs.make_objects(env={"TOKEN": "old-secret", "GONE": "x"})).objects.values()
    text = refusal(jobs.make_objects(env={"TOKEN": "new-secret", "NEW": "y"}), [*old])
    assert "(spec.env.GONE: removed, spec.env.NEW: added, spec.env.TOKEN: another value)" in text


@pytest.mark.parametrize("text", ["", "{", '{"cut":'], ids=["missing", "broken", "cut off"])
def test_unreadable_annotation_is_a_change_that_cannot_be_named(text: str) -> None:
    """Edited by hand or cut off: refused, without a traceback."""
    rendered = jobs.make_objects(nnodes=2)
    job = stored(with_annotation(rendered[-1], constants.ANNOTATION_SPEC, text))
    job["metadata"]["annotations"][constants.ANNOTATION_SPEC_DIGEST] = "0"
    assert "which fields cannot be said" in refusal(rendered, [job])


def test_many_changes_are_counted() -> None:
    """Five are named, long values are cut, the rest is a number."""
    old = observed(jobs.make_objects()).objects.values()
    args = {"command": ["x" * 500], "nnodes": 3, "image": "b", "python": "python3.12", "serviceAccountName": "sa"}
    text = refusal(jobs.make_objects(**args, activeDeadlineSeconds=5, terminationGracePeriodSeconds=9), [*old])
    assert " and 2 more)" in text
    assert len(text) < 500
    assert json.dumps("x" * 60) not in text
