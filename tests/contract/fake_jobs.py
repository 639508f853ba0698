"""The Job controller of the fake: one pod per index of an Indexed Job, suspension, success and failure policies."""

from __future__ import annotations

import copy
import uuid
from collections.abc import Mapping
from typing import Any

from tests.contract import fake_kinds
from tests.contract.fake_store import Object, Store, now

_POD = fake_kinds.of("v1", "pods")
_EVENT = fake_kinds.of("v1", "events")


class JobController:
    """Brings the pods of every Job to what its spec asks for; `refusal` makes every pod be refused with that text."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.refusal = ""

    def reconcile(self) -> None:
        for (plural, namespace, _), job in list(self.store.objects.items()):
            if plural == "jobs" and "deletionTimestamp" not in job["metadata"]:
                self._reconcile_job(namespace, copy.deepcopy(job))

    def _reconcile_job(self, namespace: str, job: Object) -> None:
        before = copy.deepcopy(job)
        status = job.setdefault("status", {})
        pods = self._pods(namespace, job)
        if not _is_finished(job):
            if job["spec"]["suspend"]:
                _set_condition(status, "Suspended", "True", reason="JobSuspended")
                status.pop("startTime", None)
                self._end(namespace, pods)
            else:
                _set_condition(status, "Suspended", "False", reason="JobResumed", only_if_set=True)
                status.setdefault("startTime", now())
                self._judge(namespace, job, pods)
                if not _is_finished(job):
                    self._fill(namespace, job, pods)
        alive = self._pods(namespace, job)
        status["active"] = sum(1 for pod in alive if _phase(pod) in ("Pending", "Running") and not _ending(pod))
        status["succeeded"] = sum(1 for pod in alive if _phase(pod) == "Succeeded")
        status["failed"] = sum(1 for pod in alive if _phase(pod) == "Failed")
        if job != before:
            self.store._put("MODIFIED", "jobs", namespace, job)

    def _pods(self, namespace: str, job: Object) -> list[Object]:
        uid = job["metadata"]["uid"]
        return [
            pod
            for pod in self.store.list("pods", namespace)
            if any(owner["uid"] == uid for owner in pod["metadata"].get("ownerReferences") or ())
        ]

    def _fill(self, namespace: str, job: Object, pods: list[Object]) -> None:
        """Make the pods that are missing; a pod that failed is not replaced: the fake never ends a back-off."""
        taken = {_index(pod) for pod in pods}
        for index in range(int(job["spec"]["completions"])):
            if index in taken:
                continue
            if self.refusal:
                self._refuse(namespace, job, index)
                return
            self.store.create(_POD, namespace, _new_pod(job, index))

    def _refuse(self, namespace: str, job: Object, index: int) -> None:
        name = f"{job['metadata']['name']}.refused"
        if ("events", namespace, name) in self.store.objects:
            return
        pod = f"{job['metadata']['name']}-{index}-xxxxx"
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": name},
            "involvedObject": {"kind": "Job", "name": job["metadata"]["name"], "uid": job["metadata"]["uid"]},
            "type": "Warning",
            "reason": "FailedCreate",
            "message": f'Error creating: pods "{pod}" is forbidden: {self.refusal}',
            "lastTimestamp": now(),
        }
        self.store.create(_EVENT, namespace, event)

    def _judge(self, namespace: str, job: Object, pods: list[Object]) -> None:
        status, spec = job["status"], job["spec"]
        done = {_index(pod) for pod in pods if _phase(pod) == "Succeeded"}
        final = [pod for pod in pods if _phase(pod) == "Failed" and _is_final(spec, pod)]
        if final:
            code = _exit_code(final[0])
            text = f"Container worker for pod {namespace}/{final[0]['metadata']['name']} failed with exit code {code}"
            _set_condition(status, "FailureTarget", "True", reason="PodFailurePolicy", message=text)
            _set_condition(status, "Failed", "True", reason="PodFailurePolicy", message=text)
        elif ("successPolicy" in spec and 0 in done) or len(done) == spec["completions"]:
            _set_condition(status, "SuccessCriteriaMet", "True", reason="SuccessPolicy")
            _set_condition(status, "Complete", "True", reason="SuccessPolicy")
            status["completionTime"] = now()
        if _is_finished(job):
            self._end(namespace, pods)

    def _end(self, namespace: str, pods: list[Object]) -> None:
        for pod in pods:
            if _phase(pod) in ("Pending", "Running") and not _ending(pod):
                self.store.end_pod(namespace, pod["metadata"]["name"])


def _new_pod(job: Object, index: int) -> Object:
    name, template = job["metadata"]["name"], copy.deepcopy(job["spec"]["template"])
    owner = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "name": name,
        "uid": job["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }
    annotations = {**(template["metadata"].get("annotations") or {})}
    annotations["batch.kubernetes.io/job-completion-index"] = str(index)
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"{name}-{index}-{uuid.uuid4().hex[:5]}",
            "labels": {**template["metadata"]["labels"], "batch.kubernetes.io/job-completion-index": str(index)},
            "annotations": annotations,
            "ownerReferences": [owner],
        },
        "spec": {**template["spec"], "hostname": f"{name}-{index}"},
        "status": {"phase": "Pending"},
    }


def _is_final(spec: Mapping[str, Any], pod: Object) -> bool:
    """Return whether the pod failure policy fails the Job for this pod."""
    code = _exit_code(pod)
    for rule in (spec.get("podFailurePolicy") or {}).get("rules") or ():
        codes = rule.get("onExitCodes")
        if codes and (code in codes["values"]) == (codes["operator"] == "In"):
            return bool(rule["action"] == "FailJob")
    return "backoffLimitPerIndex" not in spec and spec.get("backoffLimit") == 0


def _exit_code(pod: Object) -> int:
    statuses = pod["status"].get("containerStatuses") or [{}]
    return int(((statuses[0].get("state") or {}).get("terminated") or {}).get("exitCode", 0))


def _set_condition(
    status: Object, kind: str, value: str, *, reason: str, message: str = "", only_if_set: bool = False
) -> None:
    conditions = status.setdefault("conditions", [])
    found = next((one for one in conditions if one["type"] == kind), None)
    if found is None and not only_if_set:
        conditions.append(
            {"type": kind, "status": value, "reason": reason, "message": message, "lastTransitionTime": now()}
        )
    elif found is not None and found["status"] != value:
        found.update(status=value, reason=reason, message=message, lastTransitionTime=now())


def _is_finished(job: Object) -> bool:
    conditions = (job.get("status") or {}).get("conditions") or ()
    return any(one["type"] in ("Complete", "Failed") and one["status"] == "True" for one in conditions)


def _phase(pod: Object) -> str:
    return str((pod.get("status") or {}).get("phase", "Pending"))


def _ending(pod: Object) -> bool:
    return "deletionTimestamp" in pod["metadata"]


def _index(pod: Object) -> int:
    return int(pod["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"])
