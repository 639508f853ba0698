"""What is said while a job goes on: waits that last, silence, and nothing twice."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from typing import Any

import pytest

from k8sddp import plan
from k8sddp.cli import narration
from k8sddp.plan import progress
from tests.unit.plan.observed import make_job, make_pod

NOW = datetime(2026, 11, 24, 0, 5, tzinfo=timezone.utc)
RUNNING = (make_pod(0), make_pod(1))
STARTING = (make_pod(0, ready=False), make_pod(1, ready=False))
PENDING = (make_pod(0, phase="Pending", ready=False, container={"waiting": {"reason": "ErrImagePull"}}),)
TOLD = progress.Progress("training", attempt=0, ranks=(progress.Rank(0, 0, age=12.0, phase="starting"),))
LATER = progress.Progress("training", attempt=0, ranks=(progress.Rank(0, 5, 0.5),))


class Story:
    """A job that is watched: a narrator, its clock, and all that it said, each with the second in which it did."""

    def __init__(self) -> None:
        self.now = 0.0
        self.narrator = narration.Narrator(now=0.0)
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
    assert (start + 150.0, "no output for 2m30s: attempt 0, rank 0 at step 5 (0.5 s a step)") == said


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
