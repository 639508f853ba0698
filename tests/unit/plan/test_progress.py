"""What node 0 says, read with tolerance and told in words."""

from __future__ import annotations

import json
from typing import Any

import pytest

from k8sddp.plan import progress
from k8sddp.worker import status
from k8sddp.worker.gang import memory, stragglers, summary
from k8sddp.worker.gang import progress as worker_progress

FACTS = {
    "state": "training",
    "attempt": 1,
    "spent": 1,
    "max_attempts": 4,
    "nodes": {"0": "training", "1": "training"},
    "history": [{"attempt": 0, "counted": False, "message": "node 1 was asked to stop"}, "nonsense", {"counted": True}],
    "ranks": [{"rank": 0, "step": 40, "mean_step": 0.25, "age": 0.1, "phase": "forward"}],
}


def told(**changed: Any) -> progress.Progress:
    """Return what node 0 says with some fields changed."""
    found = progress.parse(json.dumps({**FACTS, **changed}))
    assert found is not None
    return found


def rank(number: int = 0, **facts: Any) -> dict[str, Any]:
    """Return the record of a rank."""
    return {"rank": number, "step": 0, "mean_step": None, "age": 30.0, "phase": "starting", **facts}


@pytest.mark.parametrize(
    ("expected", "changed"),
    [
        ("attempt 1, step 40, 4 steps/s", {}),
        ("attempt 1, step 39, 4 steps/s",
         {"ranks": [FACTS["ranks"][0], rank(1, step=39, mean_step=0.2, age=0.3)]}),  # type: ignore[index]
        ("attempt 1, rank 0 is starting", {"ranks": [rank(step=None, age=None)]}),
        ("attempt 1, rank 0 started 30 s ago and has not reached init_process_group yet", {"ranks": [rank()]}),
        ("attempt 1, rank 0 started 30 s ago and is in init_process_group", {"ranks": [rank(phase="joining")]}),
        ("attempt 1, rank 0 started 30 s ago and has joined the process group", {"ranks": [rank(phase="joined")]}),
        ("attempt 1, rank 0 started 30 s ago and has made no step yet", {"ranks": [rank(phase="forward")]}),
        ("attempt 1, step 9, 10 steps/s; rank 0 made its last one 300 s ago",
         {"ranks": [rank(step=9, mean_step=0.1, age=300.0, phase="between")]}),
        ("attempt 1, step 9, 50 s/step",
         {"ranks": [rank(step=9, mean_step=50, age=300.0, phase="between")]}),
        ("attempt 1, its ranks run; rank 3 and 1 more hold up the others: node 0's log says where it is",
         {"ranks": [], "hang": {"ranks": [3, 7], "works": False, "waited": 605.0}}),
        ("attempt 1, its ranks run; rank 3 holds up the others, and still works: node 0's log says where it is",
         {"ranks": [], "hang": {"ranks": [3], "works": True, "waited": 605.0}}),
        ("attempt 1, its ranks run; some rank holds up the others: node 0's log says where it is",
         {"ranks": [], "hang": {"ranks": []}}),
        ("attempt 1, its ranks run", {"ranks": [], "hang": "nonsense"}),
        ("attempt 1, its ranks run", {"ranks": []}),
        ("the nodes are joining", {"state": "joining", "attempt": None}),
        ("attempt 1, its ranks are being ended, and the gang starts anew", {"state": "restarting"}),
    ],
)  # fmt: skip
def test_what_runs_is_one_sentence(expected: str, changed: dict[str, Any]) -> None:
    """The rank that is least far on, and how far."""
    assert expected == told(**changed).sentence


def test_earlier_attempts_are_told_with_or_without_their_sentences() -> None:
    """Who may read /status is told the class of a failure at least."""
    assert ("attempt 0 ended: node 1 was asked to stop (a disruption, not counted)",) == told().history
    bare = [
        {"attempt": 0, "counted": True, "class": "exception", "rank": 3},
        {"attempt": 1, "counted": True, "class": "exit", "rank": 1, "exit_code": 7},
        {"attempt": 2, "counted": True, "class": "lost", "node_rank": 1},
        {"attempt": 3, "counted": True},
        {"attempt": 4, "counted": False, "class": memory.DISRUPTED, "rank": None, "exit_code": None},
    ]
    assert (
        "attempt 0 ended: rank 3 raised an exception",
        "attempt 1 ended: rank 1 exited with code 7",
        "attempt 2 ended: node 1 was lost",
        "attempt 3 ended: a node failed",
        "attempt 4 ended: a node was stopped, or lost without a fault of its own (a disruption, not counted)",
    ) == told(history=bare).history


def test_a_node_0_that_has_begun_no_attempt_does_not_know_how_many_are_used() -> None:
    """A new pod has not heard of the earlier ones yet, and says 0."""
    assert ("1 of 4 attempts used", "") == (told().account, told(attempt=None, state="joining", spent=0).account)


@pytest.mark.parametrize("text", ["", "<html>", "[]", "{}", '{"state": 1}', "[" * 100_000])
def test_another_programs_answer_is_none(text: str) -> None:
    """A proxy, an older worker, a stranger on the port."""
    assert progress.parse(text) is None


def test_fields_of_another_type_are_not_believed() -> None:
    """Another version of the worker must not break `get`."""
    odd = told(attempt="1", spent=None, max_attempts=True, nodes=[1], history=4, ranks=[1, {"rank": "x", "step": "y"}])
    assert (None, 0, 0, {}, ()) == (odd.attempt, odd.spent, odd.max_attempts, odd.nodes, odd.history)
    assert (progress.Rank(0),) == odd.ranks
    assert "" == odd.account


def test_numbers_that_are_none_of_ours_are_not_believed() -> None:
    """JSON's have no end, and Unicode has more digits than Python reads."""
    huge = 10**400
    found = told(nodes={"\u00b2": "training", "9" * 5000: "training"}, ranks=[rank(mean_step=huge, age=huge)])
    assert ({}, None, None) == (found.nodes, found.ranks[0].mean_step, found.ranks[0].age)


def test_what_the_worker_writes_is_understood() -> None:
    """The two sides of /status, without a cluster between them."""
    rank = worker_progress.Rank(0, pid=1, step=3, forward_entered=3, forward_left=3, age=1.0, step_time=1.0)
    values: dict[str, Any] = {
        **dict.fromkeys(status.Facts._fields),
        "state": "training",
        "attempt": 2,
        "spent": 1,
        "max_attempts": 3,
        "history": (
            memory.entry(0, True, "x", kind="exit", rank=1, exit_code=7),
            memory.entry(1, False, "x", kind="lost", node_rank=1),
        ),
        "nodes": {0: "training", 1: "missing"},
        "stragglers": (),
        "ranks": [status.Seen(0, 0.0, rank)],
    }
    facts = status.Facts(**values)
    found = progress.parse(status.to_json(facts))
    assert found is not None
    assert ("attempt 2, step 3, 2 steps/s", "1 of 3 attempts used") == (found.sentence, found.account)
    assert {0: "training", 1: "missing"} == found.nodes
    assert (
        "attempt 0 ended: rank 1 exited with code 7",
        "attempt 1 ended: node 1 was lost (a disruption, not counted)",
    ) == found.history


def test_what_node_0_tells_of_its_gang_is_understood() -> None:
    """The step that is reported, the rank that is last, and the one that holds the others up."""
    ahead = worker_progress.Rank(0, step=31, forward_entered=31, reported_step=131, total_steps=1000, loss=float("nan"))
    last = worker_progress.Rank(5, step=30, forward_entered=31, forward_left=30, age=400.0, reported_step=130)
    facts = status.Facts(**{
        **dict.fromkeys(status.Facts._fields),
        "state": "training",
        "attempt": 2,
        "nproc_per_node": 4,
        "history": (),
        "nodes": {},
        "progress": summary.summarize([ahead, last], summary.Paces(), attempt=2, slowest_rank=5, now=100.0),
        "stragglers": (stragglers.Straggler(5, own=0.2, others=0.1, step=0.4),),
        "ranks": [status.Seen(0, 0.0, ahead), status.Seen(1, 1.0, last)],
    })  # fmt: skip
    found = progress.parse(status.to_json(facts))
    assert found is not None
    sentence = "attempt 2, step 130/1000 13%, slow rank 5 (25%), loss nan; rank 5 of 2 made its last one 400 s ago"
    assert sentence == found.sentence
