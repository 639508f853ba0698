"""A kind cluster with two workers, where a Docker engine answers.

kind gives the Nodes; this package adds the trainer image and exports kind's logs. The image is built here from
Dockerfile, or taken as it is when `K8SDDP_TEST_IMAGE` names one that the engine has. Written for public runners; its
command lines are tested, the cluster itself only where there is Docker.
"""

import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.cluster.clusters import Cluster
from tests.cluster.errors import ClusterError, ClusterUnavailableError

HERE = Path(__file__).resolve().parent
IMAGE = "k8sddp.test/trainer:1"


def full_name(name: str) -> str:
    """Return kind's name for the cluster `name`."""
    return f"k8sddp-{name}"


def start_commands(name: str, kubeconfig: Path, *, image: str, build: bool, python: str) -> tuple[tuple[str, ...], ...]:
    """Return the command lines that make the cluster and load the image."""
    cluster = ("--name", full_name(name))
    build_image = ("docker", "build", "--build-arg", f"PYTHON={python}", "--tag", image, str(HERE))
    create = (
        "kind",
        "create",
        "cluster",
        *cluster,
        "--config",
        str(HERE / "cluster.yaml"),
        "--kubeconfig",
        str(kubeconfig),
    )
    load = ("kind", "load", "docker-image", image, *cluster)
    return (*((build_image,) if build else ()), create, load)


def start(base: Path, name: str, environ: Mapping[str, str], say: Callable[[str], None]) -> Cluster:
    """Create the cluster, or use it where it already runs."""
    if shutil.which("kubectl") is None:
        raise ClusterUnavailableError("backend kind: kubectl is not on PATH: install it")
    base.mkdir(parents=True, exist_ok=True)
    image = environ.get("K8SDDP_TEST_IMAGE")
    if not exists(name):
        say("creating a kind cluster with two workers and loading the trainer image")
        python = f"{sys.version_info[0]}.{sys.version_info[1]}"
        kubeconfig = base / "admin.kubeconfig"
        for argv in start_commands(name, kubeconfig, image=image or IMAGE, build=image is None, python=python):
            _run(argv)
    return attach(base, name, image or IMAGE)


def attach(base: Path, name: str, image: str) -> Cluster:
    """Return the running cluster as tests see it."""
    kubeconfig = base / "admin.kubeconfig"
    kubeconfig.touch(mode=0o600)
    kubeconfig.write_text(_run(("kind", "get", "kubeconfig", "--name", full_name(name))))
    nodes = _run(("kind", "get", "nodes", "--name", full_name(name))).split()
    return Cluster(
        backend="kind",
        name=name,
        admin_kubeconfig=kubeconfig,
        image=image,
        nodes=tuple(sorted(node for node in nodes if "worker" in node)),
        logs_dir=base / "logs",
        work_dir=base,
        kubectl_path=shutil.which("kubectl") or "kubectl",
    )


def stop(base: Path, name: str) -> bool:
    """Export the logs and delete the cluster; tell whether there was one."""
    if not exists(name):
        return False
    shutil.rmtree(base / "logs", ignore_errors=True)
    _run(("kind", "export", "logs", str(base / "logs"), "--name", full_name(name)))
    _run(("kind", "delete", "cluster", "--name", full_name(name)))
    return True


def exists(name: str) -> bool:
    """Tell whether kind has a cluster of that name."""
    return full_name(name) in _run(("kind", "get", "clusters")).split()


def _run(argv: Sequence[str]) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ClusterError(f"{' '.join(argv[:3])}: exit {done.returncode}: {done.stderr.strip()[-2000:]}")
    return done.stdout
