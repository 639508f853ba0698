"""Choose a backend, start its cluster, end it: what the command line and the pytest fixtures share.

Whoever starts a cluster ends it; a cluster that already runs is used and left running. Only test beds need help when
their starter is killed: kind's clusters and existing ones are looked after by others.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.cluster import backends, cache, existing, kind
from tests.cluster.clusters import Cluster
from tests.cluster.errors import ClusterUnavailableError
from tests.cluster.testbed import bed, layout

DEFAULT_NAME = "default"

Say = Callable[[str], None]


def name() -> str:
    """Return the cluster's name: several may run side by side."""
    return os.environ.get("K8SDDP_TEST_CLUSTER") or DEFAULT_NAME


def folder(backend: str) -> Path:
    """Return the folder in which a backend keeps what it needs."""
    return cache.root(os.environ) / backend


def choose(say: Say) -> str:
    """Choose the backend and say why; ClusterUnavailableError where none is possible."""
    choice = backends.choose(backends.observe(os.environ))
    if choice.backend is None:
        raise ClusterUnavailableError(choice.sentence)
    say(choice.sentence)
    return choice.backend


@contextlib.contextmanager
def started(say: Say, options: layout.Options | None = None, *, only_prepared: bool = False) -> Iterator[Cluster]:
    """Give the running cluster, or start one and end it; `only_prepared` refuses what would have to be built first."""
    backend = choose(say)
    if backend == "existing":
        with existing.attached(folder(backend), os.environ) as cluster:
            yield cluster
    elif backend == "kind":
        was_there = kind.is_up(folder(backend) / name(), name())
        try:
            yield kind.start(folder(backend) / name(), name(), os.environ, say)
        finally:
            if not was_there:
                kind.stop(folder(backend) / name(), name())
    else:
        ready = bed.running(folder(backend), name()) is not None or bed.prepared(folder(backend))
        if only_prepared and not ready:
            raise ClusterUnavailableError(
                "the test bed's programs are not built yet: run `make cluster` once (ten minutes)"
            )
        test_bed = bed.start(folder(backend), name(), options or layout.Options(), say)
        try:
            yield test_bed.cluster
        finally:
            test_bed.stop()


def up(say: Say, options: layout.Options) -> Cluster:
    """Start a cluster that outlives this process."""
    backend = choose(say)
    if backend == "existing":
        return existing.attach(folder(backend), os.environ)
    if backend == "kind":
        return kind.start(folder(backend) / name(), name(), os.environ, say)
    test_bed = bed.start(folder(backend), name(), options, say)
    test_bed.keep()
    return test_bed.cluster


def down(say: Say) -> bool:
    """End the cluster; tell whether there was one. Of an existing one only our copies of its credentials go."""
    backend = choose(say)
    if backend == "existing":
        return existing.forget(folder(backend))
    if backend == "kind":
        return kind.stop(folder(backend) / name(), name())
    return backend == "testbed" and bed.stop(folder(backend), name())


def running(say: Say) -> Cluster | None:
    """Return the cluster if it runs."""
    backend = choose(say)
    if backend == "existing":
        return existing.attach(folder(backend), os.environ)
    if backend == "kind":
        image = os.environ.get("K8SDDP_TEST_IMAGE") or kind.IMAGE
        base = folder(backend) / name()
        return kind.attach(base, name(), image) if kind.is_up(base, name()) else None
    return bed.running(folder(backend), name())
