"""Stragglers: who is named, with which figures, and when nobody is."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import pytest

from k8sddp.worker.gang import progress, stragglers

Own = Callable[[int, int], float]  # of a rank in a step, seconds


def even(rank: int, step: int) -> float:
    return 0.010


def slow(*ranks: int, by: float = 0.050) -> Own:
    return lambda rank, step: 0.010 + (by if rank in ranks else 0.0)


class Gang:
    """Ranks in lockstep, as DDP makes them: a step takes the longest own time of all, and `rest` for backward."""

    def __init__(self, world: int, *, rest: float = 0.015, nproc_per_node: int = 2) -> None:
        self.watch = stragglers.Watch(nproc_per_node)
        self.lines: list[str] = []
        self.now = 0.0
        self._rest = rest
        self._step = 0
        self._time = 0.0
        self._own = [0.0] * world

    def train(self, steps: int, own: Own, *, look_every: int = 3) -> None:
        for _ in range(steps):
            times = [own(rank, self._step) for rank in range(len(self._own))]
            self._own = [so_far + one for so_far, one in zip(self._own, times, strict=True)]
            self._time += max(times) + self._rest
            self.now += max(times) + self._rest
            self._step += 1
            if self._step % look_every == 0:
                self.lines += self.watch.look(self.ranks, self.now)

    @property
    def ranks(self) -> Sequence[progress.Rank]:
        return [
            progress.Rank(rank, step=self._step + 1, step_time=self._time, own_time=own, own_steps=self._step)
            for rank, own in enumerate(self._own)
        ]


@pytest.mark.parametrize("world", [2, 4, 64])
def test_a_rank_that_is_slow_in_its_own_part_is_named_after_30_steps(world: int) -> None:
    """60 ms where the others take 10: it costs 50 of the 75 ms of a step."""
    gang = Gang(world)
    gang.train(30, slow(1))
    assert [] == gang.lines
    gang.train(6, slow(1))
    (found,) = gang.watch.found
    assert (1, 0.06, 0.01, 0.075) == (found.rank, *(round(one, 6) for one in (found.own, found.others, found.step)))
    text = "straggler: rank 1 (node 0) spends 60 ms a step on data, forward and saving, the others 10 ms: 67 % is lost"
    assert [text] == gang.lines


def test_ranks_that_are_alike_name_nobody() -> None:
    """Nor do ranks that differ by a fifth, or a slow one that costs less than a tenth of the step."""
    gang = Gang(4)
    gang.train(300, even)
    gang.train(300, slow(2, by=0.002))
    longer, alike = Gang(4, rest=1.0), Gang(4, rest=0.0)
    longer.train(300, slow(2))
    alike.train(300, slow(2, by=0.002))
    assert ([], [], []) == (gang.lines, longer.lines, alike.lines)


@pytest.mark.parametrize("seed", range(5))
def test_ranks_whose_steps_vary_at_random_name_nobody(seed: int) -> None:
    """Own times between a half and three halves of the mean, as on a busy machine."""
    chance = random.Random(seed)
    gang = Gang(8)
    gang.train(2000, lambda rank, step: 0.010 * chance.uniform(0.5, 1.5), look_every=20)
    assert [] == gang.lines


def test_a_save_now_and_then_names_nobody() -> None:
    """Rank 0 writes a checkpoint for ten seconds every hundred steps while the others wait."""
    gang = Gang(4)
    gang.train(600, lambda rank, step: 0.010 + (10.0 if rank == 0 and step % 100 == 50 else 0.0))
    assert [] == gang.lines


def test_a_slow_node_is_named_with_both_its_ranks() -> None:
    """Half of the gang is slow: each of the two is judged by the median of the others."""
    gang = Gang(4)
    gang.train(36, slow(2, 3))
    assert {2, 3} == {one.rank for one in gang.watch.found}


def test_it_is_said_once_that_there_is_none_any_more() -> None:
    """When four of the last five slices were quick; found again, it is told again, a minute later at the earliest."""
    gang = Gang(2)
    gang.train(36, slow(1))
    gang.train(3000, even)
    assert ["straggler: rank 1 (node 0)", "no straggler any more: rank 1"] == [
        line.partition(" spends")[0] for line in gang.lines
    ]
    gang.lines.clear()
    gang.train(3000, even)
    assert [] == gang.lines


def test_what_was_found_stands_until_four_of_five_slices_were_quick() -> None:
    """So that a rank that is slow now and then does not come and go."""
    gang = Gang(2)
    gang.train(33, slow(1))
    found = []
    for _ in range(4):
        gang.train(6, even)
        found.append(len(gang.watch.found))
    assert [1, 1, 1, 0] == found


def test_a_rank_that_nobody_counts_does_not_keep_the_others_from_being_judged() -> None:
    """Its page could not be had."""
    gang = Gang(2)
    for _ in range(6):
        gang.train(6, slow(1), look_every=1000)
        gang.lines += gang.watch.look([*gang.ranks, progress.Rank(2)], gang.now)
    assert [1] == [one.rank for one in gang.watch.found]


def test_what_does_not_change_is_told_again_after_ten_minutes() -> None:
    """And what changes after a minute."""
    gang = Gang(4)
    gang.train(36, slow(1))
    gang.train(int(590 / 0.075), slow(1))
    assert 1 == len(gang.lines)
    gang.train(int(20 / 0.075), slow(1))
    assert 2 == len(gang.lines)
    gang.train(int(50 / 0.075), slow(2))
    assert 2 == len(gang.lines)
    gang.train(int(20 / 0.075), slow(2))
    assert "straggler: rank 2 (node 1)" == gang.lines[2].partition(" spends")[0]


def test_a_rank_that_comes_and_goes_is_told_at_most_once_a_minute() -> None:
    """It is slow for two seconds out of four."""
    gang = Gang(2)
    gang.train(5000, lambda rank, step: slow(1)(rank, step) if step // 50 % 2 else even(rank, step))
    assert 1 + gang.now / stragglers.PAUSE > len(gang.lines)


def test_many_stragglers_are_counted() -> None:
    """Three are named."""
    gang = Gang(16)
    gang.train(36, slow(*range(10, 15)))
    assert 4 == len(gang.lines)
    assert "and 2 more stragglers" == gang.lines[3]


def test_a_rank_that_begins_anew_is_not_judged_by_what_was_before() -> None:
    """A process that takes the rank over counts from zero; so does the watch."""
    gang = Gang(2)
    gang.train(24, slow(1))
    gang._own, gang._step, gang._time = [0.0, 0.0], 0, 0.0
    gang.train(30, slow(1))
    assert [] == gang.lines
    gang.train(6, slow(1))
    assert 1 == len(gang.lines)


def test_one_rank_alone_is_no_straggler() -> None:
    """Nor is one whose own time nobody has counted."""
    gang = Gang(1)
    gang.train(60, even)
    assert ([], None) == (gang.lines, gang.watch.last)
    gang.watch.look([*gang.ranks, progress.Rank(1)], gang.now)
    assert gang.watch.last is None


def test_the_median_is_that_of_the_others() -> None:
    """Of an even and an odd number of values, each left out in turn."""
    assert [3.0, 2.5] == [stragglers.median(values) for values in ((1.0, 3.0, 9.0), (1.0, 2.0, 3.0, 9.0))]
    assert [6.0, 5.0, 2.0] == [stragglers.median((1.0, 3.0, 9.0), without=place) for place in range(3)]
    assert [3.0, 3.0, 2.0, 2.0] == [stragglers.median((1.0, 2.0, 3.0, 9.0), without=place) for place in range(4)]
