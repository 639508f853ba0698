"""A whole job in the world of world.py: Hypothesis chooses what happens, and some stories that it seldom finds.

After every step the promises are checked, and at the end the faults stop and the job must reach its one end.
"""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from k8sddp.worker.contract import exit_codes
from k8sddp.worker.gang import member
from tests import examples
from tests.unit.worker import gangs
from tests.unit.worker.world import EVICTED, OUT_OF_MEMORY, Pod, World


class Job(RuleBasedStateMachine):
    """Every order of joins, losses, delays, duplicates and returns."""

    world: World

    @initialize(
        nnodes=st.integers(1, 4),
        max_attempts=st.integers(1, 3),
        started=st.booleans(),
        late=st.sets(st.integers(0, 3), max_size=2),
    )
    def begin(self, nnodes: int, max_attempts: int, started: bool, late: set[int]) -> None:
        self.world = World(nnodes, max_attempts, () if started else late)
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
            text = gangs.GONE if victim else "ValueError: bad"
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

    @rule(number=st.integers(0, 7), lossy=st.booleans())
    def break_link(self, number: int, lossy: bool) -> None:
        pod = self.pick(number)
        if pod is not None and pod.node != 0:
            self.world.failures += 1
            self.world.cut(pod, lossy=lossy)

    @rule(number=st.integers(0, 7), evicted=st.booleans())
    def lose(self, number: int, evicted: bool) -> None:
        pod = self.pick(number)
        if pod is not None:
            self.world.disruptions += evicted
            self.world.failures += not evicted
            self.world.kill(pod, EVICTED if evicted else OUT_OF_MEMORY)

    @rule(evicted=st.booleans())
    def lose_all(self, evicted: bool) -> None:
        """Every pod at once: nobody is left who remembers."""
        while self.world.living():
            self.lose(0, evicted)

    @rule(node=st.integers(0, 3), seconds=st.sampled_from([10.0, 700.0]))
    def no_kube_node_fits(self, node: int, seconds: float) -> None:
        """The next pod of a node is not scheduled for a while, perhaps longer than rendezvous.timeout."""
        self.world.pending.add(node)
        self.world.tick(seconds)

    @rule()
    def kube_nodes_come(self) -> None:
        self.world.pending.clear()

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
        """One verdict for each coordinator; only a coordinator's word makes a 0; nobody leaves for want of others."""
        for pod in self.world.pods:
            assert len(set(pod.verdicts)) <= 1
            assert pod.exit is None or pod.exit.code != exit_codes.INFRASTRUCTURE
            if pod.exit is not None and pod.exit.code == 0:
                assert pod.exit.verdict.outcome == "complete"

    def teardown(self) -> None:
        """When the faults stop, the job ends; without a failure it completes."""
        if not hasattr(self, "world"):
            return
        self.world.settle()
        assert self.world.outcome, "the job has no end"
        if not self.world.failures:
            assert "complete" == self.world.outcome


Job.TestCase.settings = settings(max_examples=examples.count(400), stateful_step_count=60, deadline=None)
TestJob = Job.TestCase


def start(world: World) -> None:
    """Let the gang start its next attempt."""
    before = len({terms.run_id for terms in world.launches})
    for _ in range(40):
        world.calm()
        world.tick(0.1)
        if len({terms.run_id for terms in world.launches}) > before:
            break
    for pod in 4 * world.living():
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
    assert ("failed", 2) == (world.outcome, len(world.numbers))


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


def test_a_node_that_comes_late_finds_the_job_waiting() -> None:
    """Its Kubernetes Node fits after hours: no pod has left meanwhile, and the one attempt of the budget trains."""
    world = World(2, 1, late=(1,))
    for _ in range(600):
        world.calm()
        world.tick(30.0)
    assert (1, True) == (len(world.pods), world.pods[0].alive)
    world.pending.clear()
    start(world)
    assert [0, 0] == [terms.number for terms in world.launches]


def test_members_wait_for_a_late_node_0_too() -> None:
    """Nobody tells them anything, and they look for it on."""
    world = World(3, 1, late=(0,))
    for _ in range(600):
        world.calm()
        world.tick(30.0)
    assert [True, True] == [pod.alive for pod in world.pods]
    world.pending.clear()
    start(world)
    assert {0} == {terms.number for terms in world.launches}


def test_a_drained_pod_may_be_replaced_hours_later() -> None:
    """The Kubernetes Node that takes it is late: the disruption stays free, whichever node it was."""
    for node in (0, 1):
        world = World(2, 1)
        start(world)
        world.pending.add(node)
        pod = world.pods[node]
        world.act(pod, pod.member.asked_to_stop("SIGTERM"))
        world.end_ranks(pod)
        for _ in range(600):
            world.calm()
            world.tick(30.0)
        world.pending.clear()
        start(world)
        assert ({0, 1}, 0, "") == (set(world.numbers.values()), world.launches[-1].spent, world.outcome)


def test_attempt_numbers_grow_when_every_pod_is_lost() -> None:
    """Nobody remembers, once and again: the numbers go on above all that have been."""
    world = World(2, 6)
    start(world)
    for _ in range(3):
        pod = world.living()[1]
        world.act(pod, pod.member.rank_failed(gangs.make_failure(1)))
        world.act(pod, pod.member.ranks_over())
        start(world)
    for _ in range(2):
        for pod in world.living():
            world.kill(pod, OUT_OF_MEMORY)
        start(world)
    assert [0, 1, 2, 3, 8, 16] == list(world.numbers.values())


def test_an_attempt_of_which_only_the_lost_had_heard_is_not_started_again() -> None:
    """Its word to pod 1 is lost on the way, then node 0 with it: pod 1 alone remembers, and not that number."""
    world = World(2, 6)
    start(world)
    first, second = world.pods
    world.act(second, second.member.rank_failed(gangs.make_failure(1)))
    world.act(second, second.member.ranks_over())
    while len(world.numbers) < 2:
        for pod in (first, second):
            world.to_gang(pod)
            if pod is first or pod.member.state in (member.RUNNING, member.ENDING):
                world.to_member(pod)
            world.end_ranks(pod)
        world.tick(0.3)
    assert (1, None) == (first.ranks and first.ranks.number, second.ranks)
    world.cut(second, lossy=True)
    world.kill(first, EVICTED)
    start(world)
    assert [0, 1, 2] == list(world.numbers.values())
