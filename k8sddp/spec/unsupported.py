"""Fields that are planned and not there yet: known by name, so that the error says so instead of guessing a typo.

A path leaves this table when its field enters the model. Keys are paths as in job.yaml.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

# path -> what to do meanwhile
FIELDS: Final[Mapping[str, str]] = {
    "spec.code.git": "use code.path, or clone in the image",
    "spec.code.volume": "use volumes and name the script by its full path",
    "spec.checkpoint": "use volumes and save from the script",
    "spec.network.interface": "set NCCL_SOCKET_IFNAME or GLOO_SOCKET_IFNAME in env",
    "spec.network.hostNetwork": "remove it",
    "spec.network.rdma": "remove it",
    "spec.scheduling.queue": "use the label kueue.x-k8s.io/queue-name in metadata.labels",
    "spec.scheduling.gang": "remove it",
    "spec.suspend": "apply the file when the job may start",
    "spec.podTemplate": "render the manifests and patch them",
}
