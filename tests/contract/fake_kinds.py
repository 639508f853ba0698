"""What the API server knows about the kinds we use: URL, declared fields, defaults, what cannot be changed."""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

from tests.contract import fake_answers

Object = dict[str, Any]


class Kind(NamedTuple):
    """One kind; `fields` are those of its spec, None where the object has no spec."""

    api_version: str
    kind: str
    plural: str
    fields: frozenset[str] | None
    top: frozenset[str] = frozenset()

    @property
    def group(self) -> str:
        return self.api_version.partition("/")[0] if "/" in self.api_version else ""

    @property
    def resource(self) -> str:
        return self.plural + (f".{self.group}" if self.group else "")


_JOB = (
    "parallelism completions activeDeadlineSeconds podFailurePolicy successPolicy backoffLimit backoffLimitPerIndex "
    "maxFailedIndexes selector manualSelector template ttlSecondsAfterFinished completionMode suspend "
    "podReplacementPolicy managedBy"
)
_SERVICE = (
    "ports selector clusterIP clusterIPs type externalIPs sessionAffinity publishNotReadyAddresses ipFamilies "
    "ipFamilyPolicy internalTrafficPolicy"
)

KINDS = (
    Kind("v1", "Service", "services", frozenset(_SERVICE.split())),
    Kind("v1", "ConfigMap", "configmaps", None, frozenset({"data", "binaryData", "immutable"})),
    Kind("v1", "Pod", "pods", None, frozenset({"spec"})),
    Kind("v1", "Event", "events", None, frozenset()),
    Kind("batch/v1", "Job", "jobs", frozenset(_JOB.split())),
    Kind(
        "networking.k8s.io/v1",
        "NetworkPolicy",
        "networkpolicies",
        frozenset({"podSelector", "ingress", "egress", "policyTypes"}),
    ),
)

# Fields of a Job's spec that cannot be changed (pkg/apis/batch/validation); completions may follow parallelism
_JOB_FROZEN = (
    "template", "selector", "completionMode", "podFailurePolicy", "successPolicy", "backoffLimitPerIndex",
    "podReplacementPolicy", "managedBy",
)  # fmt: skip


_FROZEN_PATH = {"template": "spec.template.spec"}  # as 1.37 names it; up to 1.36 it is spec.template


def of(api_version: str, plural: str) -> Kind:
    for kind in KINDS:
        if (kind.api_version, kind.plural) == (api_version, plural):
            return kind
    raise fake_answers.Refused(404, "NotFound", "the server could not find the requested resource")


def undeclared_field(kind: Kind, manifest: Object) -> str:
    """Return the path of the first field that the schema does not declare, as an apply names it."""
    top = {"apiVersion", "kind", "metadata", "status", *kind.top, *({"spec"} if kind.fields else ())}
    for key in manifest:
        if key not in top:
            return f".{key}"
    for key in (manifest.get("spec") or {}) if kind.fields else ():
        if key not in (kind.fields or ()):
            return f".spec.{key}"
    return ""


def set_defaults(kind: Kind, manifest: Object) -> None:
    """Fill in what the API server fills in, as far as our code could meet it."""
    spec = manifest.setdefault("spec", {}) if kind.fields else {}
    if kind.kind == "Job":
        _job_defaults(manifest, spec)
    elif kind.kind == "Service":
        for key, value in (("type", "ClusterIP"), ("sessionAffinity", "None"), ("internalTrafficPolicy", "Cluster")):
            spec.setdefault(key, value)
        spec.setdefault("clusterIP", "10.96.0.10")
    elif kind.kind == "NetworkPolicy":
        spec.setdefault("policyTypes", ["Ingress"])


def _job_defaults(manifest: Object, spec: Object) -> None:
    uid, name = manifest["metadata"]["uid"], manifest["metadata"]["name"]
    spec.setdefault("completionMode", "NonIndexed")
    spec.setdefault("parallelism", 1)
    spec.setdefault("completions", spec["parallelism"])
    spec.setdefault("suspend", False)
    spec.setdefault("podReplacementPolicy", "TerminatingOrFailed")
    spec.setdefault("backoffLimit", 2147483647 if "backoffLimitPerIndex" in spec else 6)
    spec.setdefault("selector", {"matchLabels": {"batch.kubernetes.io/controller-uid": uid}})
    labels = spec["template"].setdefault("metadata", {}).setdefault("labels", {})
    labels.update({"batch.kubernetes.io/controller-uid": uid, "controller-uid": uid})
    labels.update({"batch.kubernetes.io/job-name": name, "job-name": name})


def check_change(kind: Kind, old: Object, new: Object) -> None:
    """Refuse a change of what cannot be changed."""
    name = old["metadata"]["name"]
    if kind.kind == "Job":
        for field in _JOB_FROZEN:
            if old["spec"].get(field) != new["spec"].get(field):
                dump = 'core.PodTemplateSpec{ObjectMeta:v1.ObjectMeta{Name:"", GenerateName:""' + ", X:1" * 2000 + "}}"
                raise fake_answers.immutable(
                    kind.resource, "Job", name, field=_FROZEN_PATH.get(field, f"spec.{field}"), dump=dump
                )
        if old["spec"]["completions"] != new["spec"]["completions"] != new["spec"]["parallelism"]:
            raise fake_answers.immutable(kind.resource, "Job", name, field="spec.completions", dump="3")
    if kind.kind == "ConfigMap" and old.get("immutable"):
        for field in ("data", "binaryData", "immutable"):
            if old.get(field) != new.get(field):
                raise fake_answers.immutable_config_map(name, field)


def without_server_fields(manifest: Object) -> Object:
    """Return what counts for `has it changed`: all but the version and the bookkeeping of managers."""
    plain = copy.deepcopy(manifest)
    for key in ("resourceVersion", "generation", "managedFields"):
        plain["metadata"].pop(key, None)
    return plain
