"""A whole job in memory: pods that come, die and linger, links that delay, a Job controller.

The machines are the real ones; the world round them is as unkind as a cluster. Tests choose what happens.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from k8sddp.worker.contract import exit_codes
from k8sddp.worker.gang import coordinator, effects, member, messages, roster
from tests.unit.worker import gangs

OUT_OF_MEMORY, EVICTED = 137, -1  # what the Job counts, and what it does not


@dataclass
class Link:
    """A connection between a member and a coordinator: ordered both ways, as slow as the test likes."""

    peer: int
    at: Pod
    up: deque[messages.Message] = field(default_factory=deque)
    down: deque[messages.Message] = field(default_factory=deque)
    open_up: bool = True  # the coordinator has not heard that it broke
    open_down: bool = True


@dataclass
class Pod:
    """One pod: its member, the coordinator if it is node 0's, and its ranks."""

    name: str
    node: int
    member: member.Member
    gang: coordinator.Coordinator | None
    dialing: bool = False
    link: Link | None = None
    links: dict[int, Link] = field(default_factory=dict)  # of a coordinator, by peer
    ranks: messages.Attempt | None = None  # whose processes live here
    ending: bool = False
    exit: effects.Exit | None = None
    stale: bool = False  # Kubernetes has given it up; it lives on
    verdicts: list[str] = field(default_factory=list)

    @property
    def alive(self) -> bool:
        return self.exit is None


class World:
    """A cluster with one job in it; the first pods of the nodes in `late` are not scheduled yet."""

    def __init__(self, nnodes: int, max_attempts: int, late: Collection[int] = ()) -> None:
        self.now = 0.0
        self.nnodes = nnodes
        self.max_attempts = max_attempts
        self.pods: list[Pod] = []
        self.pending = set(late)  # nodes whose next pod has no Kubernetes Node that fits, or no image yet
        self.current: dict[int, Pod | None] = dict.fromkeys(range(nnodes))
        self.counts = {node: [0, 0] for node in range(nnodes)}  # failures and ignored ends, as the Job knows them
        self.outcome = ""  # of the Job
        self.peers = 0
        self.launches: list[messages.Attempt] = []
        self.numbers: dict[str, int] = {}  # of the attempts so far, by run id
        self.failures = 0  # attempts that a rank's failure may have ended
        self.disruptions = 0
        self.wiped = False  # at some moment no pod was left that remembered
        for node in range(nnodes):
            self.replace(node)

    # The Job controller -----------------------------------------------------------------------------------------------

    def replace(self, node: int) -> None:
        """Make the next pod of a node whose pod has gone, unless the Job has its end or the pod stays pending."""
        if self.outcome or self.current[node] is not None or node in self.pending:
            return
        name = f"digits-{node}-{len(self.pods)}"
        failed, ignored = self.counts[node]
        own = gangs.make_join(node, self.nnodes, pod=name, failure_count=failed, ignored_count=ignored)
        one = member.Member("digits", own, max_attempts=self.max_attempts, join_timeout=gangs.TIMEOUT, now=self.now)
        gang = None
        if node == 0:
            plan = gangs.make_plan(self.max_attempts, token=name)
            gang = coordinator.Coordinator(plan, own, now=self.now)
        pod = Pod(name, node, one, gang)
        if gang is not None:  # node 0 and its own coordinator are never apart
            pod.link = pod.links[roster.LOCAL] = Link(roster.LOCAL, pod)
        self.pods.append(pod)
        self.current[node] = pod
        self.act(pod, one.start())

    def gone(self, pod: Pod, code: int) -> None:
        """Judge the end of a pod as the Job's policy does."""
        if self.current[pod.node] is not pod:
            return
        self.current[pod.node] = None
        if all(other is None for other in self.current.values()):
            self.wiped = True
        if code == 0 and pod.node == 0:
            self.finish("complete")
        elif 1 <= code <= exit_codes.FAILED or code in exit_codes.FINAL:
            self.finish("failed")
        elif code == EVICTED or code in exit_codes.IGNORED or code == 0:
            self.counts[pod.node][1] += 1
        else:
            self.counts[pod.node][0] += 1
            limit = self.max_attempts if self.nnodes > 1 else self.max_attempts - 1
            if self.counts[pod.node][0] > limit:
                self.finish("failed")

    def finish(self, outcome: str) -> None:
        self.outcome = self.outcome or outcome

    # What happens to pods ---------------------------------------------------------------------------------------------

    def kill(self, pod: Pod, code: int) -> None:
        """Everything in the pod ends at once."""
        pod.exit = effects.Exit({}, code)
        pod.ranks = None
        self.cut(pod)
        for link in list(pod.links.values()):
            link.open_up = False
        self.gone(pod, code)

    def cut(self, pod: Pod, *, lossy: bool = False) -> None:
        """Break the member's connection; both will hear of it, in their time, after what is not lost on the way."""
        if pod.link is not None:
            pod.link.open_down = pod.link.open_up = False
            if lossy:
                pod.link.up.clear()
                pod.link.down.clear()

    def launch(self, pod: Pod, terms: messages.Attempt) -> None:
        """Start the ranks of a pod; an attempt's number is above all earlier ones, so that it can fence checkpoints.

        Where a pod that Kubernetes has given up takes part, it may not be: nobody knows what its successors did.
        """
        assert pod.ranks is None, "ranks of two attempts in one pod"
        if terms.run_id not in self.numbers:
            host = pod.link.at if pod.link is not None else pod
            if not any(one.stale for one in self.pods if one.link is not None and one.link.at is host):
                assert terms.number > max(self.numbers.values(), default=-1), f"{terms} after {self.numbers}"
            self.numbers[terms.run_id] = terms.number
        pod.ranks = terms
        self.launches.append(terms)

    def act(self, pod: Pod, todo: list[Any]) -> None:
        """Carry out a member's effects."""
        for effect in todo:
            if isinstance(effect, effects.Tell) and pod.link is not None and pod.link.open_up:
                pod.link.up.append(effect.message)
            elif isinstance(effect, effects.Dial):
                pod.dialing = True
            elif isinstance(effect, effects.Launch):
                self.launch(pod, effect.attempt)
            elif isinstance(effect, effects.EndRanks):
                pod.ending = True
            elif isinstance(effect, effects.Exit):
                assert pod.ranks is None
                pod.exit = effect
                self.cut(pod)
                for link in pod.links.values():
                    link.open_down = False
                self.gone(pod, effect.code)

    def spread(self, host: Pod, todo: list[Any]) -> None:
        """Carry out a coordinator's effects."""
        for effect in todo:
            if isinstance(effect, effects.Send) and effect.peer in host.links:
                if host.links[effect.peer].open_down:
                    host.links[effect.peer].down.append(effect.message)
                if isinstance(effect.message, messages.End) and effect.message.verdict["outcome"] != "stopped":
                    host.verdicts.append(str(effect.message.verdict))
            elif isinstance(effect, effects.Close) and effect.peer in host.links:
                host.links.pop(effect.peer).open_down = False

    def dial(self, pod: Pod, target: Pod | None) -> None:
        """Connect a member to node 0: its own, or over the network."""
        pod.dialing = False
        if pod.gang is None:
            if target is None or not target.alive:
                self.act(pod, pod.member.connection_lost("refused", self.now))
                return
            self.peers += 1
            pod.link = target.links[self.peers] = Link(self.peers, target)
        self.act(pod, pod.member.connection_up())

    def to_gang(self, pod: Pod) -> None:
        """Deliver the member's next message, or the news that its connection broke."""
        link = pod.link
        if link is None:
            return
        host = link.at
        if link.up and host.alive and host.gang is not None and link.peer in host.links:
            self.spread(host, host.gang.received(link.peer, link.up.popleft(), self.now))
        elif not link.up and not link.open_up and host.links.pop(link.peer, None) is not None and host.alive:
            assert host.gang is not None
            self.spread(host, host.gang.lost(link.peer, self.now))

    def to_member(self, pod: Pod) -> None:
        """Deliver the coordinator's next message, or the news that the connection broke."""
        link = pod.link
        if link is None or not pod.alive:
            return
        if link.down:
            self.act(pod, pod.member.received(link.down.popleft(), self.now))
        elif not link.open_down or not link.at.alive:
            pod.link = None
            link.open_up = False
            link.at.links.pop(link.peer, None)
            if link.at.alive and link.at.gang is not None:
                self.spread(link.at, link.at.gang.lost(link.peer, self.now))
            self.act(pod, pod.member.connection_lost("it closed the connection", self.now))

    def end_ranks(self, pod: Pod) -> None:
        """Let the processes that are being ended be gone."""
        if pod.ending and pod.alive:
            pod.ending = False
            pod.ranks = None
            self.act(pod, pod.member.ranks_ended((), self.now))

    def tick(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds
        for pod in self.pods:
            if pod.alive and pod.gang is not None:
                due = pod.gang.deadline()
                if due is not None and due <= self.now:
                    self.spread(pod, pod.gang.tick(self.now))

    def living(self) -> list[Pod]:
        return [pod for pod in self.pods if pod.alive]

    def calm(self, *, slow_to_end: bool = False) -> None:
        """Deliver, dial, end what is to end, replace what has gone."""
        for pod in self.living():
            if pod.dialing:
                self.dial(pod, self.current[0])
            self.to_gang(pod)
            self.to_member(pod)
            if not slow_to_end:
                self.end_ranks(pod)
        for node in range(self.nnodes):
            self.replace(node)

    def settle(self) -> None:
        """Nothing bad happens any more, whatever pends is scheduled, and what trains completes."""
        self.pending.clear()
        for _ in range(600):
            for pod in self.living():
                if pod.stale:  # its Kubernetes Node is cleared at last
                    self.kill(pod, EVICTED)
                elif pod.ranks is not None and not pod.ending:
                    self.act(pod, pod.member.ranks_complete())
            self.calm()
            self.tick(1.0)
            if self.outcome:
                return
