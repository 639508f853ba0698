"""Which backend a machine gets, and what it is told."""

import dataclasses
import os
from pathlib import Path

import pytest

from tests.cluster import backends, kind
from tests.cluster.backends import Facts
from tests.cluster.errors import ClusterError

TESTBED = Facts(linux=True, root=True, go=(1, 26))
KIND = Facts(linux=True, docker=True, kind=True)


@pytest.mark.parametrize(
    ("facts", "backend"),
    [
        pytest.param(TESTBED, "testbed", id="linux root go"),
        pytest.param(KIND, "kind", id="docker and kind"),
        pytest.param(dataclasses.replace(TESTBED, docker=True, kind=True), "kind", id="both: kind"),
        pytest.param(dataclasses.replace(TESTBED, docker=True), "testbed", id="docker without kind"),
        pytest.param(dataclasses.replace(KIND, context="mine"), "existing", id="a named context wins"),
        pytest.param(dataclasses.replace(TESTBED, docker=True, kind=True, requested="testbed"), "testbed", id="asked"),
    ],
)
def test_a_machine_gets_its_backend(facts: Facts, backend: str) -> None:
    """The choice follows the facts and says its reason."""
    choice = backends.choose(facts)
    assert backend == choice.backend
    assert choice.sentence.startswith(f"cluster backend {backend}: ")


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        pytest.param(Facts(), "no cluster can be had here", id="nothing"),
        pytest.param(dataclasses.replace(TESTBED, root=False), "no cluster can be had here", id="not root"),
        pytest.param(dataclasses.replace(TESTBED, go=(1, 23)), "no cluster can be had here", id="old go"),
        pytest.param(dataclasses.replace(TESTBED, requested="kind"), "no Docker engine answers", id="kind asked for"),
        pytest.param(Facts(linux=True, root=True, requested="testbed"), "Go >= 1.24", id="test bed without go"),
        pytest.param(Facts(go=(1, 26), requested="testbed"), "Linux namespaces", id="test bed on macOS"),
        pytest.param(dataclasses.replace(TESTBED, requested="existing"), "names no context", id="no context named"),
        pytest.param(dataclasses.replace(TESTBED, requested="minikube"), "is no backend", id="unknown"),
    ],
)
def test_a_machine_without_a_cluster_is_told_why(facts: Facts, reason: str) -> None:
    """No backend is chosen, and the sentence has the reason."""
    choice = backends.choose(facts)
    assert choice.backend is None
    assert reason in choice.sentence


def test_only_the_named_variable_makes_a_context_a_fact() -> None:
    """KUBECONFIG and its current context are never read."""
    assert backends.observe({"KUBECONFIG": "/home/someone/.kube/config"}).context is None
    assert "mine" == backends.observe({"K8SDDP_TEST_CONTEXT": "mine"}).context


def test_kind_builds_the_image_unless_one_is_named(tmp_path: Path) -> None:
    """Build, create pinned workers with an own kubeconfig, load into them; a named image is only loaded."""
    config = tmp_path / "admin.kubeconfig"
    asked = {"image": "i:1", "python": "3.12", "torch_index": ""}
    build, create, load = kind.start_commands("ci", config, build=True, **asked)
    assert ("docker", "build", "--build-arg", "PYTHON=3.12", "--tag", "i:1") == build[:6]
    assert ("kind", "create", "cluster", "--name", "k8sddp-ci") == create[:5]
    assert ("--image", kind.NODE_IMAGE, "--kubeconfig", str(config)) == create[7:]
    workers = "k8sddp-ci-worker,k8sddp-ci-worker2"
    assert ("kind", "load", "docker-image", "i:1", "--name", "k8sddp-ci", "--nodes", workers) == load
    assert (create, load) == kind.start_commands("ci", config, build=False, **asked)


def test_kind_takes_torch_from_the_index_that_is_named(tmp_path: Path) -> None:
    """TORCH_INDEX reaches the Dockerfile, where no other index is named."""
    build, *_ = kind.start_commands("ci", tmp_path, image="i:1", build=True, python="3.12", torch_index="https://i/cpu")
    assert ("--build-arg", "TORCH_INDEX=https://i/cpu", "--tag") == build[4:7]
    assert "ARG TORCH_INDEX" in (kind.HERE / "Dockerfile").read_text()


PROGRAM = """#!/bin/sh
echo "$(basename $0) $*" >> "{folder}/calls"
case "$*" in
  "get clusters") cat "{folder}/clusters" ;;
  "get nodes"*) printf 'k8sddp-ci-worker2\nk8sddp-ci-control-plane\nk8sddp-ci-worker\n' ;;
  "create cluster"*) echo k8sddp-ci > "{folder}/clusters" ;;
  "delete cluster"*) : > "{folder}/clusters" ;;
  "export logs"*|"load "*) [ ! -e "{folder}/broken" ] ;;
esac
"""


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put programs on PATH that do what kind does to the list of its clusters; return their folder."""
    (tmp_path / "clusters").touch()
    for name in ("kind", "docker", "kubectl"):
        (tmp_path / name).write_text(PROGRAM.format(folder=tmp_path))
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    return tmp_path


def called(engine: Path) -> list[str]:
    """Return the calls since the last look, without those that only ask."""
    lines = (engine / "calls").read_text().splitlines()
    (engine / "calls").unlink()
    return [" ".join(line.split()[:3]) for line in lines if " get " not in line]


def test_a_kind_cluster_is_deleted_though_its_logs_cannot_be_exported(engine: Path) -> None:
    """The deletion names our own kubeconfig, so that it leaves the user's alone; nothing is deleted twice."""
    base = engine / "base"
    cluster = kind.start(base, "ci", {}, print)
    assert ("k8sddp-ci-worker", "k8sddp-ci-worker2") == cluster.nodes
    (engine / "broken").touch()
    with pytest.raises(ClusterError, match="kind export logs"):
        kind.stop(base, "ci")
    delete = f"kind delete cluster --name k8sddp-ci --kubeconfig {base / 'admin.kubeconfig'}"
    assert delete == (engine / "calls").read_text().splitlines()[-1]
    assert not kind.stop(base, "ci")


def test_a_kind_cluster_whose_starter_was_killed_is_made_anew(engine: Path) -> None:
    """Without its image it does not count; one that was finished is used as it is."""
    base = engine / "base"
    (engine / "broken").touch()
    with pytest.raises(ClusterError, match="kind load"):
        kind.start(base, "ci", {}, print)
    assert not kind.is_up(base, "ci")
    assert ["docker build --build-arg", "kind create cluster", "kind load docker-image"] == called(engine)
    (engine / "broken").unlink()
    kind.start(base, "ci", {"K8SDDP_TEST_IMAGE": "i:1"}, print)
    assert ["kind delete cluster", "kind create cluster", "kind load docker-image"] == called(engine)
    assert kind.is_up(base, "ci")
    kind.start(base, "ci", {}, print)
    assert [] == called(engine)
    assert kind.stop(base, "ci")
    assert not kind.is_up(base, "ci")
