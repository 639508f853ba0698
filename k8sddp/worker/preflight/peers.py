"""What a node finds out about its peers when all have joined: ports, clock, and the names behind addresses.

It visits its next neighbour and node 0, so that every pod is visited and no node has more than two visits to make,
however many there are. The names are looked up in a thread, and a job does not wait for them: they are told when they
come.
"""

from __future__ import annotations

import functools
import socket
from collections.abc import Callable, Sequence

from k8sddp.worker.contract import finding, node_env
from k8sddp.worker.contract.finding import OK, PROBLEM, WARNING, Finding
from k8sddp.worker.gang import messages
from k8sddp.worker.net import loop, names, probing

from . import naming

PATIENCE = 1.0  # seconds for one of the three tries of a job
LONG_PATIENCE = 3.0  # where nothing but this is asked for: nine seconds of silence are no accident
CLOCK_LIMIT = 2.0  # seconds; beyond the accuracy of any clock that is set at all

_REMEDY = (
    "all pods of a job must reach each other on every port: see NetworkPolicies, firewalls between the Kubernetes "
    "Nodes and service meshes (spec.network.policy: open makes no policy of ours)"
)

Done = Callable[[Sequence[Finding]], None]


class Peers:
    """This node's door, and its visits to others."""

    def __init__(
        self, events: loop.Loop, node: node_env.NodeEnv, sock: socket.socket, *, say: Callable[[str], None]
    ) -> None:
        self._events = events
        self._node = node
        self._say = say
        self.address = node.pod_ip
        self.port = probing.Door(events, sock, node.pod_name, say=say).port

    def look(self, check: messages.Check, done: Done) -> None:
        """Make the visits that node 0 asks for; call `done` with what was found, which the log has been told."""
        targets = [target for one in check.targets if (target := _target(one)) is not None]
        patience = LONG_PATIENCE if self._node.only_preflight else PATIENCE
        found: list[Finding] = []
        left = [len(targets)]

        def visited(target: probing.Target, visit: probing.Visit) -> None:
            found.extend(of_visit(target, visit, only=self._node.only_preflight))
            left[0] -= 1
            if not left[0]:
                self._tell(found)
                done(tuple(found))

        for target in targets:
            probing.Visitor(self._events, target, patience=patience, done=functools.partial(visited, target))
        if not targets:
            done(())
        elif names.has_kubelet(self._node.pod_ip):  # `run --local` has no names
            self._look_up(targets[0])

    def _look_up(self, target: probing.Target) -> None:
        of = finding.node_name(target.node_rank, target.pod)
        names.in_thread(
            self._events,
            lambda: tuple(naming.reverse(target.address, of=of)),
            self._tell,
            otherwise=lambda error: (),
        )

    def _tell(self, found: Sequence[Finding]) -> None:
        told = [one for one in found if one.level != OK]
        for line in finding.lines(finding.node_name(self._node.node_rank, self._node.pod_name), told, seconds=0.0):
            self._say(line)


def of_visit(target: probing.Target, visit: probing.Visit, *, only: bool) -> Sequence[Finding]:
    """Return what a visit means. Silence alone ends no job, but where the checks are all that is asked for."""
    who = finding.node_name(target.node_rank, target.pod)
    if visit.outcome == probing.REACHED:
        return [Finding("ports", OK), *_clock(target, visit)]
    refused = visit.outcome == probing.REFUSED
    how = "%s, %d times" % (visit.why, probing.TRIES) if refused else visit.why
    text = "%s is not reached at %s port %d (%s): %s" % (who, target.address, target.port, how, _REMEDY)
    return [Finding("ports", PROBLEM if refused or only else WARNING, text)]


def _clock(target: probing.Target, visit: probing.Visit) -> Sequence[Finding]:
    if target.node_rank != 0:
        return []
    if abs(visit.offset) - visit.error <= CLOCK_LIMIT:
        return [Finding("clock", OK)]
    way = "ahead of" if visit.offset > 0 else "behind"
    text = "the clock is %.1f s %s node 0's (pod %s): certificates and the times of logs and checkpoints go by it, see "
    text += "whether the Kubernetes Nodes' clocks are set (NTP)"
    return [Finding("clock", WARNING, text % (abs(visit.offset), way, target.pod))]


def _target(record: object) -> probing.Target | None:
    """Return whom node 0 means, None for what is no target."""
    if not isinstance(record, (list, tuple)) or len(record) != 4:
        return None
    rank, pod, address, port = record
    known = isinstance(rank, int) and isinstance(port, int) and names.is_address(str(address))
    return probing.Target(rank, str(pod), str(address), port) if known else None
