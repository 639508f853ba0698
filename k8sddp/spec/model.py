"""What job.yaml means: `DDPJob`, the single source for validation, the JSON schema, the CRD and the reference docs.

Values are frozen, defaults are resolved: where a default exists nothing is None. A rule about one field stands in its
type; rules between fields stand in `rules.py`, so that they are reported even while other fields are wrong. Fields that
are planned are not here but in `unsupported.py`: nothing is accepted and ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from k8sddp import constants, topology
from k8sddp.spec.fields import (
    Bytes,
    DnsLabel,
    DnsSubdomain,
    EnvName,
    ExitCodes,
    HangTimeout,
    Int,
    LabelValue,
    Name,
    Nodes,
    Part,
    Preflight,
    QualifiedKey,
    Quantity,
    ResourceName,
    Seconds,
    Text,
    Word,
    quantity_value,
)
from k8sddp.spec.shaped import Affinity, EnvFrom, Toleration, TopologySpread
from k8sddp.spec.volumes import Volume
from k8sddp.worker.contract import node_env

_MAX_INT32 = 2**31 - 1
_MASTER_PORTS = 3200  # worker/gang/ports.py: what the attempts of a job take in turn
_MAX_PORT = 65535 - node_env.MASTER_PORT_OFFSET - (_MASTER_PORTS - 1)


class Metadata(Part):
    """Name and labels of the job, as Kubernetes has them."""

    name: Name = Field(
        description="Name of the job and of all its objects and pods; the longest of these must fit 63 characters."
    )
    namespace: DnsLabel | None = Field(default=None, description="Namespace; -n must agree. Default: the context's.")
    labels: Mapping[QualifiedKey, LabelValue] = Field(default={}, description="Labels for the job and its pods.")
    annotations: Mapping[QualifiedKey, str] = Field(default={}, description="Annotations for the job and its pods.")


class Code(Part):
    """Where the script comes from when it is not in the image. Exactly one field must be given."""

    path: Text | None = Field(
        default=None, description="Folder that travels in a ConfigMap (at most 900 KiB packed), relative to job.yaml."
    )
    config_map: DnsSubdomain | None = Field(
        default=None, description="Name of a ConfigMap whose binaryData holds the packed folder as code.zip."
    )


class Resources(Part):
    """What each node of the job needs: requests and limits of its pod."""

    gpu: Annotated[Int, Field(ge=0, le=1024)] = Field(default=0, description="GPUs per node. Default: 0.")
    cpu: Quantity | None = Field(default=None, description="CPU cores per node: 32, 500m. Default: no request.")
    memory: Bytes | None = Field(default=None, description="Memory per node: 256Gi. Default: no request.")
    shared_memory: Bytes | None = Field(
        default=None,
        description="Size of /dev/shm, part of `memory`; DataLoader workers and NCCL need it. "
        "Default: all of `memory`, else 1Gi.",
    )
    gpu_resource: ResourceName = Field(
        default=constants.DEFAULT_GPU_RESOURCE, description="Resource that counts the GPUs. Default: nvidia.com/gpu."
    )


class Rendezvous(Part):
    """How the nodes find each other."""

    port: Annotated[Int, Field(ge=1024, le=_MAX_PORT)] = Field(
        default=node_env.DEFAULT_PORT,
        description="Port of the gang; the next one serves HTTP, ten above it begin the 3,200 ports for MASTER_PORT: "
        "every attempt takes a new one, disrupted ones too. 1024 to 62326; best up to 29558, so that all of them stay "
        "below 32768, where Linux's ephemeral ports begin. Default: 29400.",
    )
    timeout: Seconds = Field(
        default=600,
        description="After how long a wait for nodes the log says where to look: 90s, 10m, 1h30m or whole seconds. "
        "The wait goes on: it costs no attempt, and only activeDeadlineSeconds bounds it. Default: 10m.",
    )


class Network(Part):
    """Who may connect to the pods."""

    policy: Literal["isolated", "open"] = Field(
        default="isolated",
        description="isolated: only this job's pods, and the HTTP port; open: no NetworkPolicy. Default: isolated.",
    )


class Scheduling(Part):
    """Where the pods may run."""

    node_selector: Mapping[QualifiedKey, LabelValue] = Field(default={}, description="Labels of the Kubernetes Nodes.")
    tolerations: tuple[Toleration, ...] = Field(default=(), description="Kubernetes' tolerations.")
    affinity: Affinity | None = Field(default=None, description="Kubernetes' affinity.")
    topology_spread: tuple[TopologySpread, ...] = Field(
        default=(), description="Kubernetes' topologySpreadConstraints. Default of labelSelector: this job's pods."
    )
    priority_class_name: DnsSubdomain | None = Field(default=None, description="PriorityClass of the pods.")
    scheduler_name: DnsSubdomain | None = Field(default=None, description="Scheduler. Default: the cluster's own.")


class Restart(Part):
    """When the whole gang starts again after a failure. Codes are those of a rank; a signal n counts as 128 + n."""

    max_attempts: Annotated[Int, Field(ge=1, le=100)] = Field(
        default=4,
        description="Attempts of the whole gang that may end by a failure, 1 to 100; 1 means no restart. Disruptions "
        "(a pod that is evicted, preempted, drained or lost with its Kubernetes Node) do not count. Default: 4.",
    )
    fail_on: ExitCodes = Field(
        default=(),
        description="Exit codes of a rank that fail the job at once: [3, 137]. Default: none; all are worth another "
        "attempt.",
    )
    retry_on: ExitCodes = Field(
        default=(),
        description="The only exit codes of a rank that are worth another attempt; every other one fails the job at "
        "once. Default: all but those of failOn, as long as it can help: a usage error, a SyntaxError, a missing "
        "module, or the same failure a second time before any step end the job.",
    )
    hang_timeout: HangTimeout = Field(
        default=600,
        description="How long a rank may wait for the others inside a collective, a backward or init_process_group "
        "until the gang is asked who holds it up: 90s, 10m, 1h30m or whole seconds. A rank that still works is ended "
        "only after twice as long. Less than the process group's own timeout (gloo 30m, NCCL 10m), else that comes "
        "first. Default: 10m.",
    )
    on_hang: Literal["restart", "fail", "report"] = Field(
        default="restart",
        description="restart: a hang ends the attempt, as any failure does; fail: it ends the job; report: it is said, "
        "and nothing is ended. Default: restart.",
    )


class SecurityContext(Part):
    """Under which user the pods run."""

    profile: Literal["restricted", "platform"] = Field(
        default="restricted",
        description="restricted: the Pod Security profile of that name, with the user and groups below; "
        "platform: user and groups are left to the cluster, as OpenShift wants. Default: restricted.",
    )
    run_as_user: Annotated[Int, Field(ge=1, le=_MAX_INT32)] = Field(default=65532, description="User. Default: 65532.")
    run_as_group: Annotated[Int, Field(ge=0, le=_MAX_INT32)] = Field(
        default=65532, description="Group. Default: 65532."
    )
    fs_group: Annotated[Int, Field(ge=0, le=_MAX_INT32)] = Field(
        default=65532, description="Group that owns the volumes' files. Default: 65532."
    )


def default_nproc_per_node(gpu: int) -> int:
    """Return the ranks per node when the spec names none: one per GPU, one without."""
    return gpu or 1


def default_backend(gpu: int) -> Literal["nccl", "gloo"]:
    """Return the backend when the spec names none."""
    return "nccl" if gpu else "gloo"


class JobSpec(Part):
    """What runs, how often, with what."""

    image: Word = Field(description="Container image with Python >= 3.9 and torch >= 2.4; k8sddp need not be in it.")
    command: Annotated[tuple[str, ...], Field(min_length=1)] = Field(
        description="What torchrun runs: a script, or -m and a module, and its arguments."
    )
    python: Word = Field(default="python3", description="Python interpreter in the image. Default: python3.")
    code: Code | None = Field(default=None, description="Where the script comes from. Default: it is in the image.")
    nnodes: Nodes = Field(default=1, description="Nodes, that is pods; 1 to 4096. Default: 1.")
    # stands before the fields whose defaults it decides
    resources: Resources = Field(default=Resources(), description="What each node needs.")
    nproc_per_node: Annotated[Int, Field(ge=1, le=1024)] = Field(
        default_factory=lambda data: default_nproc_per_node(data["resources"].gpu),
        description="Ranks per node, 1 to 1024. Default: one per GPU, else 1.",
    )
    backend: Literal["nccl", "gloo"] = Field(
        default_factory=lambda data: default_backend(data["resources"].gpu),
        description="Communication backend. Default: nccl with GPUs, gloo without.",
    )
    launcher: Literal["torchrun", "direct", "spawn"] = Field(
        default="torchrun",
        description="torchrun: one process per rank; direct: the same environment without torchrun's agent, which "
        "starts sooner and needs less memory; spawn: plain Python, the script starts its own ranks. Default: torchrun.",
    )
    env: Mapping[EnvName, str] = Field(default={}, description="Environment of every rank: names and texts.")
    env_from: tuple[EnvFrom, ...] = Field(default=(), description="Environment from ConfigMaps and Secrets.")
    volumes: tuple[Volume, ...] = Field(default=(), description="Volumes that every pod mounts.")
    rendezvous: Rendezvous = Field(default=Rendezvous(), description="How the nodes find each other.")
    network: Network = Field(default=Network(), description="Who may connect to the pods.")
    scheduling: Scheduling = Field(default=Scheduling(), description="Where the pods may run.")
    restart: Restart = Field(default=Restart(), description="When the gang starts again after a failure.")
    preflight: Preflight = Field(
        default="fail",
        description="What a problem does that is found before the first attempt (torch, script, GPUs, driver, folders, "
        "peers' ports): fail: it ends the job with exit code 77; warn: it is said, and the job goes on; skip, or "
        '"off" in quotes: nothing is looked at. Default: fail.',
    )
    active_deadline_seconds: Annotated[Int, Field(ge=1, le=_MAX_INT32)] | None = Field(
        default=None, description="The job fails after this many seconds. Default: no limit."
    )
    ttl_seconds_after_finished: Annotated[Int, Field(ge=0, le=_MAX_INT32)] | None = Field(
        default=None, description="The finished job is deleted after this many seconds. Default: it is kept."
    )
    termination_grace_period_seconds: Annotated[Int, Field(ge=1, le=_MAX_INT32)] = Field(
        default=30, description="Seconds from SIGTERM to SIGKILL when a pod is stopped. Default: 30."
    )
    service_account_name: DnsSubdomain | None = Field(default=None, description="ServiceAccount. Default: default.")
    image_pull_secrets: tuple[DnsSubdomain, ...] = Field(default=(), description="Secrets for the image's registry.")
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = Field(
        default=None, description="Always, IfNotPresent or Never. Default: Kubernetes' own, by the image's tag."
    )
    security_context: SecurityContext = Field(default=SecurityContext(), description="Under which user the pods run.")

    @property
    def world_size(self) -> int:
        """Return the number of ranks."""
        return topology.world_size(self.nnodes, self.nproc_per_node)


class DDPJob(Part):
    """A PyTorch DDP job: one pod per node, `nprocPerNode` ranks in each."""

    api_version: Literal["k8sddp.dev/v1alpha1"] = Field(description="k8sddp.dev/v1alpha1")
    kind: Literal["DDPJob"] = Field(description="DDPJob")
    metadata: Metadata = Field(description="Name and labels.")
    spec: JobSpec = Field(description="What runs.")

    @property
    def name(self) -> str:
        """Return metadata.name."""
        return self.metadata.name

    @property
    def namespace(self) -> str | None:
        """Return metadata.namespace, None where the file names none."""
        return self.metadata.namespace

    @property
    def labels(self) -> Mapping[str, str]:
        """Return the user's labels."""
        return self.metadata.labels

    @property
    def annotations(self) -> Mapping[str, str]:
        """Return the user's annotations."""
        return self.metadata.annotations


def cpu_count(resources: Resources) -> float:
    """Return the CPU cores of a node, 0.0 where the spec names none."""
    return float(quantity_value(resources.cpu or "0") or 0)


def canonical(job: DDPJob) -> dict[str, Any]:
    """Return the spec as plain JSON for annotations and digests: camelCase, without what equals its default.

    Defaults are left out, so that a later version with more fields finds the same spec unchanged; the namespace is left
    out, because the same file may be applied to any.
    """
    plain = job.model_dump(mode="json", by_alias=True, exclude_defaults=True, exclude={"metadata": {"namespace"}})
    gpu = job.spec.resources.gpu
    for name, default in (("nprocPerNode", default_nproc_per_node(gpu)), ("backend", default_backend(gpu))):
        if plain["spec"].get(name) == default:
            del plain["spec"][name]
    return plain
