"""JobSet's own controller, built from its Go module and run as a process in the cluster's network, as the admin.

It is built for the benchmark only; the test bed does without. There are no webhooks: the controller insists on serving
them, with a certificate made for the occasion, but no WebhookConfiguration tells the API server to call them. At the
end the process is ended and the CustomResourceDefinition deleted, with every JobSet.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.cluster import lifecycle
from tests.cluster.clusters import Cluster
from tests.cluster.errors import ClusterError
from tests.cluster.testbed import builds
from tests.e2e import users

MODULE = builds.Module("jobset")
CRD = "config/components/crd/bases/jobset.x-k8s.io_jobsets.yaml"  # in the module's source
NAME = "jobsets.jobset.x-k8s.io"
PROBE = 18081  # of the cluster's own network namespace, as all ports here
DIE_WITH_US = ("setpriv", "--pdeathsig=KILL", "--")  # of util-linux, as nsenter is; for a benchmark that is killed
CONFIGURATION = {
    "apiVersion": "config.jobset.x-k8s.io/v1alpha1",
    "kind": "Configuration",
    "health": {"healthProbeBindAddress": f"127.0.0.1:{PROBE}"},
    "internalCertManagement": {"enable": False},
    "leaderElection": {"leaderElect": False},
}


@contextlib.contextmanager
def running(cluster: Cluster, folder: Path) -> Iterator[None]:
    """Run the controller until the block ends; its log is jobset.log beside the components' logs."""
    program = builds.build_one(lifecycle.folder("testbed"), MODULE, _say) / "jobset"
    cluster.kubectl("apply", "--server-side", f"--filename={source() / CRD}")
    try:
        # Not `kubectl wait`: it fails while the definition has no conditions yet.
        # Neither `kubectl wait` nor check: both fail while the definition has no conditions yet.
        status = '--output=jsonpath={.status.conditions[?(@.type=="Established")].status}'
        users.eventually(lambda: cluster.kubectl("get", "crd", NAME, status, check=False), lambda seen: seen == "True")
        configuration = folder / "jobset.json"
        configuration.write_text(json.dumps(_configured(folder)))
        argv = (*DIE_WITH_US, str(program), f"--config={configuration}", "--metrics-bind-address=0")
        with (cluster.logs_dir / "jobset.log").open("ab") as log:
            process = subprocess.Popen(
                cluster.inside_argv(argv),
                env={**os.environ, "KUBECONFIG": str(cluster.admin_kubeconfig)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            _wait_ready(cluster, lambda: process.poll() is None)
            yield
        finally:
            process.kill()
            process.wait()
    finally:
        cluster.kubectl("delete", "crd", NAME, "--ignore-not-found", timeout=120)
        # Until kubectl's discovery cache forgets the kind, too: users.User.objects would ask for it.
        users.eventually(lambda: cluster.kubectl("api-resources", "--output=name"), lambda seen: NAME not in seen)


def source() -> Path:
    """Return the folder of the module's source, which Go fetches where it is not there."""
    argv = ("go", "mod", "download", "-json", "sigs.k8s.io/jobset")
    done = subprocess.run(argv, cwd=MODULE.folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ClusterError(f"{' '.join(argv)}: exit {done.returncode}: {done.stderr.strip() or done.stdout.strip()}")
    return Path(json.loads(done.stdout)["Dir"])


def _configured(folder: Path) -> dict[str, object]:
    """Make the webhooks' certificate and return the controller's configuration."""
    key, certificate = folder / "tls.key", folder / "tls.crt"
    argv = ("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=jobset")
    subprocess.run((*argv, "-keyout", str(key), "-out", str(certificate)), check=True, capture_output=True)
    return {**CONFIGURATION, "webhook": {"host": "127.0.0.1", "port": 19443, "certDir": str(folder)}}


def _wait_ready(cluster: Cluster, lives: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    with cluster.inside():
        while True:
            with contextlib.suppress(OSError):
                connection = http.client.HTTPConnection("127.0.0.1", PROBE, timeout=5)
                connection.request("GET", "/readyz")
                if connection.getresponse().status == http.client.OK:
                    return
            if not lives() or time.monotonic() > deadline:
                raise ClusterError(f"JobSet's controller is not ready: {cluster.logs_dir / 'jobset.log'} says why")
            time.sleep(0.3)


def _say(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)
