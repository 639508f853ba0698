"""What `run` and `logs -f` say about a job while it goes on, and when: the memory of what was said already.

A wait is told once it has lasted longer than it does in a job that is well, with the time since it began, and again
after growing pauses. A log that says nothing is explained by what node 0 tells; `run` has it tell its figures now and
then. Nothing is said twice for being true twice. Where a live line shows all that as it changes, only what is wrong, or
too long for the line, is said besides, once. No threads and no clock: the caller brings the time, the pictures of the
job and node 0's answers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from k8sddp.cli import jobs, live_line

if TYPE_CHECKING:
    from k8sddp import plan

# Seconds
AGAIN: Final = 30.0  # from a sentence about a wait to the next of the same, doubled each time
QUIET_START: Final = 10.0  # without a line of the ranks since their start, until it is said what they do
QUIET: Final = 60.0  # the same for ranks that have printed before
RHYTHM: Final = 3.0  # and at least so many times their longest pause so far
LONGEST: Final = 600.0  # between two sentences of a kind
PULSE: Final = 60.0  # of steps until it is said how far they are, and to the next time, doubled each time
LIVE: Final = 2.0  # from a question to the next where the answers are shown as they come
ASK: Final = 5.0  # from the last line, or a change, to the first question to node 0, doubled
LONGEST_ASK: Final = 60.0


class Pulse:
    """When a log without a live line gets one on how far the gang is: after a minute of steps, then ever less often."""

    def __init__(self) -> None:
        self._attempt: int | None = None
        self._step: int | None = None  # that was told
        self._due = math.inf
        self._pause = PULSE

    def take(self, told: plan.Progress, *, now: float) -> str:
        """Return the line that is due, mostly none."""
        if not told.trains or not told.pace.step:
            return ""
        if self._due == math.inf or told.attempt != self._attempt:
            self._attempt, self._step = told.attempt, None
            self._due, self._pause = now + PULSE, PULSE
        if now < self._due:
            return ""
        stands = told.pace.step == self._step
        self._step = told.pace.step
        self.said(now=now)
        return f"progress: {told.sentence}" + (", as before" if stands else "")

    def said(self, *, now: float) -> None:
        """Take note that it has just been said how far the gang is."""
        self._due = now + self._pause
        self._pause = min(LONGEST, self._pause * 2)


class Narrator:
    """What to say about one job: `look` and `shown` hear what happens, `speak` returns what is to be said.

    `fits` says whether a sentence fits the live line, where there is one; with `pulse` figures are told now and then.
    """

    def __init__(self, *, now: float, fits: Callable[[str], bool] | None = None, pulse: bool = False) -> None:
        self._fits = fits
        self._rows = live_line.Rows(now=now)
        self._pulse = Pulse() if pulse and fits is None else None
        self._pulse_due = now + PULSE if self._pulse else math.inf
        self._status: plan.JobStatus | None = None
        self._wait_due = math.inf
        self._wait_pause = AGAIN
        self._quiet_since = now
        self._quiet_due = math.inf
        self._quiet_pause = QUIET_START
        self._longest_gap = 0.0
        self._printed = False
        self._ask_due = math.inf
        self._ask_pause = ASK
        self._explain = False  # the silence, as soon as node 0 has answered
        self._ready: list[str] = []

    def look(self, status: plan.JobStatus, *, now: float, told: bool = False) -> None:
        """Take a new picture of the job; `told` where it is node 0's answer to a question."""
        before, self._status = self._status, status
        if before is None or before.waiting.sentence != status.waiting.sentence:
            self._wait_due = now + status.waiting.patience if status.waiting else math.inf
            self._wait_pause = AGAIN
        if told and self._explain and status.running:
            self._ready.append(f"no output for {_age(now - self._quiet_since)}: {status.running}")
            if self._pulse:
                self._pulse.said(now=now)
        elif told and self._pulse and status.progress:
            self._ready += filter(None, [self._pulse.take(status.progress, now=now)])
        self._explain = self._explain and not told
        if status.finished:
            self._ask_due = self._quiet_due = self._pulse_due = math.inf
        elif before is None or (before.state, before.waiting) != (status.state, status.waiting):
            self._ask_soon(now)
            if status.state != "Running":
                self._quiet_due = math.inf
            elif self._quiet_due == math.inf:
                self._begin_quiet(now)

    def shown(self, *, now: float, by_rank: bool) -> None:
        """Take note of a line that was shown: of a rank's output, or of the worker's own remarks."""
        if by_rank:
            self._longest_gap = max(self._longest_gap, now - self._quiet_since) if self._printed else 0.0
        self._printed = by_rank
        self._begin_quiet(now)
        self._ask_soon(now)
        if self._status is not None and self._status.waiting and self._wait_pause == AGAIN:
            self._wait_due = now + self._status.waiting.patience  # the log and the watch are two streams

    def due(self) -> float:
        """Return when to ask `speak` and `asks` again, infinity where only news matter."""
        return min(self._wait_due, self._quiet_due, self._ask_due, self._pulse_due)

    def asks(self, *, now: float) -> bool:
        """Return whether node 0 should be asked now; the next time is later."""
        if now >= self._quiet_due:
            self._explain = True
            self._quiet_due = now + self._quiet_pause
            self._quiet_pause = min(LONGEST, self._quiet_pause * 2)
        elif now < min(self._ask_due, self._pulse_due):
            return False
        if self._pulse:
            self._pulse_due = now + PULSE
        self._ask_due = now + self._ask_pause
        self._ask_pause = min(LONGEST_ASK, self._ask_pause * 2) if self._fits is None else LIVE
        return True

    def speak(self, *, now: float) -> tuple[str, ...]:
        """Return the sentences that are due."""
        said, self._ready = self._ready, []
        if self._status is not None and now >= self._wait_due:
            sentence = jobs.waiting(self._status)
            if self._fits is None or _is_wrong(self._status.waiting) or not self._fits(sentence):
                said.append(sentence)
            self._wait_due = now + self._wait_pause if self._fits is None else math.inf
            self._wait_pause = min(LONGEST, self._wait_pause * 2)
        return tuple(said)

    def row(self, *, now: float) -> live_line.Row | None:
        """Return what the live line says now, None for nothing."""
        status = self._status
        if status is None or status.finished:
            return None
        if status.waiting:
            return live_line.Row(jobs.waiting(status), is_waiting=True)
        if status.progress is not None:
            return self._rows.of_progress(status.progress, now=now)
        return self._rows.waiting(f"{status.state.lower()}, {status.ready} of {status.nnodes} nodes ready", now=now)

    def _begin_quiet(self, now: float) -> None:
        self._quiet_since, self._explain = now, False
        self._quiet_pause = max(QUIET, RHYTHM * self._longest_gap) if self._printed else QUIET_START
        running = self._status is not None and self._status.state == "Running"
        self._quiet_due = now + self._quiet_pause if running and self._fits is None else math.inf

    def _ask_soon(self, now: float) -> None:
        if self._status is not None and self._status.finished:
            return
        if self._fits is None:
            self._ask_pause = ASK
            self._ask_due = now + ASK
        else:
            self._ask_due = min(self._ask_due, now + LIVE)


def _is_wrong(waiting: plan.Waiting) -> bool:
    """Return whether this is no wait that a job which is well has too."""
    from k8sddp.plan import reasons

    return waiting.patience <= reasons.AT_ONCE


def _age(seconds: float) -> str:
    from k8sddp.plan import statuses

    return statuses.age(seconds)
