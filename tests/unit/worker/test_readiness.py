"""What the kubelet hears of a node: at once what is news, and nothing while the node waits."""

from __future__ import annotations

import pytest

from k8sddp.worker import readiness
from k8sddp.worker.net import loop
from tests.unit.worker.http_clients import Client, Served


class Node:
    """A node's readiness and those who ask for it."""

    def __init__(self) -> None:
        self.events = loop.Loop()
        self.leaving = False
        self.readiness = readiness.Readiness(self.events, state=lambda: "waiting", leaving=lambda: self.leaving)
        self.served = Served({"/readyz": self.readiness.route()}, self.events)

    def __enter__(self) -> Node:
        return self

    def __exit__(self, *_: object) -> None:
        self.served.__exit__()

    def probe(self, seconds: int = 60) -> Client:
        """Return a probe of the kubelet's that has been asked, and answered where that is so at once."""
        probe = self.served.client().get(f"/readyz?wait={seconds}")
        after = self.served.client().get("/nothing")
        self.served.run_until(lambda: after.closed)
        return probe

    def ended(self, probe: Client) -> tuple[int, str]:
        self.served.run_until(lambda: probe.closed)
        return probe.status, probe.body


def test_a_person_is_answered_at_once() -> None:
    """Whatever the node does; a query that makes no sense is no wish to wait."""
    with Node() as node:
        assert (503, "waiting") == node.ended(node.served.get("/readyz"))
        assert (503, "waiting") == node.ended(node.served.get("/readyz?wait=long"))
        node.readiness.change(ready=True)
        assert (200, "training") == node.ended(node.served.get("/readyz"))


def test_a_probe_waits_until_the_node_trains() -> None:
    """One probe, one answer: no failure for the kubelet to write down."""
    with Node() as node:
        probe = node.probe()
        assert not probe.closed
        node.readiness.change(ready=True)
        assert (200, "training") == node.ended(probe)
        assert (200, "training") == node.ended(node.probe())


def test_the_end_of_an_attempt_is_told_once_at_once() -> None:
    """That makes the pod unready; from then on the probes wait again, whoever else asks in between."""
    with Node() as node:
        node.readiness.change(ready=True)
        assert 200 == node.ended(node.probe())[0]
        node.readiness.change(ready=False)
        assert (503, "waiting") == node.ended(node.served.get("/readyz"))
        assert (503, "waiting") == node.ended(node.probe())
        waits = node.probe()
        assert not waits.closed
        node.readiness.change(ready=True)
        assert 200 == node.ended(waits)[0]


def test_the_end_of_the_pod_is_no_news() -> None:
    """A node that was ready is so until its pod has ended; one that was not is not called so."""
    with Node() as node:
        node.readiness.change(ready=True)
        node.ended(node.probe())
        node.readiness.change(ready=False)
        node.leaving = True
        assert [200, 200] == [node.ended(node.probe())[0] for _ in range(2)]
    with Node() as node:
        node.leaving = True
        assert not node.probe().closed


def test_a_probe_waits_no_longer_than_it_asks_for() -> None:
    """Then it fails, for a reason in words, before the kubelet gives it up."""
    with Node() as node:
        assert (503, "waiting") == node.ended(node.probe(0))
        assert not node.probe(1).closed


@pytest.mark.parametrize("count", [1000])
def test_probes_that_went_away_do_not_pile_up(count: int) -> None:
    """The kubelet gives up a probe with its pod, or when it starts anew."""
    with Node() as node:
        for _ in range(count):
            node.probe().close()
        node.served.run_until(lambda: not node.readiness._waiting)
