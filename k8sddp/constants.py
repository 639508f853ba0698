"""Names that users, Kubernetes and our own programs agree on: API group, labels, annotations, limits.

Foreign names have their source beside them. A pod's environment is not here but in `worker/contract/node_env.py`,
because the worker imports nothing else of k8sddp.
"""

from __future__ import annotations

from typing import Final

API_GROUP: Final = "k8sddp.dev"
API_VERSION: Final = f"{API_GROUP}/v1alpha1"
KIND: Final = "DDPJob"

FIELD_MANAGER: Final = "k8sddp-cli"
MANAGED_BY: Final = "k8sddp"  # value of LABEL_APP_MANAGED_BY on everything that we render
MIN_KUBERNETES: Final = (1, 33)  # backoffLimitPerIndex and successPolicy are GA there

# Labels (https://kubernetes.io/docs/concepts/overview/working-with-objects/common-labels)
LABEL_APP_NAME: Final = "app.kubernetes.io/name"
LABEL_APP_INSTANCE: Final = "app.kubernetes.io/instance"
LABEL_APP_MANAGED_BY: Final = "app.kubernetes.io/managed-by"
LABEL_APP_COMPONENT: Final = "app.kubernetes.io/component"
LABEL_JOB: Final = f"{API_GROUP}/job"

# Labels and annotations that the Job controller sets (pkg/controller/job in kubernetes/kubernetes)
LABEL_BATCH_JOB_NAME: Final = "batch.kubernetes.io/job-name"
LABEL_BATCH_INDEX: Final = "batch.kubernetes.io/job-completion-index"
LABEL_BATCH_CONTROLLER_UID: Final = "batch.kubernetes.io/controller-uid"
ANNOTATION_BATCH_INDEX_FAILURE_COUNT: Final = "batch.kubernetes.io/job-index-failure-count"
ANNOTATION_BATCH_INDEX_IGNORED_FAILURE_COUNT: Final = "batch.kubernetes.io/job-index-ignored-failure-count"

# A Job with this label is started by Kueue, and by nobody else (kueue pkg/controller/constants)
LABEL_KUEUE_QUEUE: Final = "kueue.x-k8s.io/queue-name"

# Annotations of the Job object
ANNOTATION_VERSION: Final = f"{API_GROUP}/version"  # of the k8sddp that rendered it
ANNOTATION_SPEC: Final = f"{API_GROUP}/spec"  # the user's spec as JSON: what a second apply is compared with
ANNOTATION_SPEC_DIGEST: Final = f"{API_GROUP}/spec-digest"
ANNOTATION_CODE_DIGEST: Final = f"{API_GROUP}/code-digest"
ANNOTATION_FIRST_FAILURE: Final = f"{API_GROUP}/first-failure"  # of a failed Job, in one sentence
ANNOTATION_INCOMPLETE: Final = f"{API_GROUP}/incomplete"  # created, children not yet all there: the next apply finishes

CONTAINER_NAME: Final = "worker"
DEFAULT_GPU_RESOURCE: Final = "nvidia.com/gpu"

# Limits
MAX_NAME: Final = 63  # a DNS label (RFC 1123); the longest generated name must fit
# A ConfigMap of its own holds the worker, so 1 MiB is what Kubernetes would take. It is in every render and apply, in
# etcd, and read by the kubelet of every pod: it grows when a feature is worth that, not by itself.
MAX_WORKER_ZIP: Final = 192 * 1024
MAX_CODE_ZIP: Final = 900 * 1024  # a ConfigMap holds 1 MiB; base64 in the request is not counted, the binary is
MAX_SPEC_ANNOTATION: Final = 128 * 1024  # all annotations of an object together hold 256 KiB
