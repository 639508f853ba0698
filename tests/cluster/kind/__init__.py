"""A kind cluster with two workers, where a Docker engine answers.

kind gives the Nodes; this package adds the trainer image and exports kind's logs. The image is built here from
Dockerfile, or taken as it is when `K8SDDP_TEST_IMAGE` names one that the engine has; `TORCH_INDEX` names the package
index that torch comes from. A cluster counts only when its start came to its end: what a killed start left is deleted
and made anew. The user's kubeconfig is never touched. Written for public runners; its command lines are tested, the
cluster itself only where there is Docker.
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

# The oldest that kind v0.33.0 ships (the test bed has the newest); the digest is in the notes of that release, and
# another kind needs the one in its own: https://github.com/kubernetes-sigs/kind/releases/tag/v0.33.0
NODE_IMAGE = "kindest/node:v1.34.11@sha256:44e222ee2132dab25ff87301682f89eb82c7880ea3a1bf543bfe9708fd08d67d"


def full_name(name: str) -> str:
    """Return kind's name for the cluster `name`."""
    return f"k8sddp-{name}"


def start_commands(
    name: str, kubeconfig: Path, *, image: str, build: bool, python: str, torch_index: str
) -> tuple[tuple[str, ...], ...]:
    """Return the command lines that make the cluster and load the image, into the workers alone: it is large."""
    full = full_name(name)
    arguments = (f"PYTHON={python}", *((f"TORCH_INDEX={torch_index}",) if torch_index else ()))
    build_arguments = tuple(word for one in arguments for word in ("--build-arg", one))
    build_image = ("docker", "build", *build_arguments, "--tag", image, str(HERE))
    config = ("--config", str(HERE / "cluster.yaml"), "--image", NODE_IMAGE)
    create = ("kind", "create", "cluster", "--name", full, *config, "--kubeconfig", str(kubeconfig))
    load = ("kind", "load", "docker-image", image, "--name", full, "--nodes", f"{full}-worker,{full}-worker2")
    return (*((build_image,) if build else ()), create, load)


def stop_commands(name: str, base: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the command lines that export the logs and delete the cluster."""
    cluster = ("--name", full_name(name))
    export = ("kind", "export", "logs", str(base / "logs"), *cluster)
    return export, ("kind", "delete", "cluster", *cluster, "--kubeconfig", str(_kubeconfig(base)))


def start(base: Path, name: str, environ: Mapping[str, str], say: Callable[[str], None]) -> Cluster:
    """Create the cluster, or use it where it already runs."""
    if shutil.which("kubectl") is None:
        raise ClusterUnavailableError("backend kind: kubectl is not on PATH: install it")
    base.mkdir(parents=True, exist_ok=True)
    image = environ.get("K8SDDP_TEST_IMAGE")
    if not is_up(base, name):
        say("creating a kind cluster with two workers and loading the trainer image")
        _delete_unfinished(base, name)
        commands = start_commands(
            name,
            _kubeconfig(base),
            image=image or IMAGE,
            build=image is None,
            python=f"{sys.version_info[0]}.{sys.version_info[1]}",
            torch_index=environ.get("TORCH_INDEX", ""),
        )
        for argv in commands:
            _run(argv)
        _mark(base).touch()
    return attach(base, name, image or IMAGE)


def attach(base: Path, name: str, image: str) -> Cluster:
    """Return the running cluster as tests see it."""
    kubeconfig = _kubeconfig(base)
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
    """Export the logs and delete the cluster, the latter even if the former fails; tell whether there was one."""
    if not _exists(name):
        return False
    _mark(base).unlink(missing_ok=True)
    export, delete = stop_commands(name, base)
    try:
        _run(export)
    finally:
        _run(delete)
    return True


def is_up(base: Path, name: str) -> bool:
    """Tell whether there is a cluster of that name whose start came to its end."""
    return _mark(base).exists() and _exists(name)


def _exists(name: str) -> bool:
    return full_name(name) in _run(("kind", "get", "clusters")).split()


def _delete_unfinished(base: Path, name: str) -> None:
    """Delete what a killed start left, and the logs of the cluster before."""
    _mark(base).unlink(missing_ok=True)
    shutil.rmtree(base / "logs", ignore_errors=True)
    if _exists(name):
        _run(stop_commands(name, base)[1])


def _kubeconfig(base: Path) -> Path:
    return base / "admin.kubeconfig"


def _mark(base: Path) -> Path:
    return base / "finished"


def _run(argv: Sequence[str]) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ClusterError(f"{' '.join(argv[:3])}: exit {done.returncode}: {done.stderr.strip()[-2000:]}")
    return done.stdout
