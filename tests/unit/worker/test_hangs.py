"""Hangs as node 0 finds them: what members tell in, questions, lines and a failure out."""

from __future__ import annotations

from collections.abc import Collection

import pytest

from k8sddp.worker import root_cause
from k8sddp.worker.gang import coordinator, effects, hangs, looks, messages, progress, retrying, roster
from tests.unit.worker import gangs

LIMIT = 40.0


class Gang:
    """Three nodes of two ranks; ranks 0-3 and 5 wait in backward since 1.0, rank 4 is between two steps."""

    def __init__(self, on_hang: str = "restart") -> None:
        plan = gangs.make_plan(4, retrying.Rules(on_hang=on_hang))._replace(hang_timeout=LIMIT)
        own = gangs.make_join(0, 3, nproc_per_node=2)
        self.members = roster.Roster(3)
        self.joins = {peer: gangs.make_join(peer, 3, nproc_per_node=2) for peer in range(3)}
        for peer, join in self.joins.items():
            self.members.add(peer, join)
        self.hangs = hangs.Hangs(plan, own, self.members)
        self.hangs.begin(0, 0.0)
        self.tell(1.5)
        self.where = "train.py:40 in load"
        self.stack = "b"
        self.waiting: Collection[int] = (0, 1, 2, 3, 5)
        self.shows = 0

    def tell(self, now: float, *, goes_on: bool = False) -> None:
        """Let every member tell of its ranks."""
        for node in range(3):
            rows = []
            for rank in (2 * node, 2 * node + 1):
                ahead = goes_on or rank != 4
                one = progress.Rank(
                    rank,
                    100 + rank,
                    step=6 if goes_on else 5,
                    forward_entered=5 + ahead,
                    forward_left=5 + ahead,
                    backward_entered=5 + ahead,
                    backward_left=5,
                    group=progress.JOINED,
                    age=now - 1.0,
                    step_time=1.0,
                    waiting=0.0 if goes_on else now - 1.0 if ahead else None,
                )
                rows.append(progress.encode(one, still=0.0 if goes_on else now - 1.0))
            self.hangs.heard(self.joins[node], messages.Progress(0, rows), now)

    def until(self, end: float) -> tuple[list[str], root_cause.Failure | None]:
        """Let the time pass; return the lines said, and the failure."""
        lines: list[str] = []
        while self.hangs.due is not None and self.hangs.due <= end:
            now = self.hangs.due
            todo = [self.hangs.tick(now)]
            while todo:
                outcome = todo.pop(0)
                if outcome.failure:
                    return lines, outcome.failure
                for effect in outcome.effects:
                    if isinstance(effect, effects.Note):
                        lines.append(effect.text)
                    elif isinstance(effect, effects.Send) and isinstance(effect.message, messages.Look):
                        self.shows += effect.message.show and effect.peer == 0
                        seen = self.see(effect.peer, effect.message)
                        todo.append(self.hangs.heard(self.joins[effect.peer], seen, now))
        return lines, None

    def see(self, node: int, look: messages.Look) -> messages.Seen:
        """Return what a member answers."""
        self.stack = "c" if self.stack == "b" and self.where == "moves" else "b"
        ranks = [
            looks.Seen(
                rank, "S", rank in self.waiting, "w" if rank != 4 else self.stack, 0, self.where, "time.sleep(1e9)"
            )
            for rank in (2 * node, 2 * node + 1)
        ]
        return messages.Seen(look.attempt, look.number, looks.to_rows(ranks))


def test_a_hang_is_a_failure_of_the_rank_with_its_pod_node_step_and_place() -> None:
    """And of the waiters as waiters; every member has been asked to show its stacks once."""
    gang = Gang()
    lines, failure = gang.until(LIMIT + 10)
    assert ([], 1) == (lines, gang.shows)
    assert failure is not None
    assert ("hang", 4, 2, "digits-2", "node-2", 5, root_cause.CAUSE) == (
        failure.kind, failure.rank, failure.node_rank, failure.pod, failure.kube_node, failure.last_step,
        failure.weight,
    )  # fmt: skip
    assert (
        "rank 4 (pod digits-2, node node-2) hangs: for 43 s it has been in train.py:40 in load (`time.sleep(1e9)`), "
        "step 5; the other 5 ranks wait in backward"
    ) == root_cause.sentence(failure)


def test_who_works_is_said_to_and_until_when_it_is_spared() -> None:
    """One line while it works, and one when nobody waits for it any more."""
    gang = Gang()
    gang.where = "moves"
    lines, failure = gang.until(LIMIT + 10)
    assert failure is None
    assert [
        "rank 4 (pod digits-2, node node-2) still works, and the others wait for it: for 43 s it has been in moves "
        "(`time.sleep(1e9)`), step 5; the other 5 ranks wait in backward; ended when they have waited for 80 s"
    ] == lines
    assert gang.hangs.told is not None
    gang.tell(LIMIT + 12, goes_on=True)
    assert (["nobody waits for rank 4 any more"], None) == gang.until(LIMIT + 20)
    assert gang.hangs.told is None


def test_a_hang_that_shall_only_be_reported_is_said() -> None:
    """The gang goes on waiting."""
    lines, failure = Gang("report").until(LIMIT + 10)
    assert failure is None
    assert 1 == len(lines)
    assert lines[0].endswith("backward; nothing is ended, because restart.onHang is report")


def all_wait(gang: Gang) -> None:
    """Let every rank tell that it is in a barrier, and look so."""
    for node in range(3):
        rows = [
            progress.encode(
                progress.Rank(rank, step=5, collective="barrier", group=2, waiting=30.0, collectives=3), still=30.0
            )
            for rank in (2 * node, 2 * node + 1)
        ]
        gang.hangs.heard(gang.joins[node], messages.Progress(0, rows), 31.0)
    gang.waiting = range(6)


def test_a_hang_of_all_accuses_no_node() -> None:
    """Rank 4 waits, too."""
    gang = Gang()
    all_wait(gang)
    failure = gang.until(LIMIT + 10)[1]
    assert failure is not None
    assert (None, "", 76) == (failure.rank, failure.pod, root_cause.exit_code(failure))
    assert "it cannot be told which rank hangs: all 6 ranks wait in barrier, the longest for 43 s" == (
        root_cause.sentence(failure)
    )


def test_all_that_wait_and_move_are_said_to() -> None:
    """Rank 4 has another stack in each look."""
    gang = Gang("report")
    all_wait(gang)
    gang.where = "moves"
    said = "the ranks wait for each other, and still move: all 6 ranks wait in barrier, the longest for 43 s"
    assert ([said], None) == gang.until(LIMIT + 10)


def test_nothing_is_due_before_an_attempt() -> None:
    """A gang that gathers has no ranks."""
    asked = gangs.make_plan()
    own = gangs.make_join(0)
    watch = hangs.Hangs(asked, own, roster.Roster(2))
    assert (None, None, hangs.NOTHING) == (watch.due, watch.told, watch.tick(1e6))
    watch.slept(5.0)
    assert hangs.NOTHING == watch.heard(own, messages.Seen(0, 1, []), 5.0)


def test_a_rank_that_nobody_has_told_of_is_waited_for() -> None:
    """It has not come to where the others wait: its Python has not even started."""
    row = hangs.row_of(3, None, began=7.0)
    assert ((), None, 7.0) == (row.order, row.since, row.changed)


def hang(gang: coordinator.Coordinator, now: float) -> list[effects.Effect]:
    """Let rank 1 of two hang, and the members answer all looks; return the effects of the last one."""
    for rank, inside in ((0, "barrier"), (1, "")):
        one = progress.Rank(rank, step=5, group=2, collective=inside, waiting=now - 1.0 if inside else None)
        gang.received(rank, messages.Progress(0, [progress.encode(one, still=now - 1.0)]), now)
    todo: list[effects.Effect] = []
    for _ in range(20):
        due = gang.deadline()
        assert due is not None
        todo = gang.tick(due)
        while gangs.sent(todo, messages.Look):
            for peer, look in gangs.sent(todo, messages.Look).items():
                assert isinstance(look, messages.Look)
                state = looks.Seen(peer, "T" if peer else "S", peer == 0, "" if peer else "w")
                todo = gang.received(peer, messages.Seen(0, look.number, looks.to_rows([state])), due)
        if any(isinstance(effect, effects.Send) for effect in todo):
            return todo
    raise AssertionError("nothing was decided")


@pytest.mark.parametrize(
    ("on_hang", "attempts", "code"),
    [("restart", 2, None), ("restart", 1, 76), ("fail", 4, 76)],
    ids=["an attempt is left", "the last attempt", "onHang: fail"],
)
def test_a_hang_ends_the_attempt_or_the_job(on_hang: str, attempts: int, code: int | None) -> None:
    """It counts; the last one, or one that shall, ends the job with 76."""
    plan = gangs.make_plan(attempts, retrying.Rules(on_hang=on_hang))._replace(hang_timeout=LIMIT)
    gang = coordinator.Coordinator(plan, gangs.make_join(0), now=0.0)
    for peer in range(2):
        gang.received(peer, gangs.make_join(peer), 0.0)
    todo = hang(gang, 1.0)
    sentence = "rank 1 (pod digits-1, node node-1) hangs: its process is stopped (SIGSTOP), for 43 s, step 5"
    if code is None:
        ended = gangs.sent(todo, messages.Ended)
        assert {0, 1} == ended.keys()
        (entry,) = gang.ledger.history
        assert (True, "hang", 1, 1) == tuple(entry[name] for name in ("counted", "class", "rank", "node_rank"))
        assert str(entry["message"]).startswith(sentence)
        assert gang.watch.due != gang.deadline()
        return
    ends = gangs.ends(todo)
    assert {0: code, 1: 79} == {peer: end.code for peer, end in ends.items()}
    cause = gangs.cause_of(ends[0])
    assert ("hang", 1, 5) == tuple(cause[name] for name in ("class", "rank", "last_step"))
    assert str(cause["message"]).startswith(sentence)
    assert (on_hang == "fail") == str(cause["message"]).endswith("; not tried again: restart.onHang is fail")


def test_a_failure_that_comes_while_a_hang_is_looked_into_is_the_cause() -> None:
    """The rank that was waited for has raised at last."""
    plan = gangs.make_plan(4)._replace(hang_timeout=LIMIT)
    gang = coordinator.Coordinator(plan, gangs.make_join(0), now=0.0)
    for peer in range(2):
        gang.received(peer, gangs.make_join(peer), 0.0)
    gang.received(1, gangs.failed(1), LIMIT)
    assert [] == gang.tick(LIMIT + 0.1)
    gang.tick(LIMIT + 1.0)
    assert ["exception"] == [entry["class"] for entry in gang.ledger.history]
