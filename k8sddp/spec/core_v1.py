"""Kubernetes' own types, as far as job.yaml reaches them. Generated: `make golden-update` (tests/golden/core_v1.py).

Names, types and required fields of core/v1 in the OpenAPI schema of Kubernetes 1.33. What that does not say
(choices, patterns, what excludes what) is in shapes.py.
"""

from collections.abc import Mapping

from typing_extensions import Required, TypedDict

from k8sddp.spec.fields import Flag, Int, Int32, Quantity


class ConfigMapEnvSource(TypedDict, total=False):
    """ConfigMapEnvSource selects a ConfigMap to populate the environment variables with."""

    name: str
    optional: Flag


class SecretEnvSource(TypedDict, total=False):
    """SecretEnvSource selects a Secret to populate the environment variables with."""

    name: str
    optional: Flag


class EnvFromSource(TypedDict, total=False):
    """EnvFromSource represents the source of a set of ConfigMaps or Secrets."""

    configMapRef: ConfigMapEnvSource
    prefix: str
    secretRef: SecretEnvSource


class Toleration(TypedDict, total=False):
    """The pod this Toleration is attached to tolerates any taint that matches the triple <key,value,effect> using the
    matching operator <operator>.
    """

    effect: str
    key: str
    operator: str
    tolerationSeconds: Int
    value: str


class NodeSelectorRequirement(TypedDict, total=False):
    """A node selector requirement is a selector that contains values, a key, and an operator that relates the key and
    values.
    """

    key: Required[str]
    operator: Required[str]
    values: list[str]


class NodeSelectorTerm(TypedDict, total=False):
    """A null or empty node selector term matches no objects."""

    matchExpressions: list[NodeSelectorRequirement]
    matchFields: list[NodeSelectorRequirement]


class PreferredSchedulingTerm(TypedDict, total=False):
    """An empty preferred scheduling term matches all objects with implicit weight 0 (i.e. it's a no-op)."""

    preference: Required[NodeSelectorTerm]
    weight: Required[Int32]


class NodeSelector(TypedDict, total=False):
    """A node selector represents the union of the results of one or more label queries over a set of nodes; that is, it
    represents the OR of the selectors represented by the node selector terms.
    """

    nodeSelectorTerms: Required[list[NodeSelectorTerm]]


class NodeAffinity(TypedDict, total=False):
    """Node affinity is a group of node affinity scheduling rules."""

    preferredDuringSchedulingIgnoredDuringExecution: list[PreferredSchedulingTerm]
    requiredDuringSchedulingIgnoredDuringExecution: NodeSelector


class LabelSelectorRequirement(TypedDict, total=False):
    """A label selector requirement is a selector that contains values, a key, and an operator that relates the key and
    values.
    """

    key: Required[str]
    operator: Required[str]
    values: list[str]


class LabelSelector(TypedDict, total=False):
    """A label selector is a label query over a set of resources."""

    matchExpressions: list[LabelSelectorRequirement]
    matchLabels: Mapping[str, str]


class PodAffinityTerm(TypedDict, total=False):
    """Defines a set of pods (namely those matching the labelSelector relative to the given namespace(s)) that this pod
    should be co-located (affinity) or not co-located (anti-affinity) with, where co-located is defined as running on a
    node whose value of the label with key <topologyKey> matches that of any node on which a pod of the set of pods is
    running.
    """

    labelSelector: LabelSelector
    matchLabelKeys: list[str]
    mismatchLabelKeys: list[str]
    namespaceSelector: LabelSelector
    namespaces: list[str]
    topologyKey: Required[str]


class WeightedPodAffinityTerm(TypedDict, total=False):
    """The weights of all of the matched WeightedPodAffinityTerm fields are added per-node to find the most preferred
    node(s).
    """

    podAffinityTerm: Required[PodAffinityTerm]
    weight: Required[Int32]


class PodAffinity(TypedDict, total=False):
    """Pod affinity is a group of inter pod affinity scheduling rules."""

    preferredDuringSchedulingIgnoredDuringExecution: list[WeightedPodAffinityTerm]
    requiredDuringSchedulingIgnoredDuringExecution: list[PodAffinityTerm]


class PodAntiAffinity(TypedDict, total=False):
    """Pod anti affinity is a group of inter pod anti affinity scheduling rules."""

    preferredDuringSchedulingIgnoredDuringExecution: list[WeightedPodAffinityTerm]
    requiredDuringSchedulingIgnoredDuringExecution: list[PodAffinityTerm]


class Affinity(TypedDict, total=False):
    """Affinity is a group of affinity scheduling rules."""

    nodeAffinity: NodeAffinity
    podAffinity: PodAffinity
    podAntiAffinity: PodAntiAffinity


class TopologySpreadConstraint(TypedDict, total=False):
    """TopologySpreadConstraint specifies how to spread matching pods among the given topology."""

    labelSelector: LabelSelector
    matchLabelKeys: list[str]
    maxSkew: Required[Int32]
    minDomains: Int32
    nodeAffinityPolicy: str
    nodeTaintsPolicy: str
    topologyKey: Required[str]
    whenUnsatisfiable: Required[str]


class PersistentVolumeClaimVolumeSource(TypedDict, total=False):
    """PersistentVolumeClaimVolumeSource references the user's PVC in the same namespace."""

    claimName: Required[str]
    readOnly: Flag


class EmptyDirVolumeSource(TypedDict, total=False):
    """Represents an empty directory for a pod."""

    medium: str
    sizeLimit: Quantity


class KeyToPath(TypedDict, total=False):
    """Maps a string key to a path within a volume."""

    key: Required[str]
    mode: Int32
    path: Required[str]


class ConfigMapVolumeSource(TypedDict, total=False):
    """Adapts a ConfigMap into a volume."""

    defaultMode: Int32
    items: list[KeyToPath]
    name: str
    optional: Flag


class SecretVolumeSource(TypedDict, total=False):
    """Adapts a Secret into a volume."""

    defaultMode: Int32
    items: list[KeyToPath]
    optional: Flag
    secretName: str


class HostPathVolumeSource(TypedDict, total=False):
    """Represents a host path mapped into a pod."""

    path: Required[str]
    type: str


class NFSVolumeSource(TypedDict, total=False):
    """Represents an NFS mount that lasts the lifetime of a pod."""

    path: Required[str]
    readOnly: Flag
    server: Required[str]


class LocalObjectReference(TypedDict, total=False):
    """LocalObjectReference contains enough information to let you locate the referenced object inside the same
    namespace.
    """

    name: str


class CSIVolumeSource(TypedDict, total=False):
    """Represents a source location of a volume to mount, managed by an external CSI driver."""

    driver: Required[str]
    fsType: str
    nodePublishSecretRef: LocalObjectReference
    readOnly: Flag
    volumeAttributes: Mapping[str, str]


class ObjectMeta(TypedDict, total=False):
    """ObjectMeta is metadata that all persisted resources must have, which includes all objects users must create."""

    annotations: Mapping[str, str]
    labels: Mapping[str, str]


class VolumeResourceRequirements(TypedDict, total=False):
    """VolumeResourceRequirements describes the storage resource requirements for a volume."""

    limits: Mapping[str, Quantity]
    requests: Mapping[str, Quantity]


class PersistentVolumeClaimSpec(TypedDict, total=False):
    """PersistentVolumeClaimSpec describes the common attributes of storage devices and allows a Source for
    provider-specific attributes.
    """

    accessModes: list[str]
    resources: VolumeResourceRequirements
    selector: LabelSelector
    storageClassName: str
    volumeAttributesClassName: str
    volumeMode: str


class PersistentVolumeClaimTemplate(TypedDict, total=False):
    """PersistentVolumeClaimTemplate is used to produce PersistentVolumeClaim objects as part of an
    EphemeralVolumeSource.
    """

    metadata: ObjectMeta
    spec: Required[PersistentVolumeClaimSpec]


class EphemeralVolumeSource(TypedDict, total=False):
    """Represents an ephemeral volume that is handled by a normal storage driver."""

    volumeClaimTemplate: PersistentVolumeClaimTemplate


class ConfigMapProjection(TypedDict, total=False):
    """Adapts a ConfigMap into a projected volume."""

    items: list[KeyToPath]
    name: str
    optional: Flag


class ObjectFieldSelector(TypedDict, total=False):
    """ObjectFieldSelector selects an APIVersioned field of an object."""

    apiVersion: str
    fieldPath: Required[str]


class ResourceFieldSelector(TypedDict, total=False):
    """ResourceFieldSelector represents container resources (cpu, memory) and their output format."""

    containerName: str
    divisor: Quantity
    resource: Required[str]


class DownwardAPIVolumeFile(TypedDict, total=False):
    """DownwardAPIVolumeFile represents information to create the file containing the pod field."""

    fieldRef: ObjectFieldSelector
    mode: Int32
    path: Required[str]
    resourceFieldRef: ResourceFieldSelector


class DownwardAPIProjection(TypedDict, total=False):
    """Represents downward API info for projecting into a projected volume."""

    items: list[DownwardAPIVolumeFile]


class SecretProjection(TypedDict, total=False):
    """Adapts a secret into a projected volume."""

    items: list[KeyToPath]
    name: str
    optional: Flag


class ServiceAccountTokenProjection(TypedDict, total=False):
    """ServiceAccountTokenProjection represents a projected service account token volume."""

    audience: str
    expirationSeconds: Int
    path: Required[str]


class VolumeProjection(TypedDict, total=False):
    """Projection that may be projected along with other supported volume types."""

    configMap: ConfigMapProjection
    downwardAPI: DownwardAPIProjection
    secret: SecretProjection
    serviceAccountToken: ServiceAccountTokenProjection


class ProjectedVolumeSource(TypedDict, total=False):
    """Represents a projected volume source."""

    defaultMode: Int32
    sources: list[VolumeProjection]


class DownwardAPIVolumeSource(TypedDict, total=False):
    """DownwardAPIVolumeSource represents a volume containing downward API info."""

    defaultMode: Int32
    items: list[DownwardAPIVolumeFile]


class ImageVolumeSource(TypedDict, total=False):
    """ImageVolumeSource represents a image volume resource."""

    pullPolicy: str
    reference: str
