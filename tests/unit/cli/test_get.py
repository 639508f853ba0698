"""`k8sddp get`: what it reads, and how much work that is."""

from __future__ import annotations

from typing import Any

from k8sddp import cluster, constants
from k8sddp.cli import get


class Counted(dict[str, Any]):
    """An object that counts how often somebody looks into it."""

    looks = 0

    def __getitem__(self, key: str) -> Any:
        Counted.looks += 1
        return super().__getitem__(key)


class Connection:
    """A cluster with that many jobs, four pods each."""

    def __init__(self, count: int) -> None:
        self.jobs = [
            Counted(kind="Job", apiVersion="batch/v1", metadata={"name": f"j{n}", "uid": f"u{n}"}) for n in range(count)
        ]
        self.pods = [
            Counted(metadata={"labels": {constants.LABEL_BATCH_CONTROLLER_UID: f"u{n}"}}) for n in range(count)
        ] * 4

    def list(self, _api_version: str, kind: str, **_: str) -> cluster.Listing:
        return cluster.Listing(tuple(self.pods if kind == "Pod" else self.jobs), "1")


def looks(count: int) -> int:
    """Return how often `get` looked into an object of so many jobs."""
    Counted.looks = 0
    found = get._all(Connection(count))  # type: ignore[arg-type]
    assert {4} == {len(snapshot.pods) for snapshot in found.values()}
    return Counted.looks


def test_ten_times_the_jobs_are_ten_times_the_work() -> None:
    """A namespace with a thousand jobs is shown as quickly as it is read."""
    assert looks(10) * 10 == looks(100)
