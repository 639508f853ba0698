"""desired + observed -> the plan of an apply.

Applying the same spec again changes nothing, also after an upgrade of k8sddp: what is compared are the digests of spec
and code in the Job's annotations, never the rendered template. What would change or lose something that exists is
refused with one sentence that names it and the command that does it. Objects that are not ours are never touched.

The order of a creation (Job suspended, children with an ownerReference, start) leaves one inert, marked Job when the
client dies in between; the next apply finishes it, one delete removes it. A Job in a Kueue queue is never started here.
"""

from __future__ import annotations

from collections.abc import Sequence

from k8sddp import constants, manifest
from k8sddp.manifest import Manifest, Ref
from k8sddp.plan import actions, ownership, replacing, spec_changes
from k8sddp.plan.actions import Plan
from k8sddp.plan.snapshot import Snapshot

REPLACE = "`k8sddp apply FILE --replace` deletes it and starts anew"


def diff(desired: Sequence[Manifest], observed: Snapshot, *, replace: bool) -> Plan:
    """Return the plan that brings the cluster from `observed` to `desired` (one job: its children and its Job).

    `replace` allows to delete a Job of ours that exists; it never allows to touch what is not ours.
    """
    job = next(one for one in desired if one["kind"] == "Job")
    children = [one for one in desired if one["kind"] != "Job"]
    ref = manifest.ref_of(job)
    existing = observed.get(ref)
    refusal = _foreign(desired, observed, existing)
    if refusal:
        return Plan(ref, refusal=refusal)
    if existing is None:
        return Plan(ref, (*_creation(job, children, observed),))
    if replace:
        return _replacement(job, children, observed, existing)
    refusal = _refusal(job, existing)
    if refusal:
        return Plan(ref, refusal=refusal)
    if not manifest.annotation(existing, constants.ANNOTATION_INCOMPLETE):
        steps = (*_repair(children, observed, _uid(existing)), actions.Unchanged(ref))
        return Plan(ref, steps, owner_uid=_uid(existing))
    return _completion(job, children, observed, existing)


def _creation(job: Manifest, children: Sequence[Manifest], observed: Snapshot) -> list[actions.Action]:
    """Return the steps of a creation, leftovers of an earlier Job of this name removed first."""
    steps: list[actions.Action] = []
    for child in children:
        left = observed.get(manifest.ref_of(child))
        if left is not None and (_owners(left) or _deleting(left) or not _same_payload(left, child)):
            steps.append(actions.DeleteChild(manifest.ref_of(child), _uid(left)))
            observed = _without(observed, [manifest.ref_of(child)])
    steps.append(actions.CreateSuspendedJob(job, _queue(job)))
    steps.extend(_apply(child, observed) for child in children)
    steps.append(_start(job, _queue(job)))
    return steps


def _start(job: Manifest, queue: str) -> actions.StartJob | actions.LeaveToQueue:
    return actions.LeaveToQueue(job, queue) if queue else actions.StartJob(job)


def _queue(job: Manifest) -> str:
    return manifest.label(job, constants.LABEL_KUEUE_QUEUE)


def _replacement(job: Manifest, children: Sequence[Manifest], observed: Snapshot, existing: Manifest) -> Plan:
    ref = manifest.ref_of(job)
    uid = _uid(existing)
    owned = {r: _uid(one) for r, one in observed.objects.items() if any(o["uid"] == uid for o in _owners(one))}
    deletion = actions.DeleteJob(ref, uid, owned=tuple(owned.items()), already_deleting=_deleting(existing))
    return Plan(ref, (deletion, *_creation(job, children, _without(observed, [ref, *owned]))))


def _completion(job: Manifest, children: Sequence[Manifest], observed: Snapshot, existing: Manifest) -> Plan:
    """Return the plan that finishes a creation which was interrupted; no pod has run."""
    same_version = manifest.annotation(job, constants.ANNOTATION_VERSION) == manifest.annotation(
        existing, constants.ANNOTATION_VERSION
    )
    if not same_version:
        # Another k8sddp rendered it: its template may differ, and a template cannot be changed. Nothing is lost.
        return _replacement(job, children, observed, existing)
    # Kueue gives a Job that names no queue the namespace's default one, where there is such
    steps = (*_repair(children, observed, _uid(existing)), _start(job, _queue(existing)))
    return Plan(manifest.ref_of(job), steps, owner_uid=_uid(existing))


def _repair(children: Sequence[Manifest], observed: Snapshot, job_uid: str) -> list[actions.Action]:
    """Return the steps that bring missing children back and leave immutable ones alone."""
    steps: list[actions.Action] = []
    for child in children:
        ref = manifest.ref_of(child)
        existing = observed.get(ref)
        stale = existing is not None and (
            _deleting(existing) or any(owner.get("uid") != job_uid for owner in _owners(existing))
        )
        if existing is not None and stale:  # it goes with the earlier Job that owns it
            steps.append(actions.DeleteChild(ref, _uid(existing)))
            steps.append(actions.ApplyChild(child))
        elif existing is not None and child["kind"] == "ConfigMap":
            steps.append(actions.Unchanged(ref))
        else:
            steps.append(_apply(child, observed))
    return steps


def _apply(child: Manifest, observed: Snapshot) -> actions.ApplyChild:
    existing = observed.get(manifest.ref_of(child))
    return actions.ApplyChild(child, "" if existing is None else str(existing["metadata"].get("resourceVersion", "")))


def _refusal(job: Manifest, existing: Manifest) -> str:
    """Return why `existing` may not become `job` without --replace, or nothing."""
    ref = manifest.ref_of(job)
    if _deleting(existing):
        return f"{ref} is being deleted; apply again when it is gone, or `k8sddp apply FILE --replace` waits for it"
    for kind, word in replacing.ENDS.items():
        condition = manifest.condition(existing, kind)
        if condition is not None:
            reason = condition.get("reason") if word == "failed" else ""
            return f"{ref} is {word}{f' ({reason})' if reason else ''} and a finished job never runs again; {REPLACE}"
    old_digest, new_digest = (manifest.annotation(one, constants.ANNOTATION_SPEC_DIGEST) for one in (existing, job))
    if not old_digest:
        missing = f"exists without the annotation {constants.ANNOTATION_SPEC_DIGEST}, so it cannot be compared"
        return f"{ref} {missing}; {REPLACE}"
    if old_digest != new_digest:
        changes = spec_changes.sentence(
            *(manifest.annotation(one, constants.ANNOTATION_SPEC) for one in (existing, job))
        )
        return f"{ref} exists and its spec changed ({changes}); {REPLACE}"
    old_code, new_code = (manifest.annotation(one, constants.ANNOTATION_CODE_DIGEST) for one in (existing, job))
    if old_code != new_code:
        shown = " -> ".join(digest.removeprefix("sha256:")[:12] or "none" for digest in (old_code, new_code))
        return f"{ref} exists and its code changed (digest {shown}); {REPLACE}"
    return ""


def _foreign(desired: Sequence[Manifest], observed: Snapshot, job: Manifest | None) -> str:
    """Return a sentence that names the objects of these names which are not ours, or nothing."""
    job_uid = "" if job is None else _uid(job)
    found = []
    for wanted in desired:
        ref = manifest.ref_of(wanted)
        existing = observed.get(ref)
        why = "" if existing is None else _not_ours(existing, wanted, job_uid)
        if why:
            found.append(f"{ref} {why}")
    if not found:
        return ""
    return f"{'; '.join(found)}: choose another metadata.name, or remove what stands in the way by hand"


def _not_ours(existing: Manifest, wanted: Manifest, job_uid: str) -> str:
    job = manifest.label(wanted, constants.LABEL_JOB)
    wrong = ownership.wrong_label(existing, job)
    if wrong:
        found = repr(wrong.found) if wrong.found else "not set"
        return f"exists and is not of this job (label {wrong.key} is {found}, not {wrong.value!r})"
    for owner in _owners(existing):
        ours = (
            wanted["kind"] != "Job"
            and owner.get("kind") == "Job"
            and (owner.get("uid") == job_uid or owner.get("name") == job)
        )
        if not ours:
            return f"is owned by {Ref(str(owner.get('apiVersion', '')), str(owner['kind']), str(owner['name']))}"
    return ""


def _same_payload(existing: Manifest, wanted: Manifest) -> bool:
    """Return whether an immutable ConfigMap already holds what is wanted; other kinds can be changed."""
    if wanted["kind"] != "ConfigMap":
        return True
    return all((existing.get(key) or {}) == (wanted.get(key) or {}) for key in ("data", "binaryData"))


def _without(observed: Snapshot, refs: Sequence[Ref]) -> Snapshot:
    return Snapshot({ref: one for ref, one in observed.objects.items() if ref not in refs})


def _owners(one: Manifest) -> Sequence[Manifest]:
    return one["metadata"].get("ownerReferences") or ()


def _uid(one: Manifest) -> str:
    return str(one["metadata"].get("uid", ""))


def _deleting(one: Manifest) -> bool:
    return bool(one["metadata"].get("deletionTimestamp"))
