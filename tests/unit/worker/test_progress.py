"""What a member tells of its ranks: rows that say what the value says, as few as possible, and never more than that."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k8sddp.worker.gang import messages, progress, wire

COUNT = st.integers(0, 10**12)
SECONDS = st.integers(0, 10**9).map(lambda milliseconds: milliseconds / 1e3)
LOSS = st.none() | st.sampled_from((0.0, -1.5, 1e-7, 2.345678e8, math.inf, -math.inf, math.nan))
RANKS = st.builds(
    progress.Rank,
    rank=st.integers(0, 10**6),
    pid=st.none(),
    step=st.none() | COUNT,
    forward_entered=COUNT,
    forward_left=COUNT,
    age=st.none() | SECONDS,
    step_time=st.none() | SECONDS,
    group=st.integers(0, 2),
    backward_entered=COUNT,
    backward_left=COUNT,
    collective=st.sampled_from(("", "all_reduce", "x" * 64)),
    collectives=COUNT,
    waiting=st.none() | SECONDS,
    batches_asked=COUNT,
    batches_got=COUNT,
    own_time=SECONDS,
    own_steps=COUNT,
    reported_step=st.none() | COUNT,
    total_steps=st.none() | COUNT,
    loss=LOSS,
    metrics=st.just(()),
)
ONE = progress.Rank(3, step=7, age=0.5, step_time=2.0, loss=0.25, collective="barrier", waiting=1.5)


def make_row(**changes: object) -> list[object]:
    return progress.encode(ONE._replace(**changes), still=2.0)


@given(RANKS, SECONDS)
def test_a_row_says_what_the_rank_says(rank: progress.Rank, still: float) -> None:
    """Over JSON and back, to the millisecond, nan and the infinities of a loss included."""
    told = progress.decode(json.loads(json.dumps(progress.encode(rank, still=still), allow_nan=False)))
    assert told is not None
    assert told.rank.loss == rank.loss or (told.rank.loss, rank.loss) == pytest.approx((math.nan,) * 2, nan_ok=True)
    for name in ("age", "step_time", "own_time", "waiting"):
        assert getattr(told.rank, name) == pytest.approx(getattr(rank, name), abs=0.6e-3)
    assert told.still == pytest.approx(still, abs=0.6e-3)
    same = dict.fromkeys(("age", "step_time", "own_time", "waiting", "loss"))
    assert rank._replace(**same) == told.rank._replace(**same)


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=70)
WIDTH = len(make_row())


@given(SCALARS | st.lists(SCALARS, min_size=WIDTH - 1, max_size=WIDTH + 1))
def test_what_is_no_row_is_none(row: Any) -> None:
    """Whatever another program sends never raises, and is believed only where it has a row's form."""
    if progress.decode(row) is not None:
        assert WIDTH == len(row)
        assert all(type(one) is int and -1 <= one <= progress.LARGEST for one in row[:-2])


@pytest.mark.parametrize(
    ("place", "value"),
    [(0, True), (0, 1.0), (0, None), (0, -2), (2, 2**53 + 1), (-2, "x" * 65), (-2, "\n"), (-2, "é"), (-2, 1)],
)
def test_a_row_with_one_wrong_field_is_none(place: int, value: object) -> None:
    """Numbers are whole and bounded; a name is short and prints."""
    row: list[object] = make_row()
    row[place] = value
    assert progress.decode(row) is None


@pytest.mark.parametrize("loss", [True, "NaN", "1", [], 10**400])
def test_a_loss_that_is_none_is_not_believed(loss: object) -> None:
    """The rest of the row is."""
    row: list[object] = make_row()
    row[-1] = loss
    told = progress.decode(row)
    assert told is not None
    assert (None, 7) == (told.rank.loss, told.rank.step)


def test_a_step_that_no_reader_could_hold_is_cut() -> None:
    """A script may report any number."""
    told = progress.decode(make_row(reported_step=10**30, total_steps=-5))
    assert told is not None
    assert (progress.LARGEST, None) == (told.rank.reported_step, told.rank.total_steps)


def steps(rows: list[list[object]]) -> list[Any]:
    return [told.rank.step for told in map(progress.decode, rows) if told]


def test_only_what_has_changed_is_told_again() -> None:
    """Ages grow without a change; a rank that goes on is told, one that does not is not."""
    teller = progress.Teller()
    ranks = [progress.Rank(rank, step=5, age=0.1, waiting=0.2) for rank in range(3)]
    assert [5, 5, 5] == steps(teller.rows(ranks, 10.0))
    assert [] == teller.rows([one._replace(age=1.1, waiting=1.2, metrics=(("lr", 0.1),)) for one in ranks], 11.0)
    assert [6] == steps(teller.rows([ranks[0], ranks[1]._replace(step=6), ranks[2]], 12.0))
    changed = [ranks[0]._replace(waiting=None), ranks[1]._replace(step=6, collective="barrier"), ranks[2]]
    assert [5, 6] == steps(teller.rows(changed, 13.0))


def test_everything_is_told_from_time_to_time() -> None:
    """The first time and every tenth, with the time since anything has changed."""
    teller = progress.Teller()
    sent = [teller.rows([ONE], float(now)) for now in range(21)]
    assert [0, 10, 20] == [number for number, rows in enumerate(sent) if rows]
    told = progress.decode(sent[20][0])
    assert told is not None
    assert 20.0 == told.still


def test_the_longest_message_fits_a_frame() -> None:
    """As many rows as a message may have, each as long as it can be."""
    huge = {name: progress.LARGEST for name in progress.Rank._fields if name not in ("collective", "loss")}
    rank = progress.Rank(**{**huge, "collective": "x" * 100, "loss": -1.2345678e-300})
    row = progress.encode(rank, still=1e300)
    assert progress.decode(row) is not None
    message = messages.encode(messages.Progress(999999, [row] * progress.MAX_ROWS))
    assert wire.MAX_FRAME > len(json.dumps(message, separators=(",", ":")))


def test_thousands_of_members_speak_less_often() -> None:
    """Node 0 hears 256 messages in a second at most."""
    assert [1.0, 1.0, 1.0, 16.0] == [progress.interval(nnodes) for nnodes in (1, 2, 256, 4096)]
