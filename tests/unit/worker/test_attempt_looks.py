"""A look at the ranks of a running attempt, however they were started."""

from __future__ import annotations

from pathlib import Path

import pytest

from k8sddp.worker.contract.stacks import RankStack
from k8sddp.worker.ranks import attempt, stacks
from tests.unit.worker.attempts import Node, apart

TRAIN = """
import ctypes, os, signal
def load():
    if os.environ["RANK"] == "1":
        print("up", "1", flush=True)
        os.kill(os.getpid(), signal.SIGSTOP)
    sleep = ctypes.PyDLL(None).sleep  # which keeps the GIL
    print("up", os.environ["RANK"], flush=True)
    while True:
        sleep(100)
load()
"""


def look(node: Node, ranks: attempt.NodeAttempt) -> tuple[RankStack, ...]:
    """Return what is seen."""
    seen: list[tuple[RankStack, ...]] = []
    ranks.look(seen.append)
    node.run_until(lambda: bool(seen))
    return seen[0]


@pytest.mark.parametrize("launcher", ["torchrun", "direct"])
@apart
def test_the_ranks_of_an_attempt_are_seen(tmp_path: Path, launcher: str) -> None:
    """The one that is stopped is named, the other says where it is, in the script and at which step."""
    stacks.ignore_signals()
    node = Node(tmp_path, TRAIN, launcher=launcher, nproc_per_node="2")
    ranks = node.start()
    node.run_until(lambda: node.says("up 0")() and node.says("up 1")())
    node.run_until(lambda: "T" == look(node, ranks)[1].state)
    first, second = look(node, ranks)
    assert ("", "load", "starting", 0) == (first.problem, first.frames[0].function, first.phase, first.step)
    assert str(tmp_path / "train.py") == (first.user_frame or first.frames[0]).file
    assert (1, "is stopped", ()) == (second.rank, second.problem, second.frames)
    node.end(ranks)


@apart
def test_a_look_at_an_attempt_that_ends_is_answered_too(tmp_path: Path) -> None:
    """Whoever waits for it is not left alone, and nothing is left behind."""
    stacks.ignore_signals()
    node = Node(tmp_path, TRAIN, launcher="direct", nproc_per_node="2")
    ranks = node.start()
    node.run_until(lambda: node.says("up 0")() and node.says("up 1")())
    seen: list[tuple[RankStack, ...]] = []
    ranks.look(seen.append)
    node.end(ranks)
    node.run_until(lambda: bool(seen))
    assert [0, 1] == [one.rank for one in seen[0]]
    assert ["has ended"] * 2 == [one.problem for one in look(node, ranks)]


@apart
def test_ranks_that_have_not_started_are_told(tmp_path: Path) -> None:
    """The launcher runs, and none of its ranks has said a word."""
    node = Node(tmp_path, "import time\nprint('up', flush=True)\ntime.sleep(100)\n", launcher="spawn")
    ranks = node.start()
    node.run_until(node.says("up"))
    assert ["has not started yet"] == [one.problem for one in look(node, ranks)]
    node.end(ranks)
