"""Fixtures of the end-to-end tests: the cluster, and a user in a namespace of their own."""

import uuid
from collections.abc import Generator, Iterator

import pytest

from tests.cluster import evidence
from tests.cluster.clusters import Cluster
from tests.cluster.fixtures import cluster_session
from tests.e2e import users

__all__ = ["cluster_session", "pytest_runtest_makereport", "user"]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keep what a failed test's namespace holds, while it does, and say so in the failure's report."""
    report = yield
    user = getattr(item, "funcargs", {}).get("user")
    if report.failed and user is not None:
        report.sections.append(("cluster", evidence.collect(user.cluster, user.namespace, item.nodeid)))
    return report


@pytest.fixture(scope="module")
def user(cluster_session: Cluster) -> Iterator[users.User]:
    """Make a user with the role `edit` in a new namespace that enforces the restricted profile; one per module."""
    namespace = f"e2e-{uuid.uuid4().hex[:8]}"
    cluster_session.create_namespace(namespace)
    try:
        one = users.User(cluster_session, namespace, cluster_session.user_kubeconfig("alice", namespace))
        # made by controllers a moment after the namespace; pods need the one, the tests of deletion count both
        users.eventually(one.objects, {"serviceaccount/default", "configmap/kube-root-ca.crt"}.issubset)
        yield one
    finally:
        cluster_session.delete_namespace(namespace)
