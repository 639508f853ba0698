"""`k8sddp preflight` on a cluster: each node's findings, the right exit code, and nothing left behind."""

import contextlib
import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import faults
from tests.e2e import jobs
from tests.e2e.users import User, eventually

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

NO_NODE = {"scheduling": {"nodeSelector": {"zone": "moon"}}}
EPHEMERAL = (32768, 60999)  # net.ipv4.ip_local_port_range, from which the probe ports are


def left_of(user: User, name: str) -> set[str]:
    """Return what is left of a job under any of its names."""
    return {one for one in user.objects() if f"/{name}" in one}


@contextlib.contextmanager
def one_pod_alone(user: User) -> Iterator[None]:
    """Let the namespace have one pod, until the end or `let_the_other_come`."""
    scope = ("--namespace", user.namespace)
    user.cluster.kubectl(*scope, "create", "--filename=-", stdin=json.dumps(jobs.ONE_POD))
    eventually(lambda: user.object("resourcequota", "one").get("status", {}).get("hard"), bool)
    try:
        yield
    finally:
        let_the_other_come(user)


def let_the_other_come(user: User) -> None:
    """End what `one_pod_alone` has begun."""
    user.cluster.kubectl("--namespace", user.namespace, "delete", "resourcequota", "one", "--ignore-not-found")


def test_all_nodes_pass_and_nothing_is_left(user: User, tmp_path: Path) -> None:
    """One line per node, 0, and neither Job nor children nor pods; the script did not run."""
    claim = {"name": "data", "mountPath": "/data", "emptyDir": {}}
    file = jobs.write(tmp_path, "well", jobs.HOLD, image=user.cluster.image, nnodes=2, volumes=[claim])
    ended = user.k8sddp("preflight", str(file))
    assert 0 == ended.code, ended
    lines = ended.out.splitlines()
    assert ["node 0", "node 1"] == sorted(line[:6] for line in lines)
    # torch, script, GPUs, driver, shared memory, /tmp, working folder, own name, the volume
    assert all("(pod well-preflight-" in line and "): 9 checks passed in " in line for line in lines), lines
    assert ended.err.splitlines()[-1] == "2 nodes checked"
    assert set() == left_of(user, "well")


def test_problems_of_all_nodes_are_told(user: User, tmp_path: Path) -> None:
    """77 with a script that is not in the image and a /dev/shm that is small: a problem and a warning on each node."""
    file = jobs.write(tmp_path, "bad", "", image=user.cluster.image, nnodes=2)
    spec = json.loads(file.read_text())
    del spec["spec"]["code"]
    spec["spec"] |= {"command": ["/nowhere/train.py"], "resources": {"memory": "256Mi", "sharedMemory": "32Mi"}}
    file.write_text(json.dumps(spec))
    ended = user.k8sddp("preflight", str(file))
    assert 77 == ended.code, ended
    script, shm = "problem: script: the script /nowhere/train.py is not in ", "warning: shared memory: /dev/shm has 32 "
    for node in range(2):
        first, second = (line for line in ended.out.splitlines() if line.startswith(f"node {node} (pod bad-preflight-"))
        assert (True, True) == (f"): {script}" in first, f"): {shm}" in second), ended
    assert "2 of 2 nodes with problems, 2 warnings" in ended.err
    assert set() == left_of(user, "bad")


def test_a_pod_whose_ports_are_closed_is_named_with_its_peer(user: User, tmp_path: Path) -> None:
    """A firewall that rejects what the kernel's own ports get: the gang's port is open, so both join. 77."""
    file = jobs.write(tmp_path, "shut", jobs.HOLD, image=user.cluster.image, nnodes=2)
    with one_pod_alone(user), user.running("preflight", str(file)) as running:
        running.until("node 0 (pod shut-preflight-0-", " checks passed in ")
        pod = user.pod("shut-preflight", 0)["metadata"]["name"]
        with faults.ports_closed(user.cluster, user.namespace, pod, first=EPHEMERAL[0], last=EPHEMERAL[1]):
            let_the_other_come(user)
            line = running.until("problem: ports: node 0 (pod shut-preflight-0-")
            assert line.startswith("node 1 (pod shut-preflight-1-")
            assert "(connection refused, 3 times): all pods of a job must reach each other" in line
            running.until("shut-preflight failed: node ")
            assert 77 == running.process.wait(120)
    assert set() == left_of(user, "shut")


def test_ports_that_are_only_silent_end_no_job(user: User, tmp_path: Path) -> None:
    """A policy that drops cannot be told from a slow network: it is said with both ends, and the job goes on."""
    file = jobs.write(tmp_path, "silent", jobs.DONE, image=user.cluster.image, nnodes=2)
    with one_pod_alone(user), user.running("run", str(file)) as running:
        running.until("preflight of node 0 (pod silent-0-", " checks passed in ")
        pod = user.pod("silent", 0)["metadata"]["name"]
        with faults.ports_closed(
            user.cluster, user.namespace, pod, first=EPHEMERAL[0], last=EPHEMERAL[1], silently=True
        ):
            let_the_other_come(user)
            running.until("silent complete after ")
            assert 0 == running.process.wait(120)
    for node, other in ((0, 1), (1, 0)):
        line = f"[k8sddp] preflight of node {node} (pod silent-{node}-"
        (said,) = [text for text in running.lines if text.startswith(line) and "warning: ports: " in text]
        assert f"node {other} (pod silent-{other}-" in said
        assert "(no answer within 3 s)" in said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_an_interrupted_preflight_leaves_nothing(user: User, tmp_path: Path, number: int) -> None:
    """While its pods wait for a Kubernetes Node, which it says."""
    file = jobs.write(tmp_path, "moon", jobs.HOLD, image=user.cluster.image, nnodes=2, **NO_NODE)
    with user.running("preflight", str(file)) as running:
        running.until("waiting", "no Kubernetes Node fits")
        running.process.send_signal(number)
        assert 130 == running.process.wait(120)
    assert set() == left_of(user, "moon")


def test_a_preflight_waits_no_longer_than_it_is_told_to(user: User, tmp_path: Path) -> None:
    """Exit code 4, with the reason; nothing is left."""
    file = jobs.write(tmp_path, "late", jobs.HOLD, image=user.cluster.image, nnodes=2, **NO_NODE)
    begun = time.monotonic()
    ended = user.k8sddp("preflight", str(file), "--timeout", "8s")
    assert (4, True) == (ended.code, time.monotonic() - begun < 120)
    assert "error: late-preflight has not ended after 8 s: node 0 (pod late-preflight-0-" in ended.err
    assert "no Kubernetes Node fits" in ended.err
    assert set() == left_of(user, "late")


def test_the_words_for_preflight_are_texts_to_kubectl_too(user: User) -> None:
    """`skip` as it is, and off in quotes; without them kubectl reads a truth value, which is why we refuse it."""

    def read(word: str) -> object:
        text = f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: words}}\ndata: {{preflight: {word}}}\n"
        words = ("create", "--dry-run=client", "--output=json", "--validate=false", "--filename=-")
        return json.loads(user.kubectl(*words, stdin=text))["data"]["preflight"]

    assert ["skip", "warn", "fail", "off", False] == [read(word) for word in ("skip", "warn", "fail", '"off"', "off")]
