"""The ranks of the gang at node 0: what its members have told, as of when, and nothing else."""

from __future__ import annotations

import pytest

from k8sddp.worker.gang import progress, standings

ONE = progress.Rank(2, step=5, age=0.25, waiting=1.5, forward_entered=6, forward_left=5)


def make_standings(nnodes: int = 2, nproc_per_node: int = 2) -> standings.Standings:
    return standings.Standings(nnodes, nproc_per_node)


def row(rank: progress.Rank = ONE, still: float = 1.0) -> list[object]:
    return progress.encode(rank, still=still)


def test_a_row_holds_until_its_member_speaks_again() -> None:
    """A message without rows says that nothing has changed: ages grow to that moment, and not beyond it."""
    table = make_standings()
    table.take(1, [row()], 10.0)
    assert standings.Standing(1, 10.0, 1.0, ONE) == table.of(2)
    table.take(1, [], 12.0)
    assert standings.Standing(1, 12.0, 3.0, ONE._replace(age=2.25, waiting=3.5)) == table.of(2)
    table.take(1, [row(ONE._replace(step=6, waiting=None), still=0.0)], 13.0)
    assert standings.Standing(1, 13.0, 0.0, ONE._replace(step=6, waiting=None)) == table.of(2)
    assert [2] == [standing.rank.rank for standing in table]
    assert table.of(3) is None


def test_a_member_is_fresh_for_three_intervals() -> None:
    """Of a large gang the intervals are longer."""
    for nnodes, limit in ((2, 3.0), (4096, 48.0)):
        table = make_standings(nnodes)
        table.take(1, [row()], 10.0)
        standing = table.of(2)
        assert standing is not None
        assert (True, False) == tuple(table.fresh(standing, 10.0 + limit + late) for late in (0.0, 0.1))


@pytest.mark.parametrize("rank", [0, 1, 4, 10**6])
def test_a_member_tells_of_its_own_ranks_only(rank: int) -> None:
    """Node 1 has the ranks 2 and 3 of the four."""
    table = make_standings()
    table.take(1, [row(ONE._replace(rank=rank)), "nonsense", row()], 10.0)
    assert [2] == [standing.rank.rank for standing in table]


def test_no_rank_beyond_the_gang_is_believed() -> None:
    """Where a node's number is one too many, so are its ranks."""
    table = make_standings()
    table.take(2, [row(ONE._replace(rank=4))], 10.0)
    assert [] == list(table)


def test_another_attempt_begins_without_the_last_ones_rows() -> None:
    """Nothing of an attempt is taken for another's."""
    table = make_standings()
    table.take(1, [row()], 10.0)
    table.begin()
    assert [] == list(table)
