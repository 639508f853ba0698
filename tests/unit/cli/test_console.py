"""What a local run writes: bytes to a pipe, one live line and nothing that acts on it to a terminal."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import pty
import re
import struct
import termios
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from k8sddp import errors
from k8sddp.cli import console, live_line
from tests.unit.cli import terminals

ERASE = b"\r\x1b[K"
TERM = {"TERM": "xterm"}
END = b"\0"


@contextlib.contextmanager
def terminal(*, columns: int = 80) -> Iterator[tuple[int, int]]:
    """Give a terminal: the end that shows and the end that programs write to, without the newline's translation."""
    shown, written = pty.openpty()
    try:
        fcntl.ioctl(written, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        settings = termios.tcgetattr(written)
        settings[1] &= ~termios.OPOST
        termios.tcsetattr(written, termios.TCSANOW, settings)
        yield shown, written
    finally:
        os.close(written)
        os.close(shown)


def read(shown: int, written: int) -> bytes:
    """Return what has been written since the last look; a terminal passes it on in pieces."""
    os.write(written, END)
    seen = b""
    while not seen.endswith(END):
        seen += os.read(shown, 1000)
    return seen.removesuffix(END)


def dotted(rows: list[str]) -> list[str]:
    """Return the rows with an asterisk for the spinner, whose picture depends on the clock."""
    return [re.sub("^[⠀-⣿]", "*", row) for row in rows]


def shows(shown: int, written: int, expected: bytes) -> None:
    """Assert what has been written since the last look."""
    assert expected == read(shown, written)


def test_a_pipe_gets_every_byte() -> None:
    """What is piped is the ranks' own, as with kubectl logs."""
    read, write = os.pipe()
    screen = console.Console(TERM, stdout=write)
    screen.out(b"[rank 0] \x1b[2J\xff\r\n")
    screen.clear()
    os.close(write)
    assert not screen.live
    with open(read, "rb") as file:  # noqa: PTH123
        assert b"[rank 0] \x1b[2J\xff\r\n" == file.read()


def test_a_terminal_gets_text_and_colours() -> None:
    """Nothing that a rank prints moves the cursor or sets the clipboard."""
    with terminal() as (shown, written):
        console.Console(TERM, stdout=written).out(b"[rank 0] \x1b[31mred\x1b]52;c;eA==\x07\x1b[2J\n[rank 1] \xff\n")
        shows(shown, written, b"[rank 0] \x1b[31mred\x1b[0m\n[rank 1] \\xff\n")


def test_a_bar_is_drawn_in_place_and_makes_way() -> None:
    """Lines and remarks take its place, and it comes back with its next state."""
    with terminal() as (shown, written):
        screen = console.Console(TERM, stdout=written, stderr=written)
        screen.out(b"[rank 0] 1%\r[rank 0] 2%\r")
        shows(shown, written, ERASE + b"[rank 0] 1%" + ERASE + b"[rank 0] 2%")
        screen.out(b"[rank 1] line\n[rank 0] 3%\r")
        shows(shown, written, ERASE + b"[rank 1] line\n" + ERASE + b"[rank 0] 3%")
        screen.clear()
        screen.report("stopping \x1b[2J")
        shows(shown, written, ERASE + b"stopping \n")


def test_a_bar_never_wraps() -> None:
    """A carriage return goes back to the start of the last row only."""
    with terminal(columns=20) as (shown, written):
        console.Console(TERM, stdout=written).out(b"[rank 0] " + b"=" * 100 + b"\r")
        shows(shown, written, ERASE + b"[rank 0] ==========")


def test_bars_of_two_ranks_take_turns() -> None:
    """Ten states a second of each in one line could be read by nobody."""
    with terminal() as (shown, written):
        screen = console.Console(TERM, stdout=written)
        screen.out(b"[rank 0] 1%\r[rank 1] 1%\r[rank 0] 2%\r")
        shows(shown, written, ERASE + b"[rank 0] 1%" + ERASE + b"[rank 0] 2%")
        screen._since -= console.TURN
        screen.out(b"[rank 1] 2%\r[rank 0] 3%\r")
        shows(shown, written, ERASE + b"[rank 1] 2%")


def test_a_bar_that_clears_itself_is_gone() -> None:
    """tqdm with leave=False."""
    with terminal() as (shown, written):
        console.Console(TERM, stdout=written).out(b"[rank 0] 9%\r[rank 0] \r")
        shows(shown, written, ERASE + b"[rank 0] 9%" + ERASE)


ROW = live_line.Row("attempt 0  step 7")


def plain_console(shown: int, written: int, **environ: str) -> console.Console:
    """Return one whose rows have no colours."""
    return console.Console({**TERM, "NO_COLOR": "1", **environ}, stdout=written, stderr=written)


def test_the_live_line_stands_below_lines_and_bars() -> None:
    """What a user sees after each: all lines, one bar, one row, nothing twice."""
    screen = terminals.Terminal()
    with terminal() as (shown, written):

        def after(step: Callable[[], None]) -> list[str]:
            step()
            return screen.write(read(shown, written)).text

        one = plain_console(shown, written)
        assert one.has_row
        assert ["* attempt 0  step 7"] == dotted(after(lambda: one.show(ROW)))
        assert ["[rank 0] a", "* attempt 0  step 7"] == dotted(after(lambda: one.out(b"[rank 0] a\n")))
        bar = ["[rank 0] a", "[rank 0] 1%", "* attempt 0  step 7"]
        assert bar == dotted(after(lambda: one.out(b"[rank 0] 1%\r")))
        assert [*bar[:1], "[rank 0] 2%", *bar[2:]] == dotted(after(lambda: one.out(b"[rank 0] 2%\r")))
        both = ["[rank 0] a", "[rank 1] b", "* attempt 0  step 7"]
        assert both == dotted(after(lambda: one.out(b"[rank 1] b\n")))
        after(lambda: one.out(b"[rank 0] 3%\r"))
        assert both[:2] == after(one.clear)
        assert [*both[:2], "stopping"] == after(lambda: one.report("stopping"))
        assert [*both[:2], "stopping", "* attempt 0  step 7"] == dotted(after(lambda: one.show(ROW)))
        assert [*both[:2], "stopping"] == after(lambda: one.show(None))


def test_a_bar_alone_needs_no_second_row() -> None:
    """Where a run has nothing to tell, its screen is as it was without a live line."""
    with terminal() as (shown, written):
        one = plain_console(shown, written)
        one.show(None)
        one.out(b"[rank 0] 1%\r")
        shows(shown, written, ERASE + b"[rank 0] 1%")


def test_the_live_line_is_on_stderr_where_stdout_is_a_file(tmp_path: Path) -> None:
    """`run --local job.yaml > log`: the file has every byte of the ranks and nothing else."""
    with terminal() as (shown, written), (tmp_path / "log").open("wb") as log:
        one = console.Console({**TERM, "NO_COLOR": "1"}, stdout=log.fileno(), stderr=written)
        one.show(ROW)
        one.out(b"[rank 0] 1%\r\x1b[2Jline\n")
        one.clear()
        one.report("done")
        assert ["done"] == terminals.Terminal().write(read(shown, written)).text
    assert b"[rank 0] 1%\r\x1b[2Jline\n" == (tmp_path / "log").read_bytes()


@pytest.mark.parametrize(
    "environ", [{"TERM": "dumb"}, {"CI": "true"}, {"TERM": ""}], ids=["a dumb terminal", "CI", "no kind of terminal"]
)
def test_where_nobody_looks_there_is_no_live_line(environ: dict[str, str]) -> None:
    """Nothing of it reaches the terminal, and no escape at all."""
    with terminal() as (shown, written):
        one = plain_console(shown, written, **environ)
        assert not one.has_row
        one.show(ROW)
        one.out(b"line\n")
        one.clear()
        shows(shown, written, b"line\n")


def test_a_pipe_behind_stdout_may_end_on_the_same_screen() -> None:
    """`| tee log` writes where nobody can erase: no live line."""
    read_end, write_end = os.pipe()
    with terminal() as (_, written):
        assert not console.Console(TERM, stdout=write_end, stderr=written).has_row
    os.close(read_end)
    os.close(write_end)


def test_a_program_in_the_background_draws_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """`k8sddp run job.yaml &`: the shell's own line is not drawn over; the log comes as from any program."""
    monkeypatch.setattr(os, "tcgetpgrp", lambda _: os.getpgrp() + 1)
    with terminal() as (shown, written):
        one = plain_console(shown, written)
        one.show(ROW)
        one.out(b"line\n")
        shows(shown, written, b"line\n")
        monkeypatch.setattr(os, "tcgetpgrp", lambda _: os.getpgrp())
        one.show(ROW)
        assert ["* attempt 0  step 7"] == dotted(terminals.Terminal().write(read(shown, written)).text)


def test_a_live_line_that_cannot_be_drawn_ends_nothing(tmp_path: Path) -> None:
    """The terminal behind stderr was closed; the ranks write to a file and train on."""
    shown, written = pty.openpty()
    with (tmp_path / "log").open("wb") as log:
        one = console.Console(TERM, stdout=log.fileno(), stderr=written)
        assert one.has_row
        os.close(shown)
        one.show(ROW)
        one.clear()
        one.out(b"line\n")
    os.close(written)
    assert b"line\n" == (tmp_path / "log").read_bytes()


@pytest.mark.parametrize("environ", [{"TERM": "dumb"}, {}], ids=["dumb", "unset"])
def test_a_terminal_that_cannot_clear_a_line_is_not_live(environ: dict[str, str]) -> None:
    """Its bars come once a second, as in a pod's log."""
    with terminal() as (_, written):
        assert not console.Console(environ, stdout=written).live


def test_a_full_disk_is_one_sentence_and_a_closed_pipe_stays_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line answers them differently."""
    read, write = os.pipe()
    os.close(read)
    with pytest.raises(BrokenPipeError):
        console.Console(TERM, stdout=write).out(b"line\n")
    os.close(write)

    def full(_descriptor: int, _data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(errors.K8sddpError, match=r"cannot be written \(No space left on device\)"):
        console.Console(TERM).out(b"line\n")
