"""The pytest fixtures: import them in a conftest.

`cluster_session` holds the cluster for the whole run; `cluster` is what a test asks for: the same, with the test's own
thread moved to where the API server is reachable, so code under test may run in process. A machine without a cluster
skips with one sentence; so does a test bed that would first have to be built, because ten minutes are no part of any
test's time limit. The end of a run with a cluster says which one that was, why, and where its logs are.
"""

import contextlib
import uuid
from collections.abc import Iterator

import pytest

from tests.cluster import lifecycle
from tests.cluster.clusters import Cluster
from tests.cluster.errors import ClusterUnavailableError

SENTENCES = pytest.StashKey[list[str]]()
LOGS = {
    "testbed": "logs of its components and pods: {}",
    "kind": "logs of its Nodes and pods, written when it ends: {}",
    "existing": "its components' logs are its owner's; what failed tests leave: {}",
}


@pytest.fixture(scope="session")
def cluster_session(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """Give the running cluster, or start one for this session."""
    sentences = request.config.stash.setdefault(SENTENCES, [])
    with contextlib.ExitStack() as stack:
        try:
            running = stack.enter_context(lifecycle.started(sentences.append, only_prepared=True))
        except ClusterUnavailableError as error:
            pytest.skip(str(error))
        sentences.append(LOGS[running.backend].format(running.logs_dir))
        yield running


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print what was said while the cluster was chosen and started."""
    if sentences := config.stash.get(SENTENCES, []):
        terminalreporter.section("cluster")
        for sentence in dict.fromkeys(sentences):  # each conftest that imports the fixture has its own
            terminalreporter.line(sentence)


@pytest.fixture
def cluster(cluster_session: Cluster) -> Iterator[Cluster]:
    """Give the cluster, with this test's thread inside its network."""
    with cluster_session.inside():
        yield cluster_session


@pytest.fixture
def restricted_namespace(cluster_session: Cluster) -> Iterator[str]:
    """Make a namespace that enforces the restricted Pod Security profile, and delete it with all that is in it."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    cluster_session.create_namespace(name)
    try:
        yield name
    finally:
        cluster_session.delete_namespace(name)
