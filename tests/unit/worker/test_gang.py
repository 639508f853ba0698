"""A whole job in memory: pods that come, die and linger, links that delay, a Job controller; Hypothesis chooses.

The machines are the real ones; the world round them is as unkind as a cluster. After every step the promises are
checked, and at the end the faults stop and the job must reach its one end.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from k8sddp.worker import exit_codes
from k8sddp.worker.gang import coordinator, member, messages, roster
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
    exit: member.Exit | None = None
    stale: bool = False  # Kubernetes has given it up; it lives on
    verdicts: list[str] = field(default_factory=list)

    @property
    def alive(self) -> bool:
        return self.exit is None


class World:
    """A cluster with one job in it."""

    def __init__(self, nnodes: int, max_attempts: int) -> None:
        self.now = 0.0
        self.nnodes = nnodes
        self.max_attempts = max_attempts
        self.pods: list[Pod] = []
        self.current: dict[int, Pod | None] = dict.fromkeys(range(nnodes))
        self.counts = {node: [0, 0] for node in range(nnodes)}  # failures and ignored ends, as the Job knows them
        self.outcome = ""  # of the Job
        self.peers = 0
        self.launches: list[messages.Attempt] = []
        self.failures = 0  # attempts that a rank's failure may have ended
        self.disruptions = 0
        self.wiped = False  # at some moment no pod was left that remembered
        for node in range(nnodes):
            self.replace(node)

    # The Job controller -----------------------------------------------------------------------------------------------

    def replace(self, node: int) -> None:
        """Make the next pod of a node whose pod has gone, unless the Job has its end."""
        if self.outcome or self.current[node] is not None:
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
        pod.exit = member.Exit({}, code)
        pod.ranks = None
        self.cut(pod)
        for link in list(pod.links.values()):
            link.open_up = False
        self.gone(pod, code)

    def cut(self, pod: Pod) -> None:
        """Break the member's connection; both sides will hear of it, in their time."""
        if pod.link is not None:
            pod.link.open_down = pod.link.open_up = False

    def act(self, pod: Pod, effects: list[Any]) -> None:
        """Carry out a member's effects."""
        for effect in effects:
            if isinstance(effect, member.Tell) and pod.link is not None and pod.link.open_up:
                pod.link.up.append(effect.message)
            elif isinstance(effect, member.Dial):
                pod.dialing = True
            elif isinstance(effect, member.Launch):
                assert pod.ranks is None, "ranks of two attempts in one pod"
                pod.ranks = effect.attempt
                self.launches.append(effect.attempt)
                self.act(pod, pod.member.launched())
            elif isinstance(effect, member.EndRanks):
                pod.ending = True
            elif isinstance(effect, member.Exit):
                assert pod.ranks is None
                pod.exit = effect
                self.cut(pod)
                for link in pod.links.values():
                    link.open_down = False
                self.gone(pod, effect.code)

    def spread(self, host: Pod, effects: list[Any]) -> None:
        """Carry out a coordinator's effects."""
        for effect in effects:
            if isinstance(effect, coordinator.Send) and effect.peer in host.links:
                if host.links[effect.peer].open_down:
                    host.links[effect.peer].down.append(effect.message)
                if isinstance(effect.message, messages.End) and effect.message.verdict["outcome"] != "stopped":
                    host.verdicts.append(str(effect.message.verdict))
            elif isinstance(effect, coordinator.Close) and effect.peer in host.links:
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
            if pod.alive:
                self.act(pod, pod.member.tick(self.now))

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
        """Nothing bad happens any more, and what trains completes."""
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


class Job(RuleBasedStateMachine):
    """Every order of joins, losses, delays, duplicates and returns."""

    world: World

    @initialize(nnodes=st.integers(1, 4), max_attempts=st.integers(1, 3), started=st.booleans())
    def begin(self, nnodes: int, max_attempts: int, started: bool) -> None:
        self.world = World(nnodes, max_attempts)
        if started:
            for pod in self.world.pods:
                self.world.dial(pod, self.world.current[0])
            for _ in range(2 * nnodes + 2):
                for pod in self.world.pods:
                    self.world.to_gang(pod)
                    self.world.to_member(pod)
            assert all(pod.ranks is not None for pod in self.world.pods)

    def pick(self, number: int) -> Pod | None:
        living = self.world.living()
        return living[number % len(living)] if living else None

    @rule(number=st.integers(0, 7), stale=st.booleans())
    def dial(self, number: int, stale: bool) -> None:
        """Connect to the current node 0, or to one that Kubernetes has given up."""
        pod = self.pick(number)
        if pod is not None and pod.dialing:
            old = [one for one in self.world.living() if one.node == 0 and one.stale]
            self.world.dial(pod, old[0] if stale and old else self.world.current[0])

    @rule(number=st.integers(0, 7))
    def deliver_to_gang(self, number: int) -> None:
        pods = [pod for pod in self.world.pods if pod.link is not None]
        if pods:
            self.world.to_gang(pods[number % len(pods)])

    @rule(number=st.integers(0, 7))
    def deliver_to_member(self, number: int) -> None:
        pod = self.pick(number)
        if pod is not None:
            self.world.to_member(pod)

    @rule(number=st.integers(0, 7), over=st.booleans(), victim=st.booleans())
    def fail(self, number: int, over: bool, victim: bool) -> None:
        pod = self.pick(number)
        if pod is not None and pod.ranks is not None and not pod.ending:
            self.world.failures += 1
            text = "RuntimeError: Connection closed by peer" if victim else "ValueError: bad"
            self.world.act(pod, pod.member.rank_failed(gangs.make_failure(pod.node, text)))
            if over:
                self.world.act(pod, pod.member.ranks_over())

    @rule(number=st.integers(0, 7))
    def complete(self, number: int) -> None:
        pod = self.pick(number)
        if pod is not None and pod.ranks is not None and not pod.ending:
            self.world.act(pod, pod.member.ranks_complete())

    @rule(number=st.integers(0, 7))
    def ranks_end(self, number: int) -> None:
        pod = self.pick(number)
        if pod is not None:
            self.world.end_ranks(pod)

    @rule(number=st.integers(0, 7))
    def ask_to_stop(self, number: int) -> None:
        pod = self.pick(number)
        if pod is not None:
            self.world.disruptions += 1
            self.world.act(pod, pod.member.asked_to_stop("SIGTERM"))

    @rule(number=st.integers(0, 7))
    def break_link(self, number: int) -> None:
        pod = self.pick(number)
        if pod is not None and pod.node != 0:
            self.world.failures += 1
            self.world.cut(pod)

    @rule(number=st.integers(0, 7), evicted=st.booleans())
    def lose(self, number: int, evicted: bool) -> None:
        pod = self.pick(number)
        if pod is not None:
            self.world.disruptions += evicted
            self.world.failures += not evicted
            self.world.kill(pod, EVICTED if evicted else OUT_OF_MEMORY)

    @rule(number=st.integers(0, 7))
    def give_up_on(self, number: int) -> None:
        """The pod's Kubernetes Node does not answer: Kubernetes replaces the pod, which lives on."""
        pod = self.pick(number)
        if pod is not None and self.world.current[pod.node] is pod and not self.world.outcome:
            self.world.disruptions += 1
            pod.stale = True
            self.world.gone(pod, EVICTED)
            self.world.replace(pod.node)

    @rule(node=st.integers(0, 3))
    def replace(self, node: int) -> None:
        if node < self.world.nnodes:
            self.world.replace(node)

    @rule(rounds=st.integers(1, 8), slow_to_end=st.booleans())
    def calm(self, rounds: int, slow_to_end: bool) -> None:
        """A while without faults: the gang may start its next attempt."""
        for _ in range(rounds):
            self.world.calm(slow_to_end=slow_to_end)
            self.world.tick(0.1)

    @rule(seconds=st.sampled_from([0.05, 0.3, 3.0, 30.0]))
    def wait(self, seconds: float) -> None:
        self.world.tick(seconds)

    @precondition(lambda self: hasattr(self, "world"))
    @invariant()
    def no_two_attempts_meet(self) -> None:
        """P1: who trains at the same master port trains in the same attempt, and no node is in it twice."""
        training = [(pod.ranks.master_port, pod.ranks.run_id, pod.node) for pod in self.world.living() if pod.ranks]
        assert len({port for port, _, _ in training}) == len({run_id for _, run_id, _ in training})
        assert len(set(training)) == len(training)
        assert len({(terms.number, terms.run_id) for terms in self.world.launches}) == len(
            {terms.run_id for terms in self.world.launches}
        )

    @precondition(lambda self: hasattr(self, "world"))
    @invariant()
    def the_budget_holds(self) -> None:
        """P5: no more attempts than the budget and the disruptions allow; P4: the count is never above the failures."""
        world = self.world
        attempts = len({terms.run_id for terms in world.launches})
        if not world.wiped:
            assert attempts <= world.max_attempts + world.disruptions
        for pod in world.living():
            if pod.gang is not None:
                assert pod.gang.ledger.spent <= world.failures
                assert pod.gang.ledger.spent <= max(
                    world.max_attempts, *(failed for failed, _ in world.counts.values())
                )

    @precondition(lambda self: hasattr(self, "world"))
    @invariant()
    def the_end_is_final(self) -> None:
        """One verdict for each coordinator; only a coordinator's word makes a 0."""
        for pod in self.world.pods:
            assert len(set(pod.verdicts)) <= 1
            if pod.exit is not None and pod.exit.code == 0:
                assert pod.exit.verdict["outcome"] == "complete"

    def teardown(self) -> None:
        """When the faults stop, the job ends; without a failure it completes."""
        if not hasattr(self, "world"):
            return
        self.world.settle()
        assert self.world.outcome, "the job has no end"
        if not self.world.failures:
            assert "complete" == self.world.outcome


Job.TestCase.settings = settings(max_examples=400, stateful_step_count=60, deadline=None)
TestJob = Job.TestCase


def start(world: World) -> None:
    """Let the gang start its next attempt."""
    before = len({terms.run_id for terms in world.launches})
    for _ in range(40):
        world.calm()
        world.tick(0.1)
        if len({terms.run_id for terms in world.launches}) > before:
            break
    for pod in world.living():
        world.to_member(pod)
    assert all(pod.ranks is not None for pod in world.living())


def test_an_undecided_attempt_outlives_node_0() -> None:
    """Pod 1 is out of memory, then pod 0 before pod 1's replacement has joined: that was one attempt of two."""
    world = World(3, 2)
    start(world)
    first, second, third = world.pods
    world.kill(second, OUT_OF_MEMORY)
    for _ in range(8):  # no replacement yet
        world.to_gang(second)
        world.tick(0.1)
        world.to_member(third)
    world.end_ranks(third)
    assert third.member.memory.suspects
    world.kill(first, OUT_OF_MEMORY)
    start(world)
    assert third.ranks is not None
    world.act(third, third.member.rank_failed(gangs.make_failure(2)))
    for _ in range(20):
        world.calm()
        world.tick(1.0)
    assert ("failed", {0, 1}) == (world.outcome, {terms.number for terms in world.launches})


def settle(world: World, *pods: Pod) -> None:
    """Deliver what is under way between these pods, and end the ranks that are to end."""
    for _ in range(8):
        for pod in pods:
            world.to_gang(pod)
            world.to_member(pod)
            world.end_ranks(pod)
        world.tick(0.1)


def test_an_attempt_at_a_stale_node_0_does_not_hold_the_new_one() -> None:
    """While the link to the new node 0 is broken unnoticed, the member trains with the stale one, and comes back."""
    world = World(2, 3)
    start(world)
    stale, other = world.pods
    stale.stale = True
    world.gone(stale, EVICTED)
    world.replace(0)
    current = world.current[0]
    assert current is not None
    world.dial(current, current)
    world.cut(other)
    settle(world, stale, other, current)
    world.dial(other, current)
    settle(world, other, current)
    assert other.link is not None
    other.link.open_down, other.link = False, None
    world.act(other, other.member.connection_lost("reset", world.now))
    world.end_ranks(other)
    world.dial(other, stale)
    settle(world, stale, other)
    world.cut(other)
    settle(world, stale, other)
    world.dial(other, current)
    settle(world, other, current)
    world.kill(stale, EVICTED)
    start(world)


def test_a_member_that_is_back_before_the_end_hears_whether_it_counts() -> None:
    """Its link broke for a moment, and node 0 may be evicted next: the attempt is not free."""
    world = World(3, 3)
    start(world)
    first, second, third = world.pods
    world.cut(second)
    world.to_member(second)
    world.end_ranks(second)
    world.dial(second, first)
    for _ in range(8):  # the third one's ranks have not ended
        for pod in world.pods:
            world.to_gang(pod)
            world.to_member(pod)
        world.tick(0.1)
    known = [(pod.member.memory.open, pod.member.memory.spent) for pod in (second, third)]
    assert (1, [(False, 1)] * 2) == (first.gang and first.gang.ledger.spent, known)


def test_one_node_has_the_budget_of_many() -> None:
    """With its only pod all memory is lost: the pod's failure counts, and each attempt that fails after it."""
    world = World(1, 3)
    start(world)
    world.kill(world.pods[0], OUT_OF_MEMORY)
    for _ in range(2):
        start(world)
        (pod,) = world.living()
        world.act(pod, pod.member.rank_failed(gangs.make_failure(0)))
        world.act(pod, pod.member.ranks_over())
    settle(world, pod)
    assert ("failed", 3) == (world.outcome, len({terms.run_id for terms in world.launches}))
