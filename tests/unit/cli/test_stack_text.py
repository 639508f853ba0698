"""Stacks of many ranks on one screen: each once, and what differs first."""

from __future__ import annotations

import pytest

from k8sddp.cli import stack_text
from k8sddp.worker.contract.stacks import Frame, RankStack

TRAIN = Frame("/k8sddp/work/train.py", 62, "main")
LOAD = Frame("/k8sddp/work/train.py", 12, "load")
ENGINE = Frame("/site-packages/torch/autograd/graph.py", 800, "_engine_run_backward")


def waiting(rank: int, step: int = 12) -> RankStack:
    """Return a rank that waits for the others."""
    return RankStack(rank, 100 + rank, "S", frames=(ENGINE, TRAIN), waits=True, phase="forward", step=step)


def test_the_odd_one_out_comes_first_and_all_others_once() -> None:
    """Of sixteen ranks fourteen wait, one loads data, and one is stopped."""
    stopped = RankStack(5, 105, "T", "is stopped", phase="between", step=11)
    loading = RankStack(1, 101, "R", frames=(LOAD, TRAIN), phase="between", step=11)
    others = [waiting(rank) for rank in (0, *range(2, 5), *range(6, 15))] + [waiting(15, step=13)]
    shown = stack_text.text(
        [*others, loading, stopped], source=lambda frame: {12: "  x = next(it)"}.get(frame.line, "")
    )
    assert shown == (
        "rank 5 (pid 105, stopped, between, step 11)\n"
        "  is stopped\n"
        "\n"
        "rank 1 (pid 101, running, between, step 11)\n"
        "  /k8sddp/work/train.py:62 in main\n"
        "  /k8sddp/work/train.py:12 in load\n"
        "      x = next(it)\n"
        "\n"
        "ranks 0, 2-4, 6-15 (sleeping, forward, steps 12-13, in a collective or backward)\n"
        "  /k8sddp/work/train.py:62 in main\n"
        "  /site-packages/torch/autograd/graph.py:800 in _engine_run_backward"
    )


def test_ranks_in_different_states_at_one_place_are_one_paragraph() -> None:
    """Running or sleeping is a matter of the moment; why a rank does not answer is not."""
    same = [waiting(0), waiting(1)._replace(state="R", phase="between")]
    silent = [RankStack(2, 2, "S", "no answer"), RankStack(3, 3, "D", "no answer"), RankStack(4, 4, "D", "no answer")]
    found = stack_text.groups([*same, *silent])
    assert [(2,), (3, 4), (0, 1)] == [tuple(one.rank for one in group) for group in found]
    assert "ranks 0-1 (running or sleeping, between or forward, step 12, in a collective" in stack_text.text(same)


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        pytest.param([3], "rank 3", id="one"),
        pytest.param([1, 0], "ranks 0-1", id="two"),
        pytest.param([0, 2, 3, 4, 9], "ranks 0, 2-4, 9", id="gaps"),
    ],
)
def test_ranks_are_told_in_spans(numbers: list[int], expected: str) -> None:
    """A thousand of them fit on a line."""
    assert expected == stack_text.ranks(numbers)
