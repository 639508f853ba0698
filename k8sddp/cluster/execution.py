"""Do what a plan says, in its order, and report each object in one line as kubectl does.

Guarantees: the Job exists, suspended and marked, before anything that it owns; every child carries an ownerReference
to it; it starts last, or is left to its queue. So a client that dies after any request leaves what the next apply
finishes and one delete removes. A failure says what exists by then. Nothing is decided here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from k8sddp import constants, errors, manifest
from k8sddp.cluster.api import Cluster
from k8sddp.manifest import Manifest, Ref
from k8sddp.plan import actions
from k8sddp.plan.actions import Plan

DELETE_LIMIT: Final = 300.0  # seconds until a deleted Job, its children and its pods must be gone
_POLL: Final = 0.2

Report = Callable[[str], None]


def execute(plan: Plan, cluster: Cluster, *, report: Report, delete_limit: float = DELETE_LIMIT) -> tuple[str, ...]:
    """Carry out the plan; return the warnings of the API server, each once.

    `report` gets one line per object (`service/digits created`). Raises RefusedError for a plan that refuses, and the
    ClusterError of the request that failed, with what exists by then.
    """
    if plan.refusal:
        raise errors.RefusedError(plan.refusal)
    run = _Execution(cluster, plan, report, delete_limit)
    for action in plan.actions:
        try:
            run.do(action)
        except errors.ClusterError as fault:
            raise run.with_state(fault) from fault
    return cluster.warnings


@dataclass
class _Execution:
    cluster: Cluster
    plan: Plan
    report: Report
    delete_limit: float
    done: list[Ref] = field(default_factory=list)
    job_is_inert: bool = False
    owner_uid: str = ""
    queue: str = ""  # of the Job as it is stored: Kueue may have given it the namespace's default one

    def __post_init__(self) -> None:
        self.owner_uid = self.plan.owner_uid

    def do(self, action: actions.Action) -> None:
        """Carry out one action."""
        match action:
            case actions.CreateSuspendedJob():
                self._create_suspended(action.manifest, queued=bool(action.queue))
            case actions.ApplyChild():
                self._apply_child(action)
            case actions.StartJob() if not self.queue:
                self._start(action.manifest)
            case actions.StartJob() | actions.LeaveToQueue():
                self._leave_to_queue()
            case actions.DeleteJob():
                if not action.already_deleting:
                    self.cluster.delete(action.ref, propagation="Foreground", uid=action.uid)
                self._wait_until_gone((action.ref, action.uid), *action.owned)
            case actions.DeleteChild():
                self.cluster.delete(action.ref, uid=action.uid)
                self._wait_until_gone((action.ref, action.uid))
            case actions.Unchanged():
                self.report(f"{action.ref} unchanged")

    def _create_suspended(self, job: Manifest, *, queued: bool) -> None:
        if self.cluster.get(self.plan.job) is not None:  # `suspend` would stop it; waits may lie behind us
            raise self._made_by_another()
        wanted = suspended(job)
        stored = self._create_once(wanted) if queued else self.cluster.apply(wanted, observed_version="").manifest
        self.owner_uid = str(stored["metadata"]["uid"])
        self.queue = manifest.label(stored, constants.LABEL_KUEUE_QUEUE)
        self.job_is_inert = True
        self.done.append(self.plan.job)

    def _create_once(self, wanted: Manifest) -> Manifest:
        """Create the Job; where the answer to our first try was lost, it is there already."""
        stored = self.cluster.create(wanted) or self.cluster.get(self.plan.job)
        same = (constants.ANNOTATION_INCOMPLETE, constants.ANNOTATION_SPEC_DIGEST, constants.ANNOTATION_CODE_DIGEST)
        if stored is None or any(manifest.annotation(stored, key) != manifest.annotation(wanted, key) for key in same):
            raise self._made_by_another()
        return stored

    def _made_by_another(self) -> errors.ConflictError:
        return errors.ConflictError(f"{self.plan.job} was created by somebody else meanwhile; apply again", status=409)

    def _apply_child(self, action: actions.ApplyChild) -> None:
        child = owned(action.manifest, self.plan.job, self.owner_uid)
        applied = self.cluster.apply(child, observed_version=action.observed_version)
        ref = manifest.ref_of(applied.manifest)
        # where it did not exist, a 200 means that the answer to our first try was lost
        outcome = applied.outcome if action.observed_version else "created"
        if outcome == "created":
            self.done.append(ref)
        self.report(f"{ref} {outcome}")

    def _start(self, job: Manifest) -> None:
        applied = self.cluster.apply(job, observed_version="")
        self.job_is_inert = False
        self.report(f"{manifest.ref_of(applied.manifest)} created")

    def _leave_to_queue(self) -> None:
        self.cluster.patch(self.plan.job, {"metadata": {"annotations": {constants.ANNOTATION_INCOMPLETE: None}}})
        self.job_is_inert = False
        self.report(f"{self.plan.job} created")

    def _wait_until_gone(self, *objects: tuple[Ref, str]) -> None:
        """Wait for the objects with these uids.

        A Job deleted in the foreground goes after its pods; the rest goes after the Job, as it does not block it.
        """
        clock = self.cluster.transport.clock
        deadline = clock() + self.delete_limit
        for ref, uid in objects:
            while self._exists(ref, uid):
                if clock() > deadline:
                    raise errors.WaitTimeoutError(
                        f"{ref} is still being deleted after {self.delete_limit:g} s; look at "
                        f"`kubectl -n {self.cluster.namespace} get pods -l "
                        f"{constants.LABEL_BATCH_JOB_NAME}={self.plan.job.name}`, and apply again when they are gone"
                    )
                self.cluster.transport.sleep(_POLL)
            self.report(f"{ref} deleted")

    def _exists(self, ref: Ref, uid: str) -> bool:
        found = self.cluster.get(ref)
        return found is not None and (not uid or found["metadata"]["uid"] == uid)

    def with_state(self, fault: errors.ClusterError) -> errors.ClusterError:
        """Return the fault with what exists by now and how to go on."""
        if not self.done:
            return fault
        exists = ", ".join(map(str, self.done))
        inert = " (suspended: no pod runs)" if self.job_is_inert else ""
        name = self.plan.job.name
        return type(fault)(
            f"{fault}; so far {exists} exist{'s' if len(self.done) == 1 else ''}{inert}: run `k8sddp apply FILE` "
            f"again to finish, or `k8sddp delete {name}` to remove it",
            status=fault.status,
        )


def suspended(job: Manifest) -> dict[str, Any]:
    """Return the Job as it is first created: suspended, and marked as incomplete."""
    annotations = {**(job["metadata"].get("annotations") or {}), constants.ANNOTATION_INCOMPLETE: "true"}
    return {
        **job,
        "metadata": {**job["metadata"], "annotations": annotations},
        "spec": {**job["spec"], "suspend": True},
    }


def owned(child: Manifest, job: Ref, uid: str) -> dict[str, Any]:
    """Return the child with the ownerReference that lets it go with its Job.

    Without blockOwnerDeletion: where OwnerReferencesPermissionEnforcement is on, the role `edit` may not set it.
    """
    owner = {"apiVersion": job.api_version, "kind": job.kind, "name": job.name, "uid": uid}
    return {**child, "metadata": {**child["metadata"], "ownerReferences": [owner]}}
