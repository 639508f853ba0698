"""One apply to the first optimizer step on a cluster, in phases: `k8sddp apply` beside kubectl with the same manifests.

What kubectl applies is what `k8sddp render` printed before the clock starts. Both are the programs that a user starts,
as a user with the role `edit`, in turn; the job is deleted in between. Moments come from the machine's own clock, which
commands and pods share on the test bed: elsewhere the phases in the pods would be those of another clock.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

from tests.bench import measuring
from tests.cluster import lifecycle
from tests.e2e import jobs, users

NAME = "apply"
LIMIT = 0.3  # seconds until both workers run, over kubectl's (docs/decisions/0007)
SCRIPT = """
import time, torch, torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
dist.init_process_group("gloo")
model = DistributedDataParallel(torch.nn.Linear(64, 64))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
model(torch.randn(8, 64)).sum().backward()
optimizer.step()
print("first step", flush=True)
dist.barrier()
dist.destroy_process_group()
"""
# What a phase ends with: a line in the log of each pod; the last pod's moment counts.
PHASES = {
    "both workers run": re.compile(r"^\[k8sddp\] node \d of 2"),
    "attempt 0 starts": re.compile(r"^\[k8sddp\] attempt 0 starts"),
    "first step": re.compile(r"^\[rank \d\] first step"),
}
RETURNS = "the command returns"


@contextlib.contextmanager
def user() -> Iterator[users.User]:
    """Give a user with the role `edit` in a namespace of their own on the test bed."""
    with lifecycle.started(lambda sentence: print(sentence, file=sys.stderr)) as cluster:
        if cluster.backend != "testbed":
            raise RuntimeError(f"commands and pods share one clock on the test bed only, and this is {cluster.backend}")
        namespace = f"bench-{uuid.uuid4().hex[:8]}"
        cluster.create_namespace(namespace)
        try:
            one = users.User(cluster, namespace, cluster.user_kubeconfig("alice", namespace))
            users.eventually(one.objects, lambda found: "serviceaccount/default" in found)
            yield one
        finally:
            cluster.delete_namespace(namespace)


def timed(who: users.User, argv: Sequence[str], manifests: Path) -> dict[str, float]:
    """Apply with this command, and return the seconds from its start to the end of each phase; delete the job."""
    begun = time.time()
    who.cluster.run_inside(argv, env={"KUBECONFIG": str(who.kubeconfig)})
    ends = {RETURNS: time.time()}
    who.await_condition(NAME, "Complete")
    logs = [who.kubectl("logs", pod["metadata"]["name"], "--timestamps") for pod in who.pods(NAME)]
    ends |= {phase: max(moment(log, said) for log in logs) for phase, said in PHASES.items()}
    who.kubectl("delete", "job", NAME, "--cascade=foreground")
    who.kubectl("delete", f"--filename={manifests}", "--ignore-not-found")
    return {phase: end - begun for phase, end in ends.items()}


def moment(log: str, said: re.Pattern[str]) -> float:
    """Return when containerd got the first line that is looked for."""
    lines = (line.partition(" ") for line in log.splitlines())
    stamp = next(stamp for stamp, _, text in lines if said.search(text))
    return datetime.fromisoformat(f"{stamp[:26]}+00:00").timestamp()


def figures(*, rounds: int = 9) -> list[dict[str, object]]:
    """Return the paired differences in seconds for each phase, with their 95 % interval, and the machine's load."""
    with tempfile.TemporaryDirectory() as folder, user() as who:
        wide = {"resources": {"cpu": "1", "memory": "2Gi"}}
        image = who.cluster.image
        file = jobs.write(Path(folder), NAME, SCRIPT, image=image, nnodes=2, launcher="torchrun", **wide)
        manifests = Path(folder) / "manifests.yaml"
        manifests.write_text(who.k8sddp("render", str(file)).out)
        ours = (str(users.SCRIPTS / "k8sddp"), "apply", str(file))
        kubectl = who.cluster.kubectl_argv(
            "apply", "--server-side", f"--filename={manifests}", kubeconfig=who.kubeconfig
        )
        for argv in (ours, kubectl):
            timed(who, argv, manifests)
        pairs = [(timed(who, ours, manifests), timed(who, kubectl, manifests)) for _ in range(rounds)]
    load = os.getloadavg()[0]
    return [row(phase, pairs, load) for phase in (RETURNS, *PHASES)]


def row(phase: str, pairs: Sequence[tuple[dict[str, float], dict[str, float]]], load: float) -> dict[str, object]:
    """Return the figures of one phase."""
    differences = [ours[phase] - plain[phase] for ours, plain in pairs]
    return {
        "figure": f"apply to {phase}, beside kubectl apply --server-side",
        "difference": measuring.median(differences),
        "interval_95": measuring.interval_95(differences),
        **({"limit": LIMIT} if phase == "both workers run" else {}),
        "ours": measuring.median([ours[phase] for ours, _ in pairs]),
        "kubectl": measuring.median([plain[phase] for _, plain in pairs]),
        "n": len(pairs),
        "load_1m": round(load, 1),
    }
