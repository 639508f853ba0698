"""`cluster_under_test`: every contract test runs on the fake API server and, marked `cluster`, on a real one.

The real one is what K8SDDP_TEST_KUBECONFIG and K8SDDP_TEST_NAMESPACE name, else the tests' own cluster.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cluster.fixtures import cluster_session
from tests.contract.fake_cluster import FakeCluster
from tests.contract.under_test import UnderTest

__all__ = ["cluster_session"]


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.cluster)])
def cluster_under_test(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[UnderTest]:
    """Give the fake or the real cluster, in which this test has a job name of its own."""
    with contextlib.ExitStack() as stack:
        if request.param == "fake":
            yield _fake(stack.enter_context(FakeCluster(tmp_path)), tmp_path)
        else:
            real = request.getfixturevalue("_real")(stack, tmp_path)
            yield real
            real.connect().delete(real.job_ref)


def _fake(fake: FakeCluster, folder: Path) -> UnderTest:
    def forbid() -> str:
        fake.forbidden |= {("patch", "services"), ("get", "pods/proxy")}
        return fake.namespace

    return UnderTest(fake.kubeconfig, fake.namespace, folder, forbid, fake.kubeconfig)


@pytest.fixture(scope="session")
def _real(request: pytest.FixtureRequest) -> Iterator[Callable[[contextlib.ExitStack, Path], UnderTest]]:
    """Give what makes the real cluster under test; one namespace and one user serve the whole session."""
    kubeconfig, namespace = (os.environ.get(f"K8SDDP_TEST_{word}") for word in ("KUBECONFIG", "NAMESPACE"))
    if kubeconfig and namespace:
        path, own = Path(kubeconfig), namespace
        yield lambda _stack, folder: UnderTest(path, own, folder, _rights_unknown, path)
        return
    session = request.getfixturevalue("cluster_session")
    name = f"contract-{uuid.uuid4().hex[:8]}"
    session.create_namespace(name)
    try:
        alice = session.user_kubeconfig("alice", name)

        def make(stack: contextlib.ExitStack, folder: Path) -> UnderTest:
            stack.enter_context(session.inside())
            return UnderTest(alice, name, folder, lambda: "kube-system", session.admin_kubeconfig)

        yield make
    finally:
        session.delete_namespace(name)


def _rights_unknown() -> str:
    pytest.skip("what the user of K8SDDP_TEST_KUBECONFIG may not do is unknown; without it a user is made for this")
