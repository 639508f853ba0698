"""When the gang is looked at, and what follows: looks and time in, steps out."""

from __future__ import annotations

import pytest

from k8sddp.worker.gang import hanging, looks, suspicion

LIMIT = 40.0
STEP = (2, 5, 5, 5, 5, 0)


class Watched:
    """Two nodes of one rank; rank 0 waits in backward since `since`, rank 1 is in code of its own since then."""

    def __init__(self, *, limit: float = LIMIT, ends: bool = True) -> None:
        self.now = 0.0
        self.since: float | None = 0.0
        self.changed = 0.0
        self.stacks = ["b"]  # of rank 1, look after look
        self.watch = suspicion.Suspicion(limit, range(2), blocking=True, ends=ends, now=0.0)
        self.asked: list[tuple[float, bool]] = []

    def rows(self) -> list[hanging.Row]:
        """Return the counters as they are now."""
        inside = "backward" if self.since is not None else ""
        waiter = hanging.Row(0, (2, 6, 6, 5, 6, 0), inside, self.since, self.since or self.now, 5)
        return [waiter, hanging.Row(1, STEP, "", None, self.changed, 5)]

    def until(self, end: float, *, silent: bool = False) -> list[suspicion.Step]:
        """Let the time pass until `end`, node 1 `silent` or not; return what was found."""
        found: list[suspicion.Step] = []
        while self.watch.due <= end:
            self.now = self.watch.due
            todo = self.watch.tick(self.rows, self.now)
            while todo:
                step = todo.pop(0)
                if not isinstance(step, suspicion.Ask):
                    found.append(step)
                    continue
                self.asked.append((self.now, step.show))
                seen = [looks.Seen(0, "S", waits=True, stack="w"), looks.Seen(1, "S", stack=self._stack())]
                for node in (0,) if silent else (0, 1):
                    todo += self.watch.answered(node, step.number, seen[node : node + 1], self.rows, self.now)
        self.now = end
        return found

    def _stack(self) -> str:
        self.stacks.append(self.stacks.pop(0))
        return self.stacks[-1]


def test_a_hang_ends_the_attempt_when_its_stacks_have_been_shown() -> None:
    """Evidence at the limit, three looks, one more that shows; 3 s after the limit it is decided."""
    gang = Watched()
    (step,) = gang.until(LIMIT + 4)
    assert isinstance(step, suspicion.End)
    assert (1,) == step.finding.ranks
    assert [(40.0, False), (41.5, False), (43.0, False), (43.0, True)] == gang.asked


def test_nobody_is_asked_while_nobody_waits_long() -> None:
    """A gang that trains costs one look at the counters for each limit."""
    gang = Watched()
    ticks = 0
    for second in range(1, 1000):
        gang.since = gang.changed = float(second)
        ticks += gang.watch.due <= second
        assert [] == gang.until(float(second))
    assert [] == gang.asked
    assert ticks < 2 * 1000 / LIMIT


def test_no_rank_is_ended_while_a_member_is_silent() -> None:
    """Its pod may be lost, and its link tells so; when it answers again the looks begin anew."""
    gang = Watched()
    assert [] == gang.until(200.0, silent=True)
    gang.asked.clear()
    (step,) = gang.until(gang.watch.due + 10)
    assert isinstance(step, suspicion.End)
    assert 4 == len(gang.asked)


def test_what_goes_on_between_the_looks_is_no_hang() -> None:
    """The evidence must stand to the end: a pod that was paused, a rank that came late."""
    for moment in (1.0, 2.5):
        gang = Watched()
        assert [] == gang.until(LIMIT + moment)
        gang.since = gang.changed = gang.now
        assert [] == gang.until(LIMIT + 30)
        assert not any(show for _, show in gang.asked)


def test_who_works_is_told_and_ended_only_at_twice_the_limit() -> None:
    """Its stack moves from look to look."""
    gang = Watched()
    gang.stacks = ["a", "b", "c"]
    (told,) = gang.until(2 * LIMIT)
    assert isinstance(told, suspicion.Tell)
    assert told.finding.works
    assert gang.watch.told is not None
    assert told.finding.ranks == gang.watch.told.ranks
    (ended,) = gang.until(2 * LIMIT + 4)
    assert isinstance(ended, suspicion.End)
    assert (1,) == ended.finding.ranks


def test_who_worked_and_stops_moving_is_ended_at_the_next_look() -> None:
    """A quarter of the limit later."""
    gang = Watched()
    gang.stacks = ["a", "b", "c"]
    gang.until(LIMIT + 5)
    gang.stacks = ["a"]
    (ended,) = gang.until(LIMIT + 5 + 0.25 * LIMIT + 4)
    assert isinstance(ended, suspicion.End)


def test_who_worked_and_goes_on_is_told_so() -> None:
    """One line, and nothing is suspected any more."""
    gang = Watched()
    gang.stacks = ["a", "b", "c"]
    gang.until(LIMIT + 5)
    gang.since = gang.changed = gang.now
    (relaxed,) = gang.until(LIMIT + 20)
    assert isinstance(relaxed, suspicion.Relax)
    assert (1,) == relaxed.finding.ranks
    assert gang.watch.told is None


def test_a_batch_of_late_delays_the_end_no_longer_than_it_must() -> None:
    """Rank 1 got its last batch 6 s after the others began to wait, and stands still since: it is no news till then."""
    gang = Watched()
    gang.changed = 6.0
    assert [] == gang.until(LIMIT + 5)
    (ended,) = gang.until(LIMIT + 6 + 4)
    assert isinstance(ended, suspicion.End)


def test_what_shall_end_nothing_is_told_again_after_half_an_hour() -> None:
    """And shows its stacks each time; in between only the counters are asked."""
    gang = Watched(ends=False)
    steps = gang.until(3 * 1800.0)
    assert 3 == len(steps)
    assert all(isinstance(step, suspicion.Tell) and not step.finding.works for step in steps)
    assert 3 == sum(show for _, show in gang.asked)
    assert 3 * 4 == len(gang.asked)


def test_a_node_0_that_did_not_run_suspects_nobody_for_what_it_missed() -> None:
    """The others waited for it."""
    gang = Watched()
    gang.now = 39.0
    gang.watch.slept(100.0)
    assert [] == gang.until(139.0)
    assert [] == gang.asked
    gang.until(140.0)
    assert [(140.0, False)] == gang.asked


def test_a_late_or_a_second_answer_changes_nothing() -> None:
    """Only to the look that is asked, once for each node."""
    gang = Watched()
    (ask,) = gang.watch.tick(gang.rows, LIMIT)
    assert isinstance(ask, suspicion.Ask)
    for node, number in ((0, 7), (2, ask.number), (0, ask.number), (0, ask.number)):
        assert [] == gang.watch.answered(node, number, (), gang.rows, LIMIT)
    assert LIMIT + suspicion.PATIENCE == gang.watch.due


@pytest.mark.parametrize("blocking", [False, True], ids=["nccl", "gloo"])
def test_who_has_exited_is_no_evidence(blocking: bool) -> None:
    """Rank 1 has done its work, and its page stays as it was; rank 0 exports the model, and nobody waits."""
    left = hanging.Row(1, STEP, "", None, 0.0, 5)
    if blocking:  # it left in the middle of a call
        left = left._replace(inside="destroy_process_group", since=0.0)
    rows = [hanging.Row(0, (2, 6, 6, 5, 6, 0), "", None, 0.0, 5), left]
    watch = suspicion.Suspicion(LIMIT, [0], blocking=blocking, ends=True, now=0.0)
    seen = [looks.Seen(0, "S", stack="b"), looks.Seen(1, looks.GONE)]
    asked = 0
    while watch.due <= 3600.0:
        now = watch.due
        steps = watch.tick(lambda: rows, now)
        assert {suspicion.Ask} >= {type(step) for step in steps}
        for step in steps:
            assert isinstance(step, suspicion.Ask)
            asked += 1
            assert [] == watch.answered(0, step.number, seen, lambda: rows, now)
    assert 3 <= asked <= 3 * 3600.0 / 10.0
