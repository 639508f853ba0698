"""Fixtures for the tests of the cluster itself."""

from tests.cluster.fixtures import cluster, cluster_session, restricted_namespace

__all__ = ["cluster", "cluster_session", "restricted_namespace"]
