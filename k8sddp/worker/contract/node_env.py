"""The environment of one node's worker: every name in one place, and the only way to read it.

`render` writes these names into the pod template, `local` rewrites those that are paths, bind addresses or peer hosts,
and the worker parses them once at start. Nobody else spells a `K8SDDP_` name. Standard library only, Python 3.9.
"""

import json
from typing import List, Mapping, NamedTuple, Tuple

# What the job asks for
JOB = "K8SDDP_JOB"  # metadata.name
NNODES = "K8SDDP_NNODES"
NPROC_PER_NODE = "K8SDDP_NPROC_PER_NODE"
BACKEND = "K8SDDP_BACKEND"  # nccl | gloo
LAUNCHER = "K8SDDP_LAUNCHER"  # torchrun | direct | spawn
PORT = "K8SDDP_PORT"  # gang; + 1: HTTP; from + 10 on: MASTER_PORTs (gang/ports.py)
JOIN_TIMEOUT = "K8SDDP_JOIN_TIMEOUT"  # seconds of waiting for nodes after which the log says where to look
MAX_ATTEMPTS = "K8SDDP_MAX_ATTEMPTS"
FAIL_ON = "K8SDDP_FAIL_ON"  # exit codes of a rank that end the job at once, as 3,137; empty: none
RETRY_ON = "K8SDDP_RETRY_ON"  # the only exit codes of a rank that are worth another attempt; empty: all
HANG_TIMEOUT = "K8SDDP_HANG_TIMEOUT"  # seconds that a rank may wait for others until the gang is asked who hangs
ON_HANG = "K8SDDP_ON_HANG"  # restart | fail | report
GRACE_PERIOD = "K8SDDP_GRACE_PERIOD"  # seconds from SIGTERM to SIGKILL, the pod's own
GPUS = "K8SDDP_GPUS"  # per node, 0 without
CPUS = "K8SDDP_CPUS"  # per node, a decimal number; empty without a request
CODE_DIGEST = "K8SDDP_CODE_DIGEST"  # of what the job was made with; empty without code, and for the user's ConfigMap
CODE_CONFIG_MAP = "K8SDDP_CODE_CONFIG_MAP"  # the name of the one that holds the code, for messages; empty without
EPHEMERAL_LIMIT = "K8SDDP_EPHEMERAL_LIMIT"  # bytes of the Kubernetes Node's disk, a LimitRange's or all; 0: unknown
PREFLIGHT = "K8SDDP_PREFLIGHT"  # fail | warn | skip: what a problem that the checks find does
ONLY_PREFLIGHT = "K8SDDP_ONLY_PREFLIGHT"  # "1": make the checks, end with 0 or 77, start no rank
WRITABLE = "K8SDDP_WRITABLE"  # the user's volumes that can be written, a JSON list of [name, mountPath]
VOLUMES = "K8SDDP_VOLUMES"  # emptyDirs on disk, a JSON list of [name, mountPath, sizeLimit in bytes or 0]

# Who this pod is (downward API)
NAMESPACE = "K8SDDP_NAMESPACE"
POD_NAME = "K8SDDP_POD_NAME"
POD_IP = "K8SDDP_POD_IP"
KUBE_NODE = "K8SDDP_KUBE_NODE"
NODE_RANK = "K8SDDP_NODE_RANK"  # the completion index
JOB_UID = "K8SDDP_JOB_UID"  # the Job's controller uid; keys the join HMAC, never printed
FAILURE_COUNT = "K8SDDP_FAILURE_COUNT"  # earlier failures of this index that the Job counts
IGNORED_COUNT = "K8SDDP_IGNORED_COUNT"  # earlier ends of this index that it does not count: disruptions, 79 and 143

# Where things are
CODE_ZIP = "K8SDDP_CODE_ZIP"  # empty without code
WORK_DIR = "K8SDDP_WORK_DIR"  # where code is unpacked and the script starts; empty: the image's own working directory
SCRATCH_DIR = "K8SDDP_SCRATCH_DIR"  # writable, /tmp
SHM_DIR = "K8SDDP_SHM_DIR"  # /dev/shm
TERMINATION_LOG = "K8SDDP_TERMINATION_LOG"  # the kubelet keeps what is written here
BIND_HOST = "K8SDDP_BIND_HOST"  # empty: every address, IPv4 and IPv6
COORDINATOR = "K8SDDP_COORDINATOR"  # NAME-0.NAME, completed from resolv.conf; an IP address is taken as it is

# What `local` replaces, because a container's paths, addresses and DNS do not exist there
PATHS = (CODE_ZIP, WORK_DIR, SCRATCH_DIR, SHM_DIR, TERMINATION_LOG)
BIND_HOSTS = (BIND_HOST, POD_IP)
PEER_HOSTS = (COORDINATOR,)
PATH_LISTS = (WRITABLE,)  # of [name, path]

FAIL, WARN, SKIP = "fail", "warn", "skip"  # of PREFLIGHT

# What the worker adds for the processes it starts
ATTEMPT = "K8SDDP_ATTEMPT"  # 0-based
RANK_DIR = "K8SDDP_RANK_DIR"  # pipes and failure records of this node's ranks
MASTER_HOST = "K8SDDP_MASTER_ADDR"  # MASTER_ADDR as it was given, should the script set another
RANK_PID = "K8SDDP_RANK_PID"  # set by a rank itself, so that its subprocesses know they are none
JOINED = "K8SDDP_JOINED"  # set by a rank itself: its rank while it is in a process group, empty when it has left it
LAUNCHER_PID = "K8SDDP_LAUNCHER_PID"  # set by the launcher itself, so that its children know they are none
WORKER_PID = "K8SDDP_WORKER_PID"  # of the worker itself
RANK_BASE = "K8SDDP_RANK_BASE"  # rank of this node's local rank 0

# What `run --local --fault` adds: faults that the ranks bring about themselves, one per line
FAULTS = "K8SDDP_FAULTS"
# What `run --local` adds on a terminal, "1": states of progress bars as they come, each with \r for an end
LIVE = "K8SDDP_LIVE"

# Prefixes and names a spec may not set: torchrun or the worker sets them, or they would change what runs.
RESERVED_PREFIXES = ("K8SDDP_", "PET_", "TORCHELASTIC_", "MASTER_")
RESERVED_NAMES = (
    "RANK",
    "LOCAL_RANK",
    "GROUP_RANK",
    "ROLE_RANK",
    "WORLD_SIZE",
    "LOCAL_WORLD_SIZE",
    "GROUP_WORLD_SIZE",
    "ROLE_WORLD_SIZE",
    "ROLE_NAME",
    "NNODES",
    "NODE_RANK",
)

ON_HANG_CHOICES = RESTART, FAIL, REPORT = ("restart", "fail", "report")  # what a hang ends: attempt, job, nothing

DEFAULT_PORT = 29400  # below Linux's ephemeral range (32768-60999)
HTTP_PORT_OFFSET = 1
MASTER_PORT_OFFSET = 10


class NodeEnvError(ValueError):
    """A variable of the contract is missing or malformed; the message names it and its value."""


class NodeEnv(NamedTuple):
    """The parsed environment of one node's worker; seconds for times, empty strings for what is absent."""

    job: str
    nnodes: int
    nproc_per_node: int
    backend: str
    launcher: str
    port: int
    join_timeout: float
    max_attempts: int
    fail_on: Tuple[int, ...]
    retry_on: Tuple[int, ...]
    hang_timeout: float
    on_hang: str
    grace_period: float
    gpus: int
    cpus: float  # 0.0 where the job names none
    code_digest: str
    preflight: str
    only_preflight: bool
    writable: Tuple[Tuple[str, str], ...]
    volumes: Tuple[Tuple[str, str, int], ...]
    ephemeral_limit: int
    code_config_map: str
    namespace: str
    pod_name: str
    pod_ip: str
    kube_node: str
    node_rank: int
    job_uid: str
    failure_count: int
    ignored_count: int
    code_zip: str
    work_dir: str
    scratch_dir: str
    shm_dir: str
    termination_log: str
    bind_host: str
    coordinator: str

    @property
    def ranks(self) -> range:
        """Return the ranks of this node."""
        first = self.node_rank * self.nproc_per_node
        return range(first, first + self.nproc_per_node)

    @property
    def http_port(self) -> int:
        """Return the port of /healthz, /readyz and /status."""
        return self.port + HTTP_PORT_OFFSET

    @property
    def first_master_port(self) -> int:
        """Return the first MASTER_PORT: a fresh one for each attempt is what fences them from each other."""
        return self.port + MASTER_PORT_OFFSET


def parse(environ: Mapping[str, str]) -> NodeEnv:
    """Return the node's environment.

    Raises NodeEnvError naming every variable that is missing or malformed, all at once.
    """
    problems: List[str] = []
    node = NodeEnv(
        job=_text(environ, JOB, problems),
        nnodes=_integer(environ, NNODES, problems, minimum=1),
        nproc_per_node=_integer(environ, NPROC_PER_NODE, problems, minimum=1),
        backend=_choice(environ, BACKEND, problems, choices=("nccl", "gloo")),
        launcher=_choice(environ, LAUNCHER, problems, choices=("torchrun", "direct", "spawn")),
        port=_integer(environ, PORT, problems, minimum=1),
        join_timeout=float(_integer(environ, JOIN_TIMEOUT, problems, minimum=1)),
        max_attempts=_integer(environ, MAX_ATTEMPTS, problems, minimum=1),
        fail_on=_codes(environ, FAIL_ON, problems),
        retry_on=_codes(environ, RETRY_ON, problems),
        hang_timeout=float(_integer(environ, HANG_TIMEOUT, problems, minimum=1)),
        on_hang=_choice(environ, ON_HANG, problems, choices=ON_HANG_CHOICES),
        grace_period=float(_integer(environ, GRACE_PERIOD, problems, minimum=0)),
        gpus=_integer(environ, GPUS, problems, minimum=0),
        cpus=_number(environ, CPUS, problems),
        code_digest=environ.get(CODE_DIGEST, ""),
        preflight=_choice(environ, PREFLIGHT, problems, choices=(FAIL, WARN, SKIP), default=FAIL),
        only_preflight=environ.get(ONLY_PREFLIGHT) == "1",
        writable=_paths(environ, WRITABLE, problems),
        volumes=_volumes(environ, problems),
        ephemeral_limit=_integer(environ, EPHEMERAL_LIMIT, problems, minimum=0, default="0"),
        code_config_map=environ.get(CODE_CONFIG_MAP, ""),
        namespace=_text(environ, NAMESPACE, problems),
        pod_name=_text(environ, POD_NAME, problems),
        pod_ip=_text(environ, POD_IP, problems),
        kube_node=environ.get(KUBE_NODE, ""),
        node_rank=_integer(environ, NODE_RANK, problems, minimum=0),
        job_uid=_text(environ, JOB_UID, problems),
        failure_count=_integer(environ, FAILURE_COUNT, problems, minimum=0, default="0"),
        ignored_count=_integer(environ, IGNORED_COUNT, problems, minimum=0, default="0"),
        code_zip=environ.get(CODE_ZIP, ""),
        work_dir=environ.get(WORK_DIR, ""),
        scratch_dir=_text(environ, SCRATCH_DIR, problems),
        shm_dir=environ.get(SHM_DIR, ""),
        termination_log=_text(environ, TERMINATION_LOG, problems),
        bind_host=environ.get(BIND_HOST, ""),
        coordinator=_text(environ, COORDINATOR, problems),
    )
    if not problems and node.node_rank >= node.nnodes:
        problems.append("%s=%d must be below %s=%d" % (NODE_RANK, node.node_rank, NNODES, node.nnodes))
    if problems:
        raise NodeEnvError("; ".join(problems))
    return node


def reserved_reason(name: str) -> str:
    """Return why a spec may not set the variable `name`, the empty string where it may."""
    if name in RESERVED_NAMES:
        return "torchrun or the worker sets it in every rank"
    for prefix in RESERVED_PREFIXES:
        if name.startswith(prefix):
            return "names that begin with %s are set by torchrun or the worker" % prefix
    return ""


def _text(environ: Mapping[str, str], name: str, problems: List[str]) -> str:
    value = environ.get(name, "")
    if not value:
        problems.append("%s is not set" % name)
    return value


def _choice(
    environ: Mapping[str, str], name: str, problems: List[str], *, choices: Tuple[str, ...], default: str = ""
) -> str:
    value = environ.get(name) or default or _text(environ, name, problems)
    if value and value not in choices:
        problems.append("%s=%r must be one of %s" % (name, value, ", ".join(choices)))
    return value


def _integer(environ: Mapping[str, str], name: str, problems: List[str], *, minimum: int, default: str = "") -> int:
    value = environ.get(name, "") or default
    if not value.isascii() or not value.isdigit():
        problems.append("%s=%r must be a whole number" % (name, value) if value else "%s is not set" % name)
        return minimum
    if int(value) < minimum:
        problems.append("%s=%s must be at least %d" % (name, value, minimum))
    return int(value)


def _codes(environ: Mapping[str, str], name: str, problems: List[str]) -> Tuple[int, ...]:
    words = environ.get(name, "").split(",") if environ.get(name) else []
    if not all(word.isascii() and word.isdigit() and 1 <= int(word) <= 255 for word in words):
        problems.append("%s=%r must be exit codes from 1 to 255, separated by commas" % (name, environ[name]))
        return ()
    return tuple(map(int, words))


def _volumes(environ: Mapping[str, str], problems: List[str]) -> Tuple[Tuple[str, str, int], ...]:
    try:
        return tuple(
            (str(name), str(path), int(limit)) for name, path, limit in json.loads(environ.get(VOLUMES) or "[]")
        )
    except (TypeError, ValueError):
        problems.append("%s=%r must be a list of [name, path, bytes]" % (VOLUMES, environ[VOLUMES]))
        return ()


def _paths(environ: Mapping[str, str], name: str, problems: List[str]) -> Tuple[Tuple[str, str], ...]:
    try:
        return tuple((str(one), str(path)) for one, path in json.loads(environ.get(name) or "[]"))
    except (TypeError, ValueError):
        problems.append("%s=%r must be a list of [name, path]" % (name, environ[name]))
        return ()


def _number(environ: Mapping[str, str], name: str, problems: List[str]) -> float:
    value = environ.get(name, "")
    try:
        return float(value or 0)
    except ValueError:
        problems.append("%s=%r must be a number" % (name, value))
        return 0.0
