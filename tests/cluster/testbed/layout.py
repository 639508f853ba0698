"""Names, addresses and paths of one test bed, as a value.

Everything that starts, breaks or ends a cluster derives its paths from here, so a second process that knows only the
name finds the same cluster. Addresses are the same for every test bed: each has its own network namespace.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

NODE_ADDRESSES: Mapping[str, str] = {"node-a": "172.30.0.1", "node-b": "172.30.0.2"}
POD_SUBNETS: Mapping[str, str] = {"node-a": "10.244.0.0/24", "node-b": "10.244.1.0/24"}
# Seconds east of Greenwich: Kubernetes Nodes have zones of their own, and a kubelet gives logs with its Node's stamps
UTC_OFFSETS: Mapping[str, int] = {"node-a": 0, "node-b": 19_800}
KUBELET_PORTS: Mapping[str, int] = {"node-a": 10250, "node-b": 10260}  # one network namespace, so two ports
KUBELET_HEALTH_PORTS: Mapping[str, int] = {"node-a": 10248, "node-b": 10258}
CLUSTER_CIDR = "10.244.0.0/16"
SERVICE_CIDR = "10.96.0.0/16"
API_SERVICE = "10.96.0.1"  # the first address of SERVICE_CIDR is always the API server's Service
DNS_SERVICE = "10.96.0.10"  # kubeadm's habit
DNS_ADDRESS = "172.30.0.10"  # where CoreDNS itself listens
API_PORT = 6443
CLUSTER_DOMAIN = "cluster.local"

RUN = Path("/run/k8sddp")  # on a tmpfs of the cluster's own mount namespace; not the machine's /run
SITE_PACKAGES = RUN / "site-packages"
TRAINER_IMAGE = "k8sddp.test/trainer:1"  # .test is reserved: nothing can be pulled under that name
PAUSE_IMAGE = "k8sddp.test/pause:1"


@dataclass(frozen=True)
class Options:
    """What a starter may vary."""

    node_monitor_grace_seconds: int = 20  # Kubernetes' own default is 50: tests of a lost Node would wait for it


@dataclass(frozen=True)
class Layout:
    """Where the test bed `name`, started as `run_id`, keeps its things; `programs` are folders of binaries."""

    name: str
    run_id: str
    base: Path
    programs: tuple[Path, ...]
    images: Path
    options: Options = Options()

    @property
    def state(self) -> Path:
        """Folder that teardown removes."""
        return state_path(self.base, self.name)

    @property
    def logs(self) -> Path:
        """Folder of the components' and pods' logs of this run; it outlives the cluster."""
        return logs_path(self.base, self.name) / self.run_id

    @property
    def pki(self) -> Path:
        """Folder of keys and certificates."""
        return self.state / "pki"

    @property
    def cgroup(self) -> str:
        """Cgroup below which everything of this cluster lies, without the leading slash."""
        return cgroup(self.name)

    def node(self, node: str) -> Path:
        """Folder of one Node's containerd and kubelet."""
        return self.state / node

    def containerd_socket(self, node: str) -> Path:
        """Socket of one Node's containerd, in the cluster's own mount namespace."""
        return RUN / node / "containerd.sock"

    def kubeconfig(self, user: str) -> Path:
        """Kubeconfig of a component or of the admin."""
        return self.state / f"{user}.kubeconfig"

    def program(self, name: str) -> str:
        """Path of a built binary; KeyError where no module builds it."""
        for folder in self.programs:
            if (folder / name).exists():
                return str(folder / name)
        raise KeyError(name)


def state_path(base: Path, name: str) -> Path:
    """Return the state folder of the test bed `name`."""
    return base / "clusters" / name


def cgroup(name: str) -> str:
    """Return the name of the cgroup of the test bed `name`."""
    return f"k8sddp-{name}"


def logs_path(base: Path, name: str) -> Path:
    """Return the folder with one folder of logs for each run of the test bed `name`."""
    return base / "logs" / name


def save(layout: Layout) -> None:
    """Write the layout into the state folder, for other processes."""
    text = json.dumps(asdict(layout), default=str, indent=1)
    (layout.state / "layout.json").write_text(text)


def load(base: Path, name: str) -> Layout:
    """Read what `save` wrote; OSError where that cluster was never started."""
    data = json.loads((state_path(base, name) / "layout.json").read_text())
    programs: Sequence[str] = data["programs"]
    return Layout(
        name=data["name"],
        run_id=data["run_id"],
        base=Path(data["base"]),
        programs=tuple(Path(folder) for folder in programs),
        images=Path(data["images"]),
        options=Options(**data["options"]),
    )
