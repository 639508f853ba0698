"""Who is called hung: the rule over counters and looks, kind by kind, and what it must never do."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k8sddp.worker.gang import hanging, looks

LIMIT, NOW = 600.0, 10_000.0
BEGAN = NOW - 605.0  # when the others began to wait

JOINED, JOINING = 2, 1
BEHIND = (JOINED, 5, 5, 5, 5, 0)  # between two steps
AHEAD = (JOINED, 6, 6, 5, 6, 0)  # inside the next backward
LINE = "train.py:40 in load"


def waiter(rank: int, inside: str = "backward", order: tuple[int, ...] = AHEAD) -> hanging.Row:
    """Return a rank that waits for the others."""
    return hanging.Row(rank, order, inside, BEGAN, BEGAN, 5)


def outside(rank: int, order: tuple[int, ...] = BEHIND, changed: float = BEGAN - 1.0) -> hanging.Row:
    """Return a rank that is in nothing that waits."""
    return hanging.Row(rank, order, "", None, changed, 5)


def three(**kinds: looks.Seen) -> list[dict[int, looks.Seen]]:
    """Return three equal looks; `r1` is rank 1."""
    return [{int(name[1:]): one for name, one in kinds.items()}] * 3


def waits(rank: int) -> looks.Seen:
    """Return how a rank looks that waits."""
    return looks.Seen(rank, "S", waits=True, stack="w", where="train.py:50 in step")


def busy(rank: int, state: str = "S", stack: str = "b") -> looks.Seen:
    """Return how a rank looks that is in code of its own."""
    return looks.Seen(rank, state, stack=stack, where=LINE, source="time.sleep(1e9)")


def judge(
    rows: list[hanging.Row], seen: list[dict[int, looks.Seen]], *, blocking: bool = True
) -> hanging.Finding | None:
    """Judge a gang that has waited for 605 s."""
    return hanging.judge(rows, seen, LIMIT, NOW, long=605.0, blocking=blocking)


def named(rows: list[hanging.Row], seen: list[dict[int, looks.Seen]], *, blocking: bool = True) -> hanging.Finding:
    """Judge a gang in which somebody holds up the others."""
    found = judge(rows, seen, blocking=blocking)
    assert found is not None
    return found


# The six kinds measured, ranks 0 and 2 wait in backward (reference: DESIGN 5.4), and what is said of rank 1
KINDS = [
    pytest.param(outside(1), busy(1, "R"), f"for 605 s it has been in {LINE} (`time.sleep(1e9)`), step 5", id="loop"),
    pytest.param(outside(1), busy(1), f"for 605 s it has been in {LINE} (`time.sleep(1e9)`), step 5", id="sleep"),
    pytest.param(
        outside(1), looks.Seen(1, "T"), "its process is stopped (SIGSTOP), for 605 s, step 5", id="SIGSTOP, no stack"
    ),
    pytest.param(
        outside(1),
        looks.Seen(1, "D", stack="d", where=LINE),
        f"its process is in an uninterruptible system call, for 605 s, in {LINE}, step 5",
        id="D",
    ),
    pytest.param(outside(1), looks.Seen(1), "its process is gone, for 605 s, step 5", id="gone"),
    pytest.param(
        waiter(1, "barrier", (JOINED, 5, 5, 5, 5, 1)),
        waits(1),
        "for 605 s it has been inside barrier, in train.py:50 in step, step 5, behind the others",
        id="mismatched collective",
    ),
    pytest.param(outside(1, (0, 0, 0, 0, 0, 0)), busy(1), f"for 605 s it has been in {LINE}", id="has not joined"),
    pytest.param(outside(1, ()), looks.Seen(1, "S"), "for 605 s it has been on its way to them", id="not counted"),
]


@pytest.mark.parametrize(("row", "seen", "said"), KINDS)
def test_each_kind_of_hang_is_named_with_its_place(row: hanging.Row, seen: looks.Seen, said: str) -> None:
    """Rank, what it does, since when and where; the others as waiters."""
    found = named([waiter(0), row, waiter(2)], three(r0=waits(0), r1=seen, r2=waits(2)))

    assert ((1,), False) == (found.ranks, found.works)
    assert found.detail.startswith(said)
    assert "; the other 2 ranks wait in backward" in found.detail


def test_ranks_that_call_different_collectives_are_told_so() -> None:
    """Both collectives are named."""
    row = waiter(1, "barrier", (JOINED, 5, 5, 5, 5, 1))
    found = named([waiter(0), row, waiter(2)], three(r0=waits(0), r1=waits(1), r2=waits(2)))
    assert found.detail.endswith("; the other 2 ranks wait in backward: they do not call the same collectives")


def test_who_does_not_wait_is_named_although_it_is_ahead() -> None:
    """Rank 0 alone evaluates with the DDP model, so its forward counts are ahead for good; two ranks, rank 1 waits."""
    rows = [outside(0, (JOINED, 95, 95, 5, 5, 0)), waiter(1, "barrier")]
    found = named(rows, three(r0=busy(0), r1=waits(1)))
    assert ((0,), f"for 605 s it has been in {LINE} (`time.sleep(1e9)`), step 5; the other rank waits in barrier") == (
        found.ranks,
        found.detail,
    )


def test_all_waiting_cannot_be_told_from_each_other() -> None:
    """A network that drops packets between two pods looks so; nobody is named."""
    found = named([waiter(rank) for rank in range(4)], three(**{f"r{rank}": waits(rank) for rank in range(4)}))
    assert ((), "all 4 ranks wait in backward, the longest for 605 s") == (found.ranks, found.detail)


def test_all_waiting_are_spared_while_one_moves() -> None:
    """A process group that is just being made on a slow machine."""
    rows = [waiter(rank, "init_process_group", (JOINING, 0, 0, 0, 0, 0)) for rank in range(2)]
    seen = [{0: waits(0), 1: waits(1)._replace(stack=str(look))} for look in range(3)]
    assert ((), True) == (named(rows, seen).ranks, named(rows, seen).works)


def test_a_count_of_collectives_alone_accuses_nobody() -> None:
    """Rank 0 has called more of them for good (it has sent something to a rank of its own choice)."""
    rows = [waiter(0, order=(*AHEAD[:-1], 7)), waiter(1), waiter(2, order=(*AHEAD[:-1], 7))]
    assert () == named(rows, three(r0=waits(0), r1=waits(1), r2=waits(2))).ranks


def test_several_ranks_at_the_same_place_are_named_together() -> None:
    """A whole node that waits for its storage."""
    rows = [waiter(0), waiter(1), outside(2), outside(3), outside(4)]
    seen = three(r0=waits(0), r1=waits(1), **{f"r{rank}": busy(rank) for rank in (2, 3, 4)})
    found = named(rows, seen)
    assert (2, 3, 4) == found.ranks
    assert f"{LINE} (`time.sleep(1e9)`), step 5; so do ranks 3, 4; the other 2 ranks wait in backward" in found.detail


def test_a_stopped_rank_goes_before_one_that_is_behind() -> None:
    """Nothing is surer."""
    rows = [waiter(0), outside(1), outside(2, AHEAD)]
    assert (2,) == named(rows, three(r0=waits(0), r1=busy(1), r2=looks.Seen(2, "T"))).ranks


def test_a_moment_in_the_kernel_is_no_hang() -> None:
    """Every process is in state D now and then; a debugger stops one for a moment."""
    for state in "DtT":
        seen = [{0: waits(0), 1: busy(1, state if look == 1 else "S")} for look in range(3)]
        assert f"in {LINE}" in named([waiter(0), outside(1)], seen).detail


@pytest.mark.parametrize(
    ("changes", "row"),
    [
        pytest.param([{"stack": "a"}, {"stack": "b"}, {"stack": "b"}], outside(1), id="its stack"),
        pytest.param([{"written": 0}, {"written": 0}, {"written": 10_000}], outside(1), id="a save"),
        pytest.param(
            [{"state": "D", "written": look * 5000} for look in range(3)], outside(1), id="a save to a slow disk"
        ),
        pytest.param([{}, {}, {}], outside(1, changed=NOW - 30.0), id="its batches"),
    ],
)
def test_who_still_works_is_spared(changes: list[Mapping[str, object]], row: hanging.Row) -> None:
    """It is found, and may be reported."""
    seen = [{0: waits(0), 1: busy(1)._replace(**change)} for change in changes]  # type: ignore[arg-type]
    found = named([waiter(0), row], seen)
    assert ((1,), True) == (found.ranks, found.works)
    assert (NOW - 30.0 + LIMIT if row.changed == NOW - 30.0 else None) == found.again


def test_who_cannot_be_looked_at_is_spared() -> None:
    """Under spawn a parent may load data for long before its ranks begin: nobody sees whether it stands still."""
    rows = [waiter(0, "init_process_group", (JOINING, 0, 0, 0, 0, 0)), hanging.Row(1, changed=BEGAN)]
    found = named(rows, three(r0=waits(0), r1=looks.Seen(1, looks.UNSEEN)))
    assert ((1,), True) == (found.ranks, found.works)


def test_a_few_lines_of_log_are_no_save() -> None:
    """`still waiting` every second is what a stuck rank may print."""
    seen = [{0: waits(0), 1: busy(1)._replace(written=100 * look)} for look in range(3)]
    assert not named([waiter(0), outside(1)], seen).works


def test_who_waits_in_another_collective_is_spared_only_if_it_moves() -> None:
    """It has left what its counters say between two looks; one that is stuck there does not move."""
    rows = [waiter(0), waiter(1, "barrier", BEHIND)]
    moves = [{0: waits(0), 1: waits(1)._replace(stack=str(look))} for look in range(3)]
    assert ((1,), True) == (named(rows, moves).ranks, named(rows, moves).works)
    assert not named(rows, three(r0=waits(0), r1=waits(1))).works


def test_a_backward_that_runs_code_of_the_users_is_no_wait() -> None:
    """Its counters say backward, its innermost frame is the user's: it is waited for; if all are so, nobody waits."""
    rows = [waiter(0), waiter(1), waiter(2)]
    assert (1,) == named(rows, three(r0=waits(0), r1=busy(1), r2=waits(2))).ranks
    assert judge(rows, three(r0=busy(0), r1=busy(1), r2=busy(2))) is None


def test_a_constructor_that_still_imports_is_no_wait() -> None:
    """DDP's meets the others at last, and may be kept by the disk before; Work.wait has no frame of its own."""
    rows = [waiter(rank, "DistributedDataParallel", BEHIND) for rank in range(2)]
    assert judge(rows, three(r0=busy(0, stack="a"), r1=busy(1))) is None
    rows = [waiter(rank, "Work.wait") for rank in range(2)]
    assert () == named(rows, three(r0=busy(0), r1=busy(1))).ranks


def test_under_nccl_who_waits_stands_anywhere() -> None:
    """Waiters sit in a synchronisation in the user's code: who is behind is named, and who is ahead is not accused."""
    ahead = outside(0, AHEAD, BEGAN)
    assert (1,) == named([ahead, outside(1)], three(r0=busy(0), r1=busy(1)), blocking=False).ranks
    desync = waiter(1, "barrier", BEHIND)
    assert (1,) == named([ahead, desync], three(r0=busy(0), r1=waits(1)), blocking=False).ranks


def evidence(rows: list[hanging.Row], *, blocking: bool = True, awake: float = 0.0) -> float | None:
    """Return what the counters say now."""
    return hanging.waited(rows, LIMIT, NOW, blocking=blocking, awake=awake)


def test_the_evidence_is_that_somebody_waits() -> None:
    """By its counters; a gang in which nobody does is never looked at, however still it is."""
    still = [outside(0, changed=0.0), outside(1, AHEAD, changed=0.0)]
    assert 605.0 == evidence([waiter(0), outside(1)])
    assert evidence(still) is None
    assert evidence([waiter(0)._replace(since=NOW - 599.0), outside(1)]) is None
    assert evidence([]) is None


def test_under_nccl_the_evidence_may_be_that_nobody_moves_while_one_is_behind() -> None:
    """All at the same place is no evidence, nor one that moves."""
    ahead, behind = outside(0, AHEAD, BEGAN), outside(1)
    assert 605.0 == evidence([ahead, behind], blocking=False)
    assert evidence([ahead, ahead._replace(rank=1)], blocking=False) is None
    assert evidence([ahead, behind._replace(changed=NOW)], blocking=False) is None
    evaluates = outside(2, AHEAD, NOW)  # for which the others, at different places for good, may wait
    assert evidence([ahead, behind, evaluates], blocking=False) is None


def test_a_sleep_of_node_0_is_nobodys_wait() -> None:
    """What it has not seen counts for nothing."""
    assert evidence([waiter(0), outside(1)], awake=NOW - 30.0) is None


GANGS = st.integers(2, 5).flatmap(
    lambda size: st.tuples(
        *(
            st.builds(
                lambda rank, order, inside, ago: hanging.Row(
                    rank, (JOINED, *order), inside, NOW - ago if inside else None, NOW - ago, 5
                ),
                st.just(rank),
                st.tuples(*[st.integers(5, 6)] * 5),
                st.sampled_from(["", "backward", "barrier"]),
                st.sampled_from([1.0, 604.0, 1300.0]),
            )
            for rank in range(size)
        )
    )
)


@given(GANGS, st.data())
def test_who_waits_is_never_said_to_be_somewhere_else(rows: tuple[hanging.Row, ...], data: st.DataObject) -> None:
    """Whoever is named does not wait, or is named as one behind in another collective; the order of rows is nothing."""
    waiting = {row.rank: bool(row.inside) for row in rows}
    seen = three(**{f"r{rank}": waits(rank) if one else busy(rank) for rank, one in waiting.items()})
    found = judge(list(rows), seen)
    assert found == judge(list(data.draw(st.permutations(rows))), seen)
    if found is None:
        assert not any(waiting.values())
    elif found.ranks and waiting[found.ranks[0]]:
        assert ", behind the others; " in found.detail
        assert all(waiting.values())
    else:
        assert not any(waiting[rank] for rank in found.ranks)
        assert bool(found.ranks) == (not all(waiting.values()))


def test_a_look_travels_in_rows_and_is_believed_only_of_a_members_own_ranks() -> None:
    """What is malformed, too long or about others is passed over."""
    seen = [busy(4, "R")._replace(written=7), waits(5), looks.Seen(6)]
    rows = looks.to_rows(seen)
    assert tuple(seen) == looks.from_rows(rows, range(4, 7))
    assert tuple(seen[1:]) == looks.from_rows(rows, range(5, 8))
    wrong = [None, [], [4], [4, "S", 0, "", 0, "", ""], [4, "S", False, "", 0, "x" * 161, ""], [4, "S\n", *rows[0][2:]]]
    assert () == looks.from_rows(wrong, range(4, 14))


def test_a_look_at_a_thousand_ranks_fits_into_a_message() -> None:
    """Those that do not wait keep their texts."""
    long = "x" * 400
    ranks = [looks.Seen(n, "S", n != 1000, "0123456789abcdef", 2**40, long, long) for n in range(1024)]
    rows = looks.to_rows(ranks)
    assert len(str(rows)) < 120 * 1024
    assert [long[:160], long[:80]] == rows[1000][-2:]
