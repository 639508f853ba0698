"""Kubernetes' volume sources and envFrom, as far as they decide whether the API server accepts them.

Field names, required fields and rules follow core/v1 and its validation in kubernetes/kubernetes
(pkg/apis/core/validation); unknown fields are refused, as strict field validation does. What only the cluster knows
(does the claim exist?) is not judged.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from typing_extensions import Required, TypedDict

from k8sddp.spec.fields import (
    SUBDOMAIN_PATTERN,
    AbsolutePath,
    Bytes,
    DnsLabel,
    DnsSubdomain,
    Flag,
    Int,
    QualifiedKey,
    RelativePath,
    Text,
    exactly_one,
    fault,
)
from k8sddp.spec.scheduling_shapes import Labels, LabelSelector, strict
from k8sddp.worker.contract import node_env

Mode = Annotated[Int, Field(ge=0, le=0o777)]
AccessMode = Literal["ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod"]
DriverName = Annotated[str, Field(min_length=1, max_length=63, pattern=SUBDOMAIN_PATTERN)]


def _env_prefix(prefix: str) -> str:
    reason = node_env.reserved_reason(prefix)
    if reason or not all(" " <= char <= "~" and char != "=" for char in prefix):
        raise fault(f"`{prefix}` cannot be a prefix: {reason or 'it must be printable ASCII without `=`'}")
    return prefix


@strict
class Reference(TypedDict, total=False):
    """A ConfigMap or Secret by name."""

    name: Required[DnsSubdomain]
    optional: Flag


@strict
class _EnvFromSource(TypedDict, total=False):
    prefix: Annotated[str, AfterValidator(_env_prefix)]
    configMapRef: Reference
    secretRef: Reference


EnvFromSource = Annotated[_EnvFromSource, AfterValidator(exactly_one("configMapRef", "secretRef"))]


@strict
class PersistentVolumeClaim(TypedDict, total=False):
    """A claim by name."""

    claimName: Required[DnsSubdomain]
    readOnly: Flag


@strict
class EmptyDir(TypedDict, total=False):
    """A folder that lives as long as the pod."""

    medium: Literal["", "Memory", "HugePages"]
    sizeLimit: Bytes


@strict
class Item(TypedDict, total=False):
    """A key and the file it becomes."""

    key: Required[Text]
    path: Required[RelativePath]
    mode: Mode


@strict
class ConfigMap(TypedDict, total=False):
    """Files from a ConfigMap."""

    name: Required[DnsSubdomain]
    items: list[Item]
    defaultMode: Mode
    optional: Flag


@strict
class Secret(TypedDict, total=False):
    """Files from a Secret."""

    secretName: Required[DnsSubdomain]
    items: list[Item]
    defaultMode: Mode
    optional: Flag


@strict
class HostPath(TypedDict, total=False):
    """A path of the Kubernetes Node."""

    path: Required[Text]
    type: Literal["", "DirectoryOrCreate", "Directory", "FileOrCreate", "File", "Socket", "CharDevice", "BlockDevice"]


@strict
class NFS(TypedDict, total=False):
    """An NFS export."""

    server: Required[Text]
    path: Required[AbsolutePath]
    readOnly: Flag


@strict
class SecretName(TypedDict, total=False):
    """A Secret by name."""

    name: Required[DnsSubdomain]


@strict
class CSI(TypedDict, total=False):
    """An ephemeral volume of a CSI driver."""

    driver: Required[DriverName]
    readOnly: Flag
    fsType: str
    volumeAttributes: Mapping[str, str]
    nodePublishSecretRef: SecretName


@strict
class ClaimResources(TypedDict, total=False):
    """How much storage."""

    requests: Required[Mapping[QualifiedKey, Bytes]]
    limits: Mapping[QualifiedKey, Bytes]


@strict
class ClaimSpec(TypedDict, total=False):
    """What the claim asks for."""

    accessModes: Required[Annotated[list[AccessMode], Field(min_length=1)]]
    resources: Required[ClaimResources]
    storageClassName: str
    volumeMode: Literal["Filesystem"]
    volumeAttributesClassName: DnsSubdomain
    selector: LabelSelector


@strict
class ClaimMetadata(TypedDict, total=False):
    """Labels and annotations of the claim."""

    labels: Labels
    annotations: Mapping[QualifiedKey, str]


@strict
class ClaimTemplate(TypedDict, total=False):
    """A claim that does not exist yet."""

    metadata: ClaimMetadata
    spec: Required[ClaimSpec]


@strict
class Ephemeral(TypedDict):
    """A claim that lives as long as the pod."""

    volumeClaimTemplate: ClaimTemplate


@strict
class FieldRef(TypedDict, total=False):
    """A field of the pod."""

    apiVersion: Literal["v1"]
    fieldPath: Required[Text]


@strict
class ResourceFieldRef(TypedDict, total=False):
    """A request or limit of the container."""

    containerName: Required[DnsLabel]
    resource: Required[Text]
    divisor: Text


@strict
class _DownwardItem(TypedDict, total=False):
    path: Required[RelativePath]
    fieldRef: FieldRef
    resourceFieldRef: ResourceFieldRef
    mode: Mode


DownwardItem = Annotated[_DownwardItem, AfterValidator(exactly_one("fieldRef", "resourceFieldRef"))]


@strict
class DownwardAPI(TypedDict, total=False):
    """Facts about the pod as files."""

    items: list[DownwardItem]
    defaultMode: Mode


@strict
class KeyItems(TypedDict, total=False):
    """A ConfigMap or Secret, all of it or some keys."""

    name: Required[DnsSubdomain]
    items: list[Item]
    optional: Flag


@strict
class ProjectedDownwardAPI(TypedDict, total=False):
    """Facts about the pod as files."""

    items: list[DownwardItem]


@strict
class ServiceAccountToken(TypedDict, total=False):
    """A token for another service."""

    path: Required[RelativePath]
    audience: str
    expirationSeconds: Annotated[Int, Field(ge=600, le=2**32)]


@strict
class _ProjectedSource(TypedDict, total=False):
    configMap: KeyItems
    secret: KeyItems
    downwardAPI: ProjectedDownwardAPI
    serviceAccountToken: ServiceAccountToken


ProjectedSource = Annotated[
    _ProjectedSource, AfterValidator(exactly_one("configMap", "secret", "downwardAPI", "serviceAccountToken"))
]


@strict
class Projected(TypedDict, total=False):
    """Several sources in one folder."""

    sources: Required[Annotated[list[ProjectedSource], Field(min_length=1)]]
    defaultMode: Mode


@strict
class Image(TypedDict, total=False):
    """The files of an OCI image."""

    reference: Required[Text]
    pullPolicy: Literal["Always", "IfNotPresent", "Never"]
