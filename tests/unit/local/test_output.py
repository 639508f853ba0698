"""Lines and remarks on their way to readers: in order, bounded, and never in the way of whoever hands them in."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable

import pytest

from k8sddp.local import output

TIMEOUT = 30.0


class Reader:
    """Takes what is written; `open` is the gate that it waits at."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.open = threading.Event()
        self.waits = threading.Event()

    def __call__(self, what: bytes | str) -> None:
        self.waits.set()
        assert self.open.wait(TIMEOUT)
        self.taken.append(what if isinstance(what, str) else what.decode())


def test_lines_and_remarks_come_in_order() -> None:
    """Two threads write, in the order in which they were given work."""
    taken: list[str] = []
    with output.Output(lambda data: taken.append(data.decode()), taken.append, clear=lambda: taken.append("-")) as both:
        for number in range(100):
            both.out(b"out %d" % number)
            both.report(f"report {number}")
        both.finish()
    assert [text for number in range(100) for text in (f"out {number}", "-", f"report {number}")] == taken


def test_of_rows_that_wait_only_the_last_is_drawn() -> None:
    """A live line behind a reader who is stuck for an hour is one row, as old as its last figures; lines keep order."""
    lines, drawn = Reader(), list[int]()
    with output.Output(lines, lambda _: None) as both:
        both.out(b"first")
        assert lines.waits.wait(TIMEOUT)
        for number in range(1000):
            both.show(lambda number=number: drawn.append(number))  # type: ignore[misc]
        both.out(b"second")
        lines.open.set()
        both.finish()
        assert [999] == drawn
        both.show(lambda: drawn.append(1000))
        both.finish()
    assert ["first", "second"] == lines.taken
    assert [999, 1000] == drawn


def test_a_stuck_reader_of_lines_does_not_keep_a_remark_back() -> None:
    """stdout is full, and what is said on stderr is seen."""
    lines, remarks = Reader(), Reader()
    remarks.open.set()
    with output.Output(lines, remarks) as both:
        both.out(b"line")
        assert lines.waits.wait(TIMEOUT)
        both.report("remark")
        assert remarks.waits.wait(TIMEOUT)
        assert [] == lines.taken
        lines.open.set()


def test_nobody_waits_for_a_reader_who_is_stuck_already() -> None:
    """At the end of a run that was stopped; the thread in the middle of a write is left behind."""
    lines = Reader()
    with output.Output(lines, lambda _: None) as both:
        both.out(b"line")
        assert lines.waits.wait(TIMEOUT)
        both.lossy = True
        both.finish()
        assert [] == lines.taken
    lines.open.set()


def test_pods_are_held_back_while_too_much_waits() -> None:
    """`full` says so, and the descriptor tells when it has changed."""
    lines = Reader()
    with output.Output(lines, lambda _: None) as both:
        assert not both.full
        both.out(b"x" * output.HIGH_WATER)
        assert both.full
        assert lines.waits.wait(TIMEOUT)
        lines.open.set()
        assert select.select([both], [], [], TIMEOUT)[0]
        both.seen()
        assert not both.full
        assert not select.select([both], [], [], 0)[0]


def test_the_newest_lines_stay_when_nobody_is_held_back() -> None:
    """A run that is being stopped goes on reading; what is kept is what the ranks said last."""
    lines = Reader()
    with output.Output(lines, lambda _: None) as both:
        both.lossy = True
        for number in range(10):
            both.out(b"%d" % number * (output.HIGH_WATER // 2))
        assert not both.full
        lines.open.set()
        both.finish()
    assert lines.taken[-1].startswith("9")
    assert len(lines.taken) <= 4


@pytest.mark.parametrize("error", [BrokenPipeError(), OSError(28, "No space left on device")], ids=["pipe", "disk"])
def test_an_error_of_the_lines_is_kept_and_raised(error: OSError) -> None:
    """It wakes whoever watches, drops what else there is, and is raised at the end."""

    def write(_data: bytes) -> None:
        raise error

    remarks: list[str] = []
    with output.Output(write, remarks.append) as both:
        both.out(b"line")
        assert select.select([both], [], [], TIMEOUT)[0]
        both.out(b"another")
        both.report("remark")
        assert error is both.error
        with pytest.raises(OSError) as raised:
            both.finish()
    assert error is raised.value
    assert ["remark"] == remarks


def test_an_error_of_the_remarks_ends_nothing() -> None:
    """stderr on a full disk: there is nobody to tell."""

    def say(_text: str) -> None:
        raise OSError(28, "No space left on device")

    taken: list[bytes] = []
    with output.Output(taken.append, say) as both:
        both.report("remark")
        both.out(b"line")
        both.finish()
    assert [b"line"] == taken


def _pipe() -> tuple[int, Callable[[], None]]:
    read, write = os.pipe()
    return write, lambda: os.close(read)


def test_a_reader_that_closes_its_end_is_seen_before_anything_is_written() -> None:
    """A script may print once in ten minutes, and a pager that was left is no reader."""
    write, leave = _pipe()
    with output.Output(lambda _: None, lambda _: None, reader=write) as both, both.hangup() as hangup:
        assert hangup is not None
        assert not select.select([hangup], [], [], 0)[0]
        leave()
        assert select.select([hangup], [], [], TIMEOUT)[0]
        both.reader_gone()
        assert isinstance(both.error, BrokenPipeError)
    os.close(write)


def test_a_file_has_no_end_that_closes() -> None:
    """/dev/null and files: only writing can tell."""
    with (
        open(os.devnull, "wb") as null,  # noqa: PTH123
        output.Output(lambda _: None, lambda _: None, reader=null.fileno()) as both,
        both.hangup() as hangup,
    ):
        assert hangup is None
