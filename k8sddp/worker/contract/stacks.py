"""What a rank's main thread does at this moment: the value that workers, their routes and commands exchange.

Everything in it is a name, a number or a state: neither what a function was called with nor the text of the program is.
Frames stand with the innermost first, as they are found; text for people ends with it, as a traceback does. A record
that another version has written is read as far as it is understood.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Optional

# The state letter of /proc/PID/stat (proc_pid_stat(5)) of the main thread, None: there is no such process
STATES: Mapping[Optional[str], str] = {
    "R": "running",
    "S": "sleeping",
    "D": "in a system call that nothing interrupts",
    "I": "idle",
    "T": "stopped",
    "t": "stopped by a debugger",
    "Z": "ended",
    "X": "ended",
    None: "not there",
}
MAX_FRAMES = 100  # CPython's own limit of a dump, and ours for what comes from elsewhere


class Frame(NamedTuple):
    """One call; line 0 where that is not known."""

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        """Return `train.py:12 in step`, the file with its folders."""
        return "%s:%s in %s" % (self.file, self.line or "?", self.function)


class RankStack(NamedTuple):
    """One rank; `problem` says why there are no frames, and is empty where it has answered."""

    rank: int
    pid: Optional[int] = None
    state: Optional[str] = None  # a key of STATES
    problem: str = ""
    frames: tuple[Frame, ...] = ()  # of the main thread, the innermost first
    cut: bool = False  # the outermost frames are missing
    user_frame: Optional[Frame] = None  # the innermost one of the user's own code
    waits: bool = False  # its innermost frames are torch.distributed's or autograd's engine
    signature: str = ""  # equal for equal stacks
    phase: str = ""
    step: Optional[int] = None

    @property
    def heading(self) -> str:
        """Return `pid 4711, sleeping, forward, step 12`, without the rank."""
        parts = ["pid %d" % self.pid if self.pid else "", STATES.get(self.state, self.state or "")]
        return ", ".join([*filter(None, [*parts, self.phase]), *([] if self.step is None else ["step %d" % self.step])])


def lines(
    stack: RankStack, *, indent: str = "  ", source: Callable[[Frame], str] = lambda frame: ""
) -> tuple[str, ...]:
    """Return a stack for people, the most recent call last; `source` returns the text of a frame's line, if it may."""
    if stack.problem:
        return (indent + stack.problem,)
    found = [indent + "..."] if stack.cut else []
    for frame in reversed(stack.frames):
        found.append(indent + str(frame))
        text = source(frame).strip()
        if text:
            found.append("%s    %s" % (indent, text))
    return tuple(found) or (indent + "no Python code runs in it",)


def to_record(stack: RankStack) -> dict[str, object]:
    """Return what JSON shows of a stack."""
    frame = stack.user_frame
    return {
        **stack._asdict(),
        "frames": [one._asdict() for one in stack.frames],
        "user_frame": frame._asdict() if frame else None,
    }


def from_record(record: Mapping[str, object]) -> Optional[RankStack]:
    """Return the stack that a record shows, None where it is none."""
    rank = _whole(record.get("rank"))
    if rank is None:
        return None
    frames = record.get("frames")
    return RankStack(
        rank,
        _whole(record.get("pid")),
        _text(record.get("state")) or None,
        _text(record.get("problem")),
        tuple(filter(None, map(_frame, frames[:MAX_FRAMES]))) if isinstance(frames, Sequence) else (),
        record.get("cut") is True,
        _frame(record.get("user_frame")),
        record.get("waits") is True,
        _text(record.get("signature")),
        _text(record.get("phase")),
        _whole(record.get("step")),
    )


def _frame(record: object) -> Optional[Frame]:
    if not isinstance(record, Mapping):
        return None
    return Frame(_text(record.get("file")), _whole(record.get("line")) or 0, _text(record.get("function")))


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _whole(value: object) -> Optional[int]:
    return value if type(value) is int else None
