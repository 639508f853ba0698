"""A named context is used through a copy of it: a kubectl that is a script tells what it was asked."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import existing
from tests.cluster.errors import ClusterUnavailableError

ENVIRON = {"K8SDDP_TEST_CONTEXT": "mine", "K8SDDP_TEST_IMAGE": "i:1"}
CONFIG = "current-context: precious\n"
KUBECTL = """#!/bin/sh
echo "$*" >> "{calls}"
case "$*" in
  *"config view"*) echo "current-context: mine" ;;
  *"get nodes"*) cat "{nodes}" ;;
esac
"""


def make_node(name: str, *, ready: str = "True", **spec: Any) -> dict[str, Any]:
    """Build a Node."""
    return {"metadata": {"name": name}, "spec": spec, "status": {"conditions": [{"type": "Ready", "status": ready}]}}


GOOD = [make_node("c"), make_node("a"), make_node("b")]


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a kubectl on PATH that knows three good Nodes, and a kubeconfig into the environment; return its log."""
    (tmp_path / "bin").mkdir()
    log, nodes = tmp_path / "calls", tmp_path / "nodes.json"
    nodes.write_text(json.dumps({"items": GOOD}))
    program = tmp_path / "bin" / "kubectl"
    program.write_text(KUBECTL.format(calls=log, nodes=nodes))
    program.chmod(0o755)
    (tmp_path / "config").write_text(CONFIG)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    return log


def test_every_call_names_the_context_or_our_own_file(tmp_path: Path, calls: Path) -> None:
    """The user's kubeconfig is read once, under the given context, and stays as it was."""
    with existing.attached(tmp_path / "base", ENVIRON) as cluster:
        cluster.create_namespace("e2e-1")
        cluster.kubectl("get", "pods")
        cluster.delete_namespace("e2e-1")
        first, *others = calls.read_text().splitlines()
        assert "--context=mine" in first.split()
        assert others
        assert all(f"--kubeconfig={cluster.admin_kubeconfig}" in call.split() for call in others)
        assert 0o600 == cluster.admin_kubeconfig.stat().st_mode & 0o777
        assert ("a", "b") == cluster.nodes
    assert CONFIG == (tmp_path / "config").read_text()


def test_no_credentials_stay_after_a_run(tmp_path: Path, calls: Path) -> None:
    """Neither the admin's copy nor a test user's; and `down` removes what `up` needs."""
    base = tmp_path / "base"
    with existing.attached(base, ENVIRON) as cluster:
        assert base in cluster.admin_kubeconfig.parents
        assert base in cluster.work_dir.parents
    assert [] == [path for path in base.rglob("*") if path.is_file()]
    assert existing.attach(base, ENVIRON).admin_kubeconfig.exists()
    assert existing.forget(base)
    assert [] == [path for path in base.rglob("*") if path.is_file()]
    assert not existing.forget(base)


@pytest.mark.parametrize(
    "other",
    [
        make_node("z", ready="Unknown"),
        make_node("z", unschedulable=True),
        make_node("z", taints=[{"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}]),
    ],
    ids=["not ready", "cordoned", "control plane"],
)
def test_a_cluster_with_one_node_that_takes_pods_is_refused(other: dict[str, Any]) -> None:
    """One sentence says what is needed and what is there; a taint that only prefers others is none."""
    good = make_node("a", taints=[{"key": "busy", "effect": "PreferNoSchedule"}])
    with pytest.raises(ClusterUnavailableError, match=r"need two Nodes that are Ready.*of its 2 Nodes 1 are so: a"):
        existing.two_nodes([good, other], "mine")


def test_without_an_image_or_the_context_one_is_told(tmp_path: Path, calls: Path) -> None:
    """The variable is named; kubectl's own words where it does not know the context."""
    with pytest.raises(ClusterUnavailableError, match="K8SDDP_TEST_IMAGE"):
        existing.attach(tmp_path / "base", {"K8SDDP_TEST_CONTEXT": "mine"})
    (tmp_path / "bin" / "kubectl").write_text("#!/bin/sh\necho 'context \"mine\" does not exist' >&2\nexit 1\n")
    with pytest.raises(ClusterUnavailableError, match='context "mine" does not exist: correct K8SDDP_TEST_CONTEXT'):
        existing.attach(tmp_path / "base", ENVIRON)
