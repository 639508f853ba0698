"""A cluster that the user names: nothing is created but test namespaces, nothing is ended.

The context must be named in `K8SDDP_TEST_CONTEXT`, since a kubeconfig's current context may hold somebody's work. The
image must be named too: a cluster of unknown make can be given none.
"""

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.cluster.clusters import Cluster
from tests.cluster.errors import ClusterUnavailableError


def attach(base: Path, environ: Mapping[str, str]) -> Cluster:
    """Return the cluster behind the named context; ClusterUnavailableError says what is missing."""
    context = environ["K8SDDP_TEST_CONTEXT"]
    image = environ.get("K8SDDP_TEST_IMAGE")
    if not image:
        raise ClusterUnavailableError(
            f"context {context}: name an image with python3 and torch that this cluster can pull in K8SDDP_TEST_IMAGE"
        )
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        raise ClusterUnavailableError(f"context {context}: kubectl is not on PATH: install it")
    config = _output((kubectl, "config", "view", f"--context={context}", "--minify", "--flatten", "--raw"), context)
    base.mkdir(parents=True, exist_ok=True)
    kubeconfig = base / "admin.kubeconfig"
    kubeconfig.touch(mode=0o600)
    kubeconfig.write_text(config)
    nodes = _output((kubectl, f"--kubeconfig={kubeconfig}", "get", "nodes", "--output=name"), context)
    return Cluster(
        backend="existing",
        name=context,
        admin_kubeconfig=kubeconfig,
        image=image,
        nodes=tuple(line.removeprefix("node/") for line in nodes.split()),
        logs_dir=base / "logs",
        work_dir=base,
        kubectl_path=kubectl,
    )


def _output(argv: tuple[str, ...], context: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, env=dict(os.environ), check=False)
    if done.returncode != 0:
        raise ClusterUnavailableError(f"context {context}: {done.stderr.strip()}: correct K8SDDP_TEST_CONTEXT")
    return done.stdout
