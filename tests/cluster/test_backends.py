"""Which backend a machine gets, and what it is told."""

import dataclasses
from pathlib import Path

import pytest

from tests.cluster import backends, kind
from tests.cluster.backends import Facts

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
    """Build, create with two workers and an own kubeconfig, load; a named image is only loaded."""
    config = tmp_path / "admin.kubeconfig"
    build, create, load = kind.start_commands("ci", config, image="i:1", build=True, python="3.12")
    assert ("docker", "build", "--build-arg", "PYTHON=3.12", "--tag", "i:1") == build[:6]
    assert ("kind", "create", "cluster", "--name", "k8sddp-ci") == create[:5]
    assert ("--kubeconfig", str(config)) == create[7:9]
    assert ("kind", "load", "docker-image", "i:1", "--name", "k8sddp-ci") == load
    assert (create, load) == kind.start_commands("ci", config, image="i:1", build=False, python="3.12")
