"""The cluster as tests see it, the same for every backend.

A `Cluster` is a value: paths, names and how to reach the API server. On the test bed the API server lives in a network
namespace of its own. Tests enter it (`inside`, or `run_inside` for one process) instead of going through a proxy on
the machine's loopback, for two reasons: no port of the machine is taken, and nothing a test starts can reach anything
but the cluster. `inside` moves only the calling thread and what it starts later, so the rest of a pytest run is not
touched; those processes carry `environment`, by which the test bed's end finds them. A test's user is a ServiceAccount
with the `edit` role: that needs no CA key, so it works on every backend.
"""

import contextlib
import ctypes
import json
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.cluster.errors import ClusterError

CLONE_NEWNET = 0x40000000  # linux/sched.h; os.setns exists only since Python 3.12


@dataclass(frozen=True)
class Cluster:
    """One running cluster and how to use it."""

    backend: str
    name: str
    admin_kubeconfig: Path
    image: str  # python3 with torch, already on every Node
    nodes: tuple[str, ...]
    logs_dir: Path
    work_dir: Path  # users' kubeconfigs, kubectl's discovery cache
    kubectl_path: str
    network_namespace: str | None = None  # a path under /proc, None where the API server is reachable from anywhere
    environment: Mapping[str, str] = field(default_factory=dict)  # of every process that is started inside

    def inside_argv(self, argv: Sequence[str]) -> tuple[str, ...]:
        """Return the command that runs `argv` where the API server is reachable."""
        enter = () if self.network_namespace is None else ("nsenter", f"--net={self.network_namespace}", "--")
        return (*enter, *argv)

    def run_inside(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        stdin: str | None = None,
        cwd: Path | None = None,
        timeout: float = 60,
        check: bool = True,
    ) -> subprocess.CompletedProcess[str]:
        """Run a process to its end and capture its output; with `check`, raise ClusterError on a non-zero exit."""
        done = subprocess.run(
            self.inside_argv(argv),
            env={**os.environ, **self.environment, **(env or {})},
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            cwd=cwd,
            timeout=timeout,
            capture_output=True,
            text=True,
            check=False,
        )
        if check and done.returncode != 0:
            raise ClusterError(
                f"{' '.join(argv)}: exit {done.returncode}: {done.stderr.strip() or done.stdout.strip()}"
            )
        return done

    def kubectl_argv(self, *args: str, kubeconfig: Path | None = None) -> tuple[str, ...]:
        """Return a kubectl command line, as the admin unless a kubeconfig is given."""
        return (
            self.kubectl_path,
            f"--kubeconfig={kubeconfig or self.admin_kubeconfig}",
            f"--cache-dir={self.work_dir / 'kubectl-cache'}",
            *args,
        )

    def kubectl(
        self,
        *args: str,
        kubeconfig: Path | None = None,
        stdin: str | None = None,
        timeout: float = 60,
        check: bool = True,
    ) -> str:
        """Run kubectl, as the admin unless a kubeconfig is given, and return its standard output."""
        argv = self.kubectl_argv(*args, kubeconfig=kubeconfig)
        return self.run_inside(argv, stdin=stdin, timeout=timeout, check=check).stdout

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """Move the calling thread, and what it starts, to where the API server is reachable."""
        if self.network_namespace is None:
            yield
            return
        with open("/proc/thread-self/ns/net") as before, open(self.network_namespace) as there:  # noqa: PTH123 (no Path method for a bare fd)
            _enter_network(there.fileno())
            try:
                with _environment(self.environment):
                    yield
            finally:
                _enter_network(before.fileno())

    def create_namespace(self, name: str) -> None:
        """Create a namespace that enforces the restricted Pod Security profile."""
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
        self.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(manifest))

    def delete_namespace(self, name: str) -> None:
        """Delete a namespace; Kubernetes needs another five seconds, for which nothing here waits.

        Its Jobs go first. Since Kubernetes 1.33 a namespace loses its pods before anything else, and a Job with
        `backoffLimitPerIndex` holds an ended pod until it has made the replacement, which such a namespace refuses:
        with a Job that still runs it stays Terminating for ever.
        """
        self.kubectl("delete", "jobs", "--all", f"--namespace={name}", "--wait=false")
        self.kubectl("delete", "namespace", name, "--ignore-not-found", "--wait=false")

    def user_kubeconfig(self, user: str, namespace: str) -> Path:
        """Make a user who has the `edit` ClusterRole in the namespace and nothing else; return their kubeconfig."""
        scope = ("--namespace", namespace)
        self.kubectl(*scope, "create", "serviceaccount", user)
        binding = (f"{user}-edit", "--clusterrole=edit", f"--serviceaccount={namespace}:{user}")
        self.kubectl(*scope, "create", "rolebinding", *binding)
        token = self.kubectl(*scope, "create", "token", user, "--duration=24h").strip()
        admin = json.loads(self.kubectl("config", "view", "--raw", "--minify", "--flatten", "--output=json"))
        server = admin["clusters"][0]
        context = {"cluster": server["name"], "user": user, "namespace": namespace}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [server],
            "users": [{"name": user, "user": {"token": token}}],
            "contexts": [{"name": user, "context": context}],
            "current-context": user,
        }
        path = self.work_dir / "users" / f"{namespace}-{user}.kubeconfig"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.write_text(json.dumps(config))
        return path


@contextlib.contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _enter_network(descriptor: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, CLONE_NEWNET) != 0:
        error = ctypes.get_errno()
        raise ClusterError(f"network namespace: {os.strerror(error)}: only root may enter it")
