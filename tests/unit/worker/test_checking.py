"""The round of checks between the last join and an attempt: who visits whom, how often, and what follows."""

from __future__ import annotations

import pytest

from k8sddp.worker.contract import finding
from k8sddp.worker.contract.finding import OK, PROBLEM, WARNING, Finding
from k8sddp.worker.gang import coordinator, effects, messages
from tests.unit.worker import gangs

CLOSED = Finding("ports", PROBLEM, "node 1 (pod digits-1) is not reached")
SLOW = Finding("ports", WARNING, "node 1 (pod digits-1) is not reached (no answer within 3 s)")
FINE = Finding("ports", OK)
DEAF = Finding("shared memory", WARNING, "it is small")


def make_join(node_rank: int, nnodes: int = 2, **changes: object) -> messages.Join:
    """Return the join of a node with a door."""
    changes = {"address": f"10.0.0.{node_rank}", "probe_port": 40000 + node_rank, "python": "3.11", **changes}
    return gangs.make_join(node_rank, nnodes, **changes)


def make_gang(nnodes: int = 2, **asked: object) -> coordinator.Coordinator:
    """Return the coordinator of nodes with doors, none of which has joined."""
    return coordinator.Coordinator(gangs.make_plan(3, **asked), make_join(0, nnodes), now=0.0)


def joined(gang: coordinator.Coordinator, *joins: messages.Join, now: float = 1.0) -> list[effects.Effect]:
    """Let members join (peer = node rank) and return what the last join brings about."""
    told: list[effects.Effect] = []
    for join in joins:
        told = gang.received(join.node_rank, join, now)
    return told


def asked(told: list[effects.Effect]) -> dict[int, list[int]]:
    """Return whom each member is to visit, by node rank."""
    return {peer: [target[0] for target in one.targets] for peer, one in gangs.sent(told, messages.Check).items()}


def answered(
    gang: coordinator.Coordinator, found: dict[int, list[Finding]], *, round_: int = 1, now: float = 1.1
) -> list[effects.Effect]:
    """Let members say what they have found, and return what the last answer brings about."""
    told: list[effects.Effect] = []
    for peer, findings in found.items():
        told = gang.received(peer, messages.Checked(round_, finding.to_records(findings)), now)
    return told


def notes(told: list[effects.Effect]) -> list[str]:
    return [one.text for one in told if isinstance(one, effects.Note)]


def started(told: list[effects.Effect]) -> bool:
    return bool(gangs.sent(told, messages.Attempt))


@pytest.mark.parametrize(
    ("nnodes", "expected"),
    [
        pytest.param(1, {}, id="one"),
        pytest.param(2, {0: [1], 1: [0]}, id="two"),
        pytest.param(4, {0: [1], 1: [2, 0], 2: [3, 0], 3: [0]}, id="four"),
    ],
)
def test_every_node_visits_its_neighbour_and_node_0(nnodes: int, expected: dict[int, list[int]]) -> None:
    """So every node is visited, and none has more than two visits to make."""
    gang = make_gang(nnodes)
    told = joined(gang, *(make_join(node, nnodes) for node in range(nnodes)))
    assert (expected, not expected) == (asked(told), started(told))


def test_a_visit_names_pod_address_and_port() -> None:
    """All that the visitor needs, and knows its peer again by."""
    told = joined(make_gang(), make_join(0), make_join(1))
    assert messages.Check(1, [[1, "digits-1", "10.0.0.1", 40001]]) == gangs.sent(told, messages.Check)[0]


def test_the_attempt_begins_with_the_last_answer() -> None:
    """And not before."""
    gang = make_gang()
    joined(gang, make_join(0), make_join(1))
    assert [] == answered(gang, {0: [FINE]})
    assert started(answered(gang, {1: [FINE]}))


def test_a_gang_of_the_same_pods_is_not_checked_again() -> None:
    """The next attempt begins as soon as all have ended their ranks."""
    gang = make_gang()
    joined(gang, make_join(0), make_join(1))
    answered(gang, {0: [FINE], 1: [FINE]})
    gang.received(1, gangs.failed(1), 2.0)
    due = gang.deadline()
    assert due is not None
    gang.tick(due)
    gang.received(0, messages.Idle(0), due)
    assert started(gang.received(1, messages.Idle(0), due))


def test_of_a_gang_with_a_newcomer_only_its_neighbourhood_is_checked() -> None:
    """The newcomer, and who visits it."""
    gang = make_gang(5)
    joined(gang, *(make_join(node, 5) for node in range(5)))
    answered(gang, {node: [FINE] for node in range(5)})
    gang.received(3, messages.Leaving("SIGTERM"), 2.0)
    for peer in (0, 1, 2, 4):
        gang.received(peer, messages.Idle(0), 2.5)
    told = gang.received(9, make_join(3, 5, pod="digits-3-new", ignored_count=1, address="10.0.0.9"), 3.0)
    assert {2: [3], 9: [4, 0]} == asked(told)


def test_a_newcomers_closed_port_ends_no_job_that_has_trained() -> None:
    """It is said, and the attempt tells: hours of training do not end for one Kubernetes Node's network."""
    gang = make_gang()
    joined(gang, make_join(0), make_join(1))
    answered(gang, {0: [FINE], 1: [FINE]})
    gang.received(1, messages.Leaving("SIGTERM"), 2.0)
    gang.received(0, messages.Idle(0), 2.5)
    gang.received(9, make_join(1, pod="digits-1-new", ignored_count=1, address="10.0.0.9"), 3.0)
    told = answered(gang, {0: [CLOSED], 9: [FINE]}, round_=2, now=3.1)
    assert (True, {}) == (started(told), gangs.ends(told))


@pytest.mark.parametrize("answer", [True, False], ids=["joins anew", "is replaced"])
def test_who_is_lost_while_it_is_checked_is_awaited(answer: bool) -> None:
    """The round is made again when all are there; old answers are none to it."""
    gang = make_gang()
    joined(gang, make_join(0), make_join(1))
    gang.lost(1, 1.05)
    assert [] == answered(gang, {0: [CLOSED]})
    assert "waiting" == gang.states()[0]
    changes = {} if answer else {"pod": "digits-1-new", "failure_count": 1}
    assert {0: [1], 7: [0]} == asked(gang.received(7, make_join(1, **changes), 2.0))
    assert started(answered(gang, {0: [FINE], 7: [FINE]}, round_=2))


def test_who_does_not_answer_is_named_and_not_waited_for() -> None:
    """After five seconds, in which every visit has had its end."""
    gang = make_gang()
    joined(gang, make_join(0), make_join(1), now=1.0)
    answered(gang, {0: [FINE]})
    assert 6.0 == gang.deadline()
    told = gang.tick(6.0)
    assert started(told)
    assert "preflight of node 1 (pod digits-1): warning: ports: did not say whether" in notes(told)[0]


@pytest.mark.parametrize(
    ("mode", "found", "ends", "said"),
    [
        pytest.param("fail", CLOSED, True, True, id="fail, problem"),
        pytest.param("fail", SLOW, False, True, id="fail, warning"),
        pytest.param("warn", CLOSED, False, True, id="warn, problem"),
    ],
)
def test_a_closed_port_does_what_the_job_wants(mode: str, found: Finding, ends: bool, said: bool) -> None:
    """Exit code 77, or a line and the attempt; both ends of the way are named."""
    gang = make_gang(preflight=mode)
    joined(gang, make_join(0), make_join(1))
    told = answered(gang, {0: [FINE], 1: [found]})
    assert (ends, not ends) == (bool(gangs.ends(told)), started(told))
    assert said is any(f"node 1 (pod digits-1): {found.level}: ports: {found.text}" in note for note in notes(told))
    if ends:
        assert {0: 77, 1: 79} == {peer: end.code for peer, end in gangs.ends(told).items()}
        cause = gangs.cause_of(gangs.ends(told)[0])
        assert ("preflight", "node 1 (pod digits-1, node node-1): " + found.text) == (cause["class"], cause["message"])


def test_nothing_is_checked_where_nobody_wants_it() -> None:
    """`preflight: skip` asks nobody for a visit."""
    told = joined(make_gang(preflight="skip"), make_join(0), make_join(1))
    assert started(told)


@pytest.mark.parametrize(
    ("mode", "starts", "said"),
    [
        pytest.param("fail", False, False, id="fail"),
        pytest.param("warn", True, True, id="warn"),
        pytest.param("skip", True, False, id="skip"),
    ],
)
def test_another_torch_on_a_node_does_what_the_job_wants(mode: str, starts: bool, said: bool) -> None:
    """What differs may work: only `fail` keeps it out."""
    gang = make_gang(preflight=mode)
    told = joined(gang, make_join(0), make_join(1, torch_version="2.4.0"))
    assert starts is not bool(gangs.ends(told))
    text = "preflight of node 1 (pod digits-1): problem: peers: torch is 2.4.0 there but 2.9.1 on node 0"
    assert said is any(note.startswith(text) for note in notes(told))


def test_a_torch_that_was_not_seen_in_time_is_a_warning() -> None:
    """A node whose disk is slow ends no job, and least of all one that trains when its replacement comes."""
    told = joined(make_gang(), make_join(0), make_join(1, torch_version=finding.UNKNOWN))
    assert not gangs.ends(told)
    assert [True] == [
        note.startswith("preflight of node 1 (pod digits-1): warning: peers: torch is unknown there")
        for note in notes(told)
    ]


def test_another_python_on_a_node_is_a_warning() -> None:
    """Only pickled objects would notice."""
    told = joined(make_gang(), make_join(0), make_join(1, python="3.9"))
    assert [True] == [
        note.startswith("preflight of node 1 (pod digits-1): warning: peers: Python is 3.9 there")
        for note in notes(told)
    ]


ONLY = {"only_preflight": True, "preflight": "skip"}


def test_a_gang_that_is_only_checked_is_complete_without_an_attempt() -> None:
    """Whatever spec.preflight says; the log of node 0 has a line of every node, its own worker's among them."""
    own = finding.to_records([Finding("torch", OK), Finding("script", OK)])
    gang = make_gang(**ONLY)
    told = joined(gang, make_join(0, findings=own, seconds=0.02), make_join(1, findings=own, seconds=0.02))
    assert ["preflight of node 1 (pod digits-1): 2 checks passed in 0.02 s"] == notes(told)
    told = answered(gang, {0: [FINE], 1: [FINE]})
    assert {0: 0, 1: 0} == {peer: end.code for peer, end in gangs.ends(told).items()}
    assert not started(told)


@pytest.mark.parametrize(
    ("join", "found", "message"),
    [
        pytest.param({"findings": [list(CLOSED)]}, [FINE], CLOSED.text, id="of its own"),
        pytest.param({}, [FINE, CLOSED], CLOSED.text, id="of its peers"),
        pytest.param({"torch_version": "2.4.0"}, [FINE], "torch is 2.4.0 there but 2.9.1 on node 0", id="a difference"),
        pytest.param({"findings": [list(CLOSED)]}, [CLOSED], "(and 1 more problem, see the log)", id="two"),
    ],
)
def test_a_problem_of_a_gang_that_is_only_checked_ends_it_when_all_are_known(
    join: dict[str, object], found: list[Finding], message: str
) -> None:
    """Not before the others have been heard; with 77."""
    gang = make_gang(**ONLY)
    told = joined(gang, make_join(0), make_join(1, **join))
    assert {} == gangs.ends(told)
    told = answered(gang, {0: [FINE], 1: found})
    assert {0: 77, 1: 79} == {peer: end.code for peer, end in gangs.ends(told).items()}
    assert message in str(gangs.cause_of(gangs.ends(told)[0])["message"])


def test_one_node_that_is_only_checked_needs_no_peers() -> None:
    """Its own findings are all there is."""
    gang = make_gang(1, **ONLY)
    assert {0: 0} == {peer: end.code for peer, end in gangs.ends(joined(gang, make_join(0, 1))).items()}
    gang = make_gang(1, **ONLY)
    told = joined(gang, make_join(0, 1, findings=[list(CLOSED)]))
    assert {0: 77} == {peer: end.code for peer, end in gangs.ends(told).items()}


def test_warnings_end_no_gang_that_is_only_checked() -> None:
    """They are lines in the log."""
    gang = make_gang(**ONLY)
    told = joined(gang, make_join(0), make_join(1, findings=[list(DEAF)]))
    assert ["preflight of node 1 (pod digits-1): warning: shared memory: it is small"] == notes(told)
    told = answered(gang, {0: [FINE], 1: [SLOW]})
    assert {0: 0, 1: 0} == {peer: end.code for peer, end in gangs.ends(told).items()}
