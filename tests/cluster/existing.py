"""A cluster that the user names: nothing is created but test namespaces, nothing is ended.

The context must be named in `K8SDDP_TEST_CONTEXT`, since a kubeconfig's current context may hold somebody's work. The
image must be named too: a cluster of unknown make can be given none. The user's kubeconfig is read once and never
written: everything else goes through a copy of that one context, which is removed with the folder it lies in.
"""

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.cluster.clusters import Cluster
from tests.cluster.errors import ClusterUnavailableError

UP = "up"  # the folder of `python -m tests.cluster up`, until `down`
RUN = "run-"  # and of one run
KEEPS_PODS_OUT = ("NoSchedule", "NoExecute")  # effects of a taint


@contextlib.contextmanager
def attached(base: Path, environ: Mapping[str, str]) -> Iterator[Cluster]:
    """Give the cluster for one run, and remove the copy of its credentials afterwards."""
    base.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=RUN, dir=base) as work:
        yield attach(base, environ, Path(work))


def attach(base: Path, environ: Mapping[str, str], work: Path | None = None) -> Cluster:
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
    work = work or base / UP
    work.mkdir(parents=True, exist_ok=True)
    kubeconfig = work / "admin.kubeconfig"
    kubeconfig.touch(mode=0o600)
    kubeconfig.write_text(config)
    nodes = _output((kubectl, f"--kubeconfig={kubeconfig}", "get", "nodes", "--output=json"), context)
    return Cluster(
        backend="existing",
        name=context,
        admin_kubeconfig=kubeconfig,
        image=image,
        nodes=two_nodes(json.loads(nodes)["items"], context),
        logs_dir=base / "logs",
        work_dir=work,
        kubectl_path=kubectl,
    )


def forget(base: Path) -> bool:
    """Remove every copy of credentials, also what killed runs left; tell whether there was one."""
    copies = [path for path in base.glob("*") if path.name == UP or path.name.startswith(RUN)]
    for path in copies:
        shutil.rmtree(path)
    return bool(copies)


def two_nodes(nodes: Sequence[Mapping[str, Any]], context: str) -> tuple[str, ...]:
    """Return the first two Nodes that are Ready and take any pod; ClusterUnavailableError where there are fewer."""
    fit = sorted(node["metadata"]["name"] for node in nodes if _takes_pods(node))
    if len(fit) < 2:
        raise ClusterUnavailableError(
            f"context {context}: the tests need two Nodes that are Ready, not cordoned and without a "
            f"{' or '.join(KEEPS_PODS_OUT)} taint; of its {len(nodes)} Nodes {len(fit)} are so: "
            f"{', '.join(fit) or 'none'}"
        )
    return tuple(fit[:2])


def _takes_pods(node: Mapping[str, Any]) -> bool:
    ready = {"Ready": "True"}.items() <= {one["type"]: one["status"] for one in node["status"]["conditions"]}.items()
    spec = node.get("spec") or {}
    tainted = any(taint["effect"] in KEEPS_PODS_OUT for taint in spec.get("taints") or ())
    return ready and not spec.get("unschedulable") and not tainted


def _output(argv: tuple[str, ...], context: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, env=dict(os.environ), check=False)
    if done.returncode != 0:
        raise ClusterUnavailableError(f"context {context}: {done.stderr.strip()}: correct K8SDDP_TEST_CONTEXT")
    return done.stdout
