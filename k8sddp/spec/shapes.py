"""Kubernetes' shapes in job.yaml: core_v1.py's structure, and the rules that decide what the API server takes of it.

The structure (names, types, required fields) is generated from the OpenAPI schema. Here is what that cannot say:
choices, patterns, what is required though it may be empty, what excludes what. A field without a rule is checked for
its type; unknown fields are refused, as strict field validation does. What only the cluster knows (does the claim
exist?) is not judged. Source of the rules: pkg/apis/core/validation/validation.go in kubernetes/kubernetes.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, Literal, NamedTuple, get_args, get_origin

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, with_config
from pydantic.fields import FieldInfo
from typing_extensions import Required, TypedDict, is_typeddict

from k8sddp.spec import core_v1
from k8sddp.spec.fields import (
    PATTERN_RULES,
    SUBDOMAIN_PATTERN,
    AbsolutePath,
    Bytes,
    DnsLabel,
    DnsSubdomain,
    Int,
    LabelValue,
    QualifiedKey,
    RelativePath,
    Text,
    exactly_one,
    fault,
)
from k8sddp.worker.contract import node_env


class Rules(NamedTuple):
    """What the schema leaves open about a type.

    A field's rule is the type that stands for the schema's, a `Field(...)` that narrows it, or Rules of its own for the
    entries of a list. `required` adds to the schema's; `check` sees the whole value, once its fields are right.
    """

    fields: Mapping[str, Any] = {}
    required: tuple[str, ...] = ()
    check: Callable[[Any], Any] | None = None


def _env_prefix(prefix: str) -> str:
    reason = node_env.reserved_reason(prefix)
    if reason or not all(" " <= char <= "~" and char != "=" for char in prefix):
        raise fault(f"`{prefix}` cannot be a prefix: {reason or 'it must be printable ASCII without `=`'}")
    return prefix


def _toleration(toleration: core_v1.Toleration) -> core_v1.Toleration:
    operator = toleration.get("operator", "Equal")
    if "key" not in toleration and operator != "Exists":
        raise fault("a toleration without key tolerates everything", "write operator: Exists, or a key")
    if operator == "Exists" and toleration.get("value"):
        raise fault("operator Exists takes no value", "remove value, or write operator: Equal")
    if "tolerationSeconds" in toleration and toleration.get("effect") != "NoExecute":
        raise fault("tolerationSeconds needs effect NoExecute", "write effect: NoExecute, or remove it")
    return toleration


def _node_requirement(requirement: core_v1.NodeSelectorRequirement) -> core_v1.NodeSelectorRequirement:
    operator, values = requirement["operator"], requirement.get("values", [])
    _values(operator, values)
    if operator in ("Gt", "Lt") and (len(values) != 1 or not values[0].lstrip("-").isdigit()):
        raise fault(f"operator {operator} needs one value, a whole number as a text", 'write values: ["4"]')
    return requirement


def _label_requirement(requirement: core_v1.LabelSelectorRequirement) -> core_v1.LabelSelectorRequirement:
    _values(requirement["operator"], requirement.get("values", []))
    return requirement


def _values(operator: str, values: list[str]) -> None:
    if operator in ("In", "NotIn") and not values:
        raise fault(f"operator {operator} needs values", "write values: [...]")
    if operator in ("Exists", "DoesNotExist") and values:
        raise fault(f"operator {operator} takes no values", "remove values, or write operator: In")


def _pod_affinity_term(term: core_v1.PodAffinityTerm) -> core_v1.PodAffinityTerm:
    for name in ("matchLabelKeys", "mismatchLabelKeys"):
        if name in term and "labelSelector" not in term:
            raise fault(f"{name} needs a labelSelector", f"add labelSelector, or remove {name}")
    return term


def _spread(constraint: core_v1.TopologySpreadConstraint) -> core_v1.TopologySpreadConstraint:
    if "minDomains" in constraint and constraint["whenUnsatisfiable"] != "DoNotSchedule":
        raise fault("minDomains needs whenUnsatisfiable DoNotSchedule", "remove minDomains")
    return constraint


def _no_steps_back(path: str) -> str:
    if ".." in path.split("/"):
        raise fault(f"`{path}` must not contain `..`")
    return path


def _not_reserved(path: str) -> str:
    if path.startswith(".."):  # where the kubelet keeps the versions of the files
        raise fault(f"`{path}` must not begin with `..`")
    return path


def _class_name(name: str) -> str:
    if name and not re.fullmatch(SUBDOMAIN_PATTERN, name):  # an empty one stands for no class
        raise fault(f"`{name}` {PATTERN_RULES[SUBDOMAIN_PATTERN]}")
    return name


def _claim_spec(claim: core_v1.PersistentVolumeClaimSpec) -> core_v1.PersistentVolumeClaimSpec:
    modes = set(claim["accessModes"])
    if "ReadWriteOncePod" in modes and len(modes) > 1:
        raise fault("ReadWriteOncePod goes with no other access mode", "write accessModes: [ReadWriteOncePod]")
    return claim


def _claim_resources(resources: core_v1.VolumeResourceRequirements) -> core_v1.VolumeResourceRequirements:
    if "storage" not in resources["requests"]:
        raise fault("requests has no storage", "write requests: {storage: 100Gi}")
    return resources


def _field_path(path: str) -> str:
    if not _FIELD_PATH.fullmatch(path):
        choices = "metadata.name, metadata.namespace, metadata.uid, metadata.labels, metadata.annotations"
        raise fault(f"`{path}` is not one of {choices}", "or one label: metadata.labels['team']")
    return path


def _container_resource(selector: core_v1.ResourceFieldSelector) -> core_v1.ResourceFieldSelector:
    resource, divisor = selector["resource"], selector.get("divisor", "1")
    if not _RESOURCE.fullmatch(resource):
        raise fault(f"`{resource}` is not one of limits.cpu, limits.memory, requests.cpu, requests.memory, ...")
    if str(divisor) not in (_CPU_DIVISORS if resource.endswith(".cpu") else _BYTE_DIVISORS):
        raise fault(f"divisor `{divisor}` does not fit {resource}", f"write {'1m' if '.cpu' in resource else '1Mi'}")
    return selector


_FIELD_PATH: Final = re.compile(r"metadata\.(?:name|namespace|uid|(?:labels|annotations)(?:\['[^']+'\])?)")
_RESOURCE: Final = re.compile(r"(?:limits|requests)\.(?:cpu|memory|ephemeral-storage|hugepages-.+)")
_CPU_DIVISORS: Final = ("0", "1m", "1")
_BYTE_DIVISORS: Final = ("0", "1", *(f"1{one}" for one in "kMGTPE"), *(f"1{one}i" for one in "KMGTPE"))

_FILLED: Final = Field(min_length=1)
_MAX_INT32: Final = 2**31 - 1
_File = Annotated[RelativePath, AfterValidator(_not_reserved)]
_Mode = Annotated[Int, Field(ge=0, le=0o777)]
_Weight = Annotated[Int, Field(ge=1, le=100)]
_Count = Annotated[Int, Field(ge=1, le=_MAX_INT32)]
_Policy = Literal["Honor", "Ignore"]
_AccessMode = Literal["ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod"]
_Amounts = Mapping[QualifiedKey, Bytes]
_Labels = Mapping[QualifiedKey, LabelValue]
_NAMED: Final = Rules({"name": DnsSubdomain}, required=("name",))
# A Kubernetes Node by its name: the only field there is
_NODE_FIELD: Final = Rules(
    {
        "key": Literal["metadata.name"],
        "operator": Literal["In", "NotIn"],
        "values": Annotated[list[DnsSubdomain], Field(min_length=1, max_length=1)],
    },
    required=("values",),
)

RULES: Final[Mapping[str, Rules]] = {
    # envFrom
    "EnvFromSource": Rules(
        {"prefix": Annotated[str, AfterValidator(_env_prefix)]}, check=exactly_one("configMapRef", "secretRef")
    ),
    "ConfigMapEnvSource": _NAMED,
    "SecretEnvSource": _NAMED,
    # scheduling
    "Toleration": Rules(
        {
            "key": QualifiedKey,
            "operator": Literal["Exists", "Equal"],
            "value": LabelValue,
            "effect": Literal["NoSchedule", "PreferNoSchedule", "NoExecute"],
        },
        check=_toleration,
    ),
    "NodeSelectorRequirement": Rules(
        {
            "key": QualifiedKey,
            "operator": Literal["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"],
            "values": list[LabelValue],
        },
        check=_node_requirement,
    ),
    "LabelSelectorRequirement": Rules(
        {
            "key": QualifiedKey,
            "operator": Literal["In", "NotIn", "Exists", "DoesNotExist"],
            "values": list[LabelValue],
        },
        check=_label_requirement,
    ),
    "LabelSelector": Rules({"matchLabels": _Labels}),
    "NodeSelectorTerm": Rules({"matchFields": _NODE_FIELD}),
    "NodeSelector": Rules({"nodeSelectorTerms": _FILLED}),
    "PreferredSchedulingTerm": Rules({"weight": _Weight}),
    "WeightedPodAffinityTerm": Rules({"weight": _Weight}),
    "PodAffinityTerm": Rules(
        {
            "namespaces": list[DnsLabel],
            "topologyKey": QualifiedKey,
            "matchLabelKeys": list[QualifiedKey],
            "mismatchLabelKeys": list[QualifiedKey],
        },
        check=_pod_affinity_term,
    ),
    "TopologySpreadConstraint": Rules(
        {
            "maxSkew": _Count,
            "topologyKey": QualifiedKey,
            "whenUnsatisfiable": Literal["DoNotSchedule", "ScheduleAnyway"],
            "minDomains": _Count,
            "matchLabelKeys": list[QualifiedKey],
            "nodeAffinityPolicy": _Policy,
            "nodeTaintsPolicy": _Policy,
        },
        check=_spread,
    ),
    # volumes
    "PersistentVolumeClaimVolumeSource": Rules({"claimName": DnsSubdomain}),
    "EmptyDirVolumeSource": Rules({"medium": Literal["", "Memory", "HugePages"], "sizeLimit": Bytes}),
    "KeyToPath": Rules({"key": Text, "path": _File, "mode": _Mode}),
    "ConfigMapVolumeSource": Rules({"name": DnsSubdomain, "defaultMode": _Mode}, required=("name",)),
    "SecretVolumeSource": Rules({"secretName": DnsSubdomain, "defaultMode": _Mode}, required=("secretName",)),
    "HostPathVolumeSource": Rules(
        {
            "path": Annotated[str, _FILLED, AfterValidator(_no_steps_back)],
            "type": Literal[
                "", "DirectoryOrCreate", "Directory", "FileOrCreate", "File", "Socket", "CharDevice", "BlockDevice"
            ],
        }
    ),
    "NFSVolumeSource": Rules({"server": Text, "path": AbsolutePath}),
    "CSIVolumeSource": Rules({"driver": Annotated[str, Field(min_length=1, max_length=63, pattern=SUBDOMAIN_PATTERN)]}),
    "LocalObjectReference": _NAMED,
    "EphemeralVolumeSource": Rules(required=("volumeClaimTemplate",)),
    "ObjectMeta": Rules({"labels": _Labels, "annotations": Mapping[QualifiedKey, str]}),
    "PersistentVolumeClaimSpec": Rules(
        {
            "accessModes": Annotated[list[_AccessMode], _FILLED],
            "volumeMode": Literal["Filesystem"],  # a block device cannot be mounted
            "storageClassName": Annotated[str, AfterValidator(_class_name)],
            "volumeAttributesClassName": DnsSubdomain,
        },
        required=("accessModes", "resources"),
        check=_claim_spec,
    ),
    "VolumeResourceRequirements": Rules(
        {"requests": _Amounts, "limits": _Amounts}, required=("requests",), check=_claim_resources
    ),
    "ObjectFieldSelector": Rules(
        {"apiVersion": Literal["v1"], "fieldPath": Annotated[str, _FILLED, AfterValidator(_field_path)]}
    ),
    "ResourceFieldSelector": Rules(
        {"containerName": DnsLabel, "resource": Text}, required=("containerName",), check=_container_resource
    ),
    "DownwardAPIVolumeFile": Rules({"path": _File, "mode": _Mode}, check=exactly_one("fieldRef", "resourceFieldRef")),
    "DownwardAPIVolumeSource": Rules({"defaultMode": _Mode}),
    "ConfigMapProjection": _NAMED,
    "SecretProjection": _NAMED,
    "ServiceAccountTokenProjection": Rules(
        {"path": _File, "expirationSeconds": Annotated[Int, Field(ge=600, le=2**32)]}
    ),
    "VolumeProjection": Rules(check=exactly_one("configMap", "secret", "downwardAPI", "serviceAccountToken")),
    "ProjectedVolumeSource": Rules({"sources": _FILLED, "defaultMode": _Mode}, required=("sources",)),
    "ImageVolumeSource": Rules(
        {"reference": Text, "pullPolicy": Literal["Always", "IfNotPresent", "Never"]}, required=("reference",)
    ),
}
_NO_RULES: Final = Rules()


@functools.cache
def adapter(name: str) -> TypeAdapter[Any]:
    """Return the validator of a type of core_v1.py: built once, when it is needed (shaped.py)."""
    return TypeAdapter(_ruled(getattr(core_v1, name)))


@functools.cache
def _named(name: str) -> Any:
    return _made(getattr(core_v1, name), RULES.get(name, _NO_RULES), name=name)


def _ruled(kind: Any) -> Any:
    """Return a type of the schema with the rules of the types in it."""
    if is_typeddict(kind):
        return _named(kind.__name__)
    return list[_ruled(get_args(kind)[0])] if get_origin(kind) is list else kind  # type: ignore[misc]  # at run time


def _made(plain: Any, rules: Rules, *, name: str) -> Any:
    """Return the TypedDict `plain` again, with `rules` for its fields and for the whole."""
    fields = {}
    for field, kind in plain.__annotations__.items():
        is_required = field in plain.__required_keys__
        one = _field(get_args(kind)[0] if is_required else kind, rules.fields.get(field), name=f"{name}_{field}")
        fields[field] = Required[one] if is_required or field in rules.required else one
    make: Any = TypedDict  # of names that are known at run time only
    made = with_config(ConfigDict(extra="forbid"))(make(name, fields, total=False))
    made.__doc__ = " ".join(plain.__doc__.split())
    return Annotated[made, AfterValidator(rules.check)] if rules.check else made


def _field(kind: Any, rule: Any, *, name: str) -> Any:
    if isinstance(rule, Rules):
        (inner,) = get_args(kind)
        return list[_made(inner, rule, name=name)]  # type: ignore[misc]  # at run time
    if isinstance(rule, FieldInfo):
        return Annotated[_ruled(kind), rule]
    return _ruled(kind) if rule is None else rule
