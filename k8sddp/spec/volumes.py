"""One entry of `spec.volumes`: where it is mounted, and one of Kubernetes' volume sources beside it.

Kubernetes keeps `volumes` and `volumeMounts` apart because a pod has several containers; ours has one, so an entry
says both. The in-tree drivers that Kubernetes has removed or moved to CSI are not among the sources.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import Field

from k8sddp.spec.fields import AbsolutePath, DnsLabel, Flag, Part, RelativePath
from k8sddp.spec.shaped import Shape, Shaped

PersistentVolumeClaim = Annotated[Shape, Shaped("PersistentVolumeClaimVolumeSource")]
EmptyDir = Annotated[Shape, Shaped("EmptyDirVolumeSource")]
ConfigMap = Annotated[Shape, Shaped("ConfigMapVolumeSource")]
Secret = Annotated[Shape, Shaped("SecretVolumeSource")]
HostPath = Annotated[Shape, Shaped("HostPathVolumeSource")]
NFS = Annotated[Shape, Shaped("NFSVolumeSource")]
CSI = Annotated[Shape, Shaped("CSIVolumeSource")]
Ephemeral = Annotated[Shape, Shaped("EphemeralVolumeSource")]
Projected = Annotated[Shape, Shaped("ProjectedVolumeSource")]
DownwardAPI = Annotated[Shape, Shaped("DownwardAPIVolumeSource")]
Image = Annotated[Shape, Shaped("ImageVolumeSource")]


class Volume(Part):
    """A volume that every pod of the job mounts. Exactly one source must be given."""

    name: DnsLabel = Field(description="Name of the volume, unique in the job.")
    mount_path: AbsolutePath = Field(description="Absolute path in the container, unique in the job.")
    read_only: Flag = Field(default=False, description="Mount it read-only. Default: false.")
    sub_path: RelativePath | None = Field(
        default=None, description="Mount this folder of the volume instead of its root."
    )
    persistent_volume_claim: PersistentVolumeClaim | None = Field(
        default=None, description="A claim in the job's namespace. One claim for several nodes must be ReadWriteMany."
    )
    empty_dir: EmptyDir | None = Field(default=None, description="An empty folder for each pod, lost with it.")
    config_map: ConfigMap | None = Field(default=None, description="Files from a ConfigMap.")
    secret: Secret | None = Field(default=None, description="Files from a Secret.")
    host_path: HostPath | None = Field(
        default=None,
        description="A path of the Kubernetes Node; refused by Pod Security profiles but privileged.",
    )
    nfs: NFS | None = Field(default=None, description="An NFS export.")
    csi: CSI | None = Field(default=None, description="An ephemeral volume of a CSI driver.")
    ephemeral: Ephemeral | None = Field(
        default=None, description="A claim that is created with each pod and deleted with it."
    )
    projected: Projected | None = Field(default=None, description="Several sources in one folder.")
    downward_api: DownwardAPI | None = Field(
        default=None, alias="downwardAPI", description="Facts about the pod as files."
    )
    image: Image | None = Field(
        default=None, description="The files of an OCI image, read-only (Kubernetes 1.35; before that a feature gate)."
    )

    @property
    def source(self) -> Mapping[str, Any]:
        """Return the source as Kubernetes writes it: `{"emptyDir": {}}`."""
        return {alias: value for alias, name in SOURCES.items() if (value := getattr(self, name)) is not None}


_MOUNT_FIELDS = ("name", "mount_path", "read_only", "sub_path")
# YAML name -> attribute, of every volume source
SOURCES: Final[Mapping[str, str]] = {
    str(field.alias): name for name, field in Volume.model_fields.items() if name not in _MOUNT_FIELDS
}
