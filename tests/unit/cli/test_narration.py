"""What is said while a job goes on: waits that last, silence, and nothing twice."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from typing import Any

import pytest

from k8sddp import plan
from k8sddp.cli import live_line, narration
from k8sddp.plan import progress
from tests.unit.plan.observed import make_job, make_pod

NOW = datetime(2026, 11, 24, 0, 5, tzinfo=timezone.utc)
RUNNING = (make_pod(0), make_pod(1))
STARTING = (make_pod(0, ready=False), make_pod(1, ready=False))
PENDING = (make_pod(0, phase="Pending", ready=False, container={"waiting": {"reason": "ErrImagePull"}}),)
TOLD = progress.Progress("training", attempt=0, ranks=(progress.Rank(0, 0, age=12.0, phase="starting"),))
LATER = progress.Progress("training", attempt=0, ranks=(progress.Rank(0, 5, 0.5),))
LINE = 70  # characters of the live line


class Story:
    """A job that is watched: a narrator, its clock, and all that it said, each with the second in which it did."""

    def __init__(self, *, live: bool = False, pulse: bool = False) -> None:
        self.now = 0.0
        fits = (lambda sentence: len(sentence) < LINE) if live else None
        self.narrator = narration.Narrator(now=0.0, fits=fits, pulse=pulse)
        self.said: list[tuple[float, str]] = []
        self.asked: list[float] = []
        self.answer: progress.Progress | None = None
        self.pods: Any = ()

    def look(self, pods: Any, **job: Any) -> None:
        """See the job with these pods."""
        self.pods = pods
        self.narrator.look(plan.status(make_job(**job), pods, (), now=NOW), now=self.now)

    def shown(self, *, by_rank: bool = True) -> None:
        """See a line of the log."""
        self.narrator.shown(now=self.now, by_rank=by_rank)

    def until(self, end: float) -> list[tuple[float, str]]:
        """Let time pass, as the follower does; return what was said meanwhile."""
        before = len(self.said)
        while (due := self.narrator.due()) <= end:
            self.now = max(self.now, due)
            self._tell()
            if self.narrator.asks(now=self.now):
                self.asked.append(self.now)
                told = plan.status(make_job(), self.pods, (), now=NOW, progress=self.answer)
                self.narrator.look(told, now=self.now, told=True)
                self._tell()
        self.now = end
        return self.said[before:]

    def _tell(self) -> None:
        self.said += [(self.now, one) for one in self.narrator.speak(now=self.now)]


def test_the_usual_way_of_a_start_is_not_narrated() -> None:
    """Made, scheduled, started, joined within five seconds each: nobody wants to know."""
    story = Story()
    for pods in ((), (make_pod(0, phase="Pending", ready=False, kube_node=""),), STARTING, RUNNING):
        story.look(pods)
        assert [] == story.until(story.now + 4.0)


def test_a_wait_that_lasts_is_told_with_its_time_and_again_after_growing_pauses() -> None:
    """From the first minute on less and less often, at most every ten minutes."""
    story = Story()
    story.look(PENDING)
    said = story.until(7200.0)
    assert [1.0, 31.0, 91.0, 211.0, 451.0, 931.0, 1531.0, 2131.0] == [when for when, _ in said][:8]
    told = r"waiting \S+: node 0 \(pod digits-0-abcde\): image img cannot be pulled: no further reason is given .*"
    assert all(re.fullmatch(told, sentence) for _, sentence in said)


def test_another_reason_is_told_anew() -> None:
    """Each with its own patience."""
    story = Story()
    story.look(PENDING)
    assert 1 == len(story.until(10.0))
    story.look(STARTING)
    ((when, sentence),) = story.until(20.0)
    assert (15.0, True) == (when, "running but not ready" in sentence)


def test_a_line_of_the_log_puts_off_what_the_watch_has_not_heard_of() -> None:
    """`attempt 0 starts` comes before the kubelets have seen that the nodes are ready."""
    story = Story()
    story.look(STARTING)
    story.until(4.0)
    story.shown(by_rank=False)
    assert [] == story.until(8.0)
    story.look(RUNNING)
    assert [] == story.until(12.0)


def test_silence_before_the_first_line_is_explained_by_what_node_0_tells() -> None:
    """Soon, and then less often: importing torch takes a minute."""
    story = Story()
    story.answer = TOLD
    story.look(RUNNING)
    sentence = "attempt 0, rank 0 started 12 s ago and has not reached init_process_group yet"
    assert [(10.0, f"no output for 10s: {sentence}"), (20.0, f"no output for 20s: {sentence}"),
            (40.0, f"no output for 40s: {sentence}")] == story.until(60.0)  # fmt: skip


def test_a_script_that_prints_is_not_interrupted_by_its_own_rhythm() -> None:
    """One that prints every 50 s may be silent for 150 s; then it is told how far it is."""
    story = Story()
    story.answer = LATER
    story.look(RUNNING)
    for _ in range(4):
        story.shown()
        assert [] == story.until(story.now + 50.0)
    story.shown()
    start = story.now
    (said, *_) = story.until(start + 200.0)
    assert (start + 150.0, "no output for 2m30s: attempt 0, step 5, 2 steps/s") == said


def test_a_new_attempt_begins_a_new_silence() -> None:
    """After the worker's remark its ranks have printed nothing yet."""
    story = Story()
    story.answer = LATER
    story.look(RUNNING)
    story.shown()
    story.until(40.0)
    story.shown(by_rank=False)
    assert [50.0] == [when for when, _ in story.until(51.0)]


def test_silence_is_not_explained_where_node_0_does_not_answer() -> None:
    """It is asked less and less often, and nothing is made up."""
    story = Story()
    story.look(RUNNING)
    assert [] == story.until(600.0)
    assert len(story.asked) < 30


@pytest.mark.parametrize("kind", ["Complete", "Failed"])
def test_nothing_is_said_or_asked_after_the_end(kind: str) -> None:
    """A wait that was about to be told is over."""
    story = Story()
    story.answer = LATER
    story.look(STARTING)
    story.until(2.0)
    story.look(STARTING, conditions={kind: ""})
    assert [] == story.until(3600.0)
    assert [] == story.asked


def at_step(step: int, *, attempt: int = 0) -> progress.Progress:
    """Return what node 0 tells of a gang at that step."""
    return progress.Progress("training", attempt=attempt, ranks=(progress.Rank(0, step, 0.5),))


def test_a_log_that_is_read_later_gets_figures_now_and_then() -> None:
    """After a minute of steps, then ever less often, however much the ranks print: fifteen lines in two hours."""
    pulse = narration.Pulse()
    said = [now for now in range(0, 7200, 10) if pulse.take(at_step(now + 1), now=float(now))]
    assert [60, 120, 240, 480, 960, 1560, 2160] == said[:7]
    assert 15 == len(said)


def test_a_chatty_log_gets_them_too() -> None:
    """Node 0 is asked each minute, though nothing has to be explained."""
    story = Story(pulse=True)
    story.look(RUNNING)
    for second in range(0, 150, 3):
        story.answer = at_step(second * 2)
        story.shown()
        story.until(float(second))
    ((when, sentence),) = story.said
    assert 60.0 <= when <= 130.0
    assert re.fullmatch(r"progress: attempt 0, step \d+, 2 steps/s", sentence)


def test_figures_that_stand_still_are_told_as_such() -> None:
    """Nobody has to compare two lines to see that a gang makes no steps."""
    story = Story(pulse=True)
    story.look(RUNNING)
    story.answer = at_step(7)
    for second in range(0, 700, 10):
        story.shown()
        story.until(float(second))
    told = "progress: attempt 0, step 7, 2 steps/s"
    assert [told, *[f"{told}, as before"] * 3] == [sentence for _, sentence in story.said]


def test_another_attempt_begins_another_minute() -> None:
    """Its steps begin anew, and its first figures are as wanted as the first attempt's."""
    pulse = narration.Pulse()
    said = [(now, pulse.take(at_step(now + 1), now=float(now))) for now in range(0, 600, 10)]
    assert [60, 120, 240, 480] == [now for now, sentence in said if sentence]
    said = [(now, pulse.take(at_step(now, attempt=1), now=float(now))) for now in range(600, 800, 10)]
    assert [660, 720] == [now for now, sentence in said if sentence]


def test_what_explains_a_silence_is_a_figure_too() -> None:
    """The same is not said twice within a minute for two reasons."""
    story = Story(pulse=True)
    story.answer = LATER
    story.look(RUNNING)
    told = story.until(600.0)
    assert {"no output for"} == {sentence[:13] for _, sentence in told}


def test_the_live_line_says_what_is_awaited_and_the_log_only_what_is_wrong() -> None:
    """A start needs no line; a sentence that the live line has to cut, or that is no usual wait, is printed once."""
    story = Story(live=True)
    story.look((make_pod(0, phase="Pending", ready=False, kube_node=""),))
    assert [] == story.until(60.0)
    row = story.narrator.row(now=story.now)
    assert row is not None
    assert re.fullmatch(r"waiting \S+: node 0 \(pod digits-0-abcde\): waiting for the scheduler", row.head)
    story.look(STARTING)
    (cut,) = story.until(120.0)
    assert cut[1].endswith("running but not ready: waiting for the other nodes, or starting its ranks")
    story.look(PENDING)
    (wrong,) = story.until(200.0)
    assert "image img cannot be pulled" in wrong[1]


def test_the_live_line_shows_figures_as_they_come_and_explains_no_silence() -> None:
    """Node 0 is asked every two seconds, whatever the ranks print."""
    story = Story(live=True)
    story.answer = LATER
    story.look(RUNNING)
    assert live_line.Row("running, 2 of 2 nodes ready", figures=("0s",), is_waiting=True) == story.narrator.row(
        now=story.now
    )
    for second in range(1, 121):
        story.shown()
        assert [] == story.until(float(second))
    assert 59 <= len(story.asked) <= 60
    assert live_line.Row("attempt 0  step 5", None, ("2 steps/s",)) == story.narrator.row(now=story.now)
    story.look(RUNNING, conditions={"Complete": ""})
    assert story.narrator.row(now=story.now) is None
