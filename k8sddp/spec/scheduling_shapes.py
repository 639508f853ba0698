"""Kubernetes' tolerations, affinity and topology spread, as far as they decide whether the API server accepts them.

Field names, required fields and rules follow core/v1 and its validation in kubernetes/kubernetes
(pkg/apis/core/validation); unknown fields are refused, as strict field validation does. What only the cluster knows
(does such a Kubernetes Node exist?) is not judged.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field, with_config
from typing_extensions import Required, TypedDict

from k8sddp.spec.fields import DnsLabel, Int, LabelValue, QualifiedKey, fault

_MAX_INT32 = 2**31 - 1
strict = with_config(ConfigDict(extra="forbid"))

Weight = Annotated[Int, Field(ge=1, le=100)]
Labels = Mapping[QualifiedKey, LabelValue]


@strict
class _Toleration(TypedDict, total=False):
    key: QualifiedKey
    operator: Literal["Exists", "Equal"]
    value: LabelValue
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"]
    tolerationSeconds: Int


def _check_toleration(toleration: _Toleration) -> _Toleration:
    operator = toleration.get("operator", "Equal")
    if "key" not in toleration and operator != "Exists":
        raise fault("a toleration without key tolerates everything", "write operator: Exists, or a key")
    if operator == "Exists" and toleration.get("value"):
        raise fault("operator Exists takes no value", "remove value, or write operator: Equal")
    if "tolerationSeconds" in toleration and toleration.get("effect") != "NoExecute":
        raise fault("tolerationSeconds needs effect NoExecute", "write effect: NoExecute, or remove it")
    return toleration


Toleration = Annotated[_Toleration, AfterValidator(_check_toleration)]


@strict
class _NodeRequirement(TypedDict, total=False):
    key: Required[QualifiedKey]
    operator: Required[Literal["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"]]
    values: list[LabelValue]


@strict
class _LabelRequirement(TypedDict, total=False):
    key: Required[QualifiedKey]
    operator: Required[Literal["In", "NotIn", "Exists", "DoesNotExist"]]
    values: list[LabelValue]


def _check_node_requirement(requirement: _NodeRequirement) -> _NodeRequirement:
    operator, values = requirement["operator"], requirement.get("values", [])
    _check_values(operator, values)
    if operator in ("Gt", "Lt") and (len(values) != 1 or not values[0].lstrip("-").isdigit()):
        raise fault(f"operator {operator} needs one value, a whole number as a text", 'write values: ["4"]')
    return requirement


def _check_label_requirement(requirement: _LabelRequirement) -> _LabelRequirement:
    _check_values(requirement["operator"], requirement.get("values", []))
    return requirement


def _check_values(operator: str, values: list[str]) -> None:
    if operator in ("In", "NotIn") and not values:
        raise fault(f"operator {operator} needs values", "write values: [...]")
    if operator in ("Exists", "DoesNotExist") and values:
        raise fault(f"operator {operator} takes no values", "remove values, or write operator: In")


NodeRequirement = Annotated[_NodeRequirement, AfterValidator(_check_node_requirement)]
LabelRequirement = Annotated[_LabelRequirement, AfterValidator(_check_label_requirement)]


@strict
class LabelSelector(TypedDict, total=False):
    """Which objects are meant, by their labels."""

    matchLabels: Labels
    matchExpressions: list[LabelRequirement]


@strict
class NodeFieldRequirement(TypedDict):
    """A Kubernetes Node by its name: the only field there is."""

    key: Literal["metadata.name"]
    operator: Literal["In", "NotIn"]
    values: Annotated[list[str], Field(min_length=1, max_length=1)]


@strict
class NodeSelectorTerm(TypedDict, total=False):
    """Requirements that all hold."""

    matchExpressions: list[NodeRequirement]
    matchFields: list[NodeFieldRequirement]


@strict
class NodeSelector(TypedDict):
    """Terms of which one must hold."""

    nodeSelectorTerms: Annotated[list[NodeSelectorTerm], Field(min_length=1)]


@strict
class PreferredNodeTerm(TypedDict):
    """A wish, and how much it counts."""

    weight: Weight
    preference: NodeSelectorTerm


@strict
class NodeAffinity(TypedDict, total=False):
    """Which Kubernetes Nodes."""

    requiredDuringSchedulingIgnoredDuringExecution: NodeSelector
    preferredDuringSchedulingIgnoredDuringExecution: list[PreferredNodeTerm]


@strict
class PodAffinityTerm(TypedDict, total=False):
    """Near (or far from) which pods."""

    labelSelector: LabelSelector
    namespaceSelector: LabelSelector
    namespaces: list[DnsLabel]
    topologyKey: Required[QualifiedKey]
    matchLabelKeys: list[QualifiedKey]
    mismatchLabelKeys: list[QualifiedKey]


@strict
class WeightedPodTerm(TypedDict):
    """A wish, and how much it counts."""

    weight: Weight
    podAffinityTerm: PodAffinityTerm


@strict
class PodAffinity(TypedDict, total=False):
    """Near (or far from) which pods, as a must and as a wish."""

    requiredDuringSchedulingIgnoredDuringExecution: list[PodAffinityTerm]
    preferredDuringSchedulingIgnoredDuringExecution: list[WeightedPodTerm]


@strict
class Affinity(TypedDict, total=False):
    """Kubernetes' affinity."""

    nodeAffinity: NodeAffinity
    podAffinity: PodAffinity
    podAntiAffinity: PodAffinity


@strict
class _TopologySpreadConstraint(TypedDict, total=False):
    maxSkew: Required[Annotated[Int, Field(ge=1, le=_MAX_INT32)]]
    topologyKey: Required[QualifiedKey]
    whenUnsatisfiable: Required[Literal["DoNotSchedule", "ScheduleAnyway"]]
    labelSelector: LabelSelector
    minDomains: Annotated[Int, Field(ge=1, le=_MAX_INT32)]
    matchLabelKeys: list[QualifiedKey]
    nodeAffinityPolicy: Literal["Honor", "Ignore"]
    nodeTaintsPolicy: Literal["Honor", "Ignore"]


def _check_spread(constraint: _TopologySpreadConstraint) -> _TopologySpreadConstraint:
    if "minDomains" in constraint and constraint["whenUnsatisfiable"] != "DoNotSchedule":
        raise fault("minDomains needs whenUnsatisfiable DoNotSchedule", "remove minDomains")
    return constraint


TopologySpreadConstraint = Annotated[_TopologySpreadConstraint, AfterValidator(_check_spread)]
