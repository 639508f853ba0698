"""What a local run writes: bytes to a pipe, one live line and nothing that acts on it to a terminal."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import pty
import struct
import termios
from collections.abc import Iterator

import pytest

from k8sddp import errors
from k8sddp.cli import console

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


def shows(shown: int, written: int, expected: bytes) -> None:
    """Assert what has been written since the last look; a terminal passes it on in pieces."""
    os.write(written, END)
    seen = b""
    while not seen.endswith(END):
        seen += os.read(shown, 1000)
    assert expected + END == seen


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
