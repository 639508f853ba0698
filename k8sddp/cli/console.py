"""Where a local run writes: stdout for the ranks' lines, stderr for remarks, straight to the descriptors.

Its functions are called by threads that may be left behind in the middle of a write (local/output.py), so none of
Python's own buffers and locks is used. On a terminal the states of progress bars, lines that end with a carriage
return, share one line: it is drawn again in place, makes way for everything else, and passes from rank to rank, each
keeping it for TURN seconds at least. Our own live line stands below. Piped, every byte passes as it came.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Mapping
from typing import Final

from k8sddp import errors
from k8sddp.cli import bottom, escapes, live_line

TURN: Final = 1.0
_PIECE: Final = re.compile(rb"([^\r\n]*)(\r?\n|\r|\Z)")
_OWNER: Final = re.compile(rb"\[[^]]*\] ?")


class Console:
    """The terminal, or the files, that a local run writes to."""

    def __init__(self, environ: Mapping[str, str], *, stdout: int = 1, stderr: int = 2) -> None:
        self._stdout, self._stderr = stdout, stderr
        self._is_terminal = os.isatty(stdout)
        self.live = self._is_terminal and bottom.clears_lines(environ)  # bars may be drawn
        self.has_row = bottom.is_live(environ, stdout=stdout, stderr=stderr)
        self._screen = stdout if self._is_terminal else stderr
        self._bottom = bottom.Bottom()
        self._painter = live_line.Painter(environ)
        self._owner = b""
        self._since = 0.0  # when it became its owner's

    def out(self, data: bytes) -> None:
        """Write lines of the pods; raises BrokenPipeError without a reader, K8sddpError where it cannot be written."""
        self._write(self._shown(data) if self._is_terminal else data)

    def clear(self) -> None:
        """Take bar and live line off the screen, because something else is to be written."""
        erased = self._bottom.wiped() if self.has_row else self._bottom.erased()
        self._bottom.bar = b""
        if self._screen == self._stdout:
            self._write(erased)
        else:
            self._try_to_write(erased)

    def show(self, row: live_line.Row | None) -> None:
        """Draw the live line, None for none, where there is to be one and the screen is ours."""
        if not self.has_row:
            return
        self._bottom.row = b""
        if row is not None and bottom.is_ours(self._screen):
            text = self._painter.paint(row, bottom.columns(self._screen), now=time.monotonic())
            self._bottom.row = text.encode("utf-8", "backslashreplace")
        self._try_to_write(self._bottom.drawn())

    def report(self, text: str) -> None:
        """Say one sentence."""
        shown = escapes.clean(text) if os.isatty(self._stderr) else text
        _write_all(self._stderr, (shown + "\n").encode("utf-8", "backslashreplace"))

    def _shown(self, data: bytes) -> bytes:
        shown = b""
        for line, end in _PIECE.findall(data):
            if end == b"\r" and self.live:
                shown += self._state(line)
            elif line or end:
                shown += self._bottom.erased() + escapes.clean_bytes(line) + b"\n"
                self._bottom.bar = b""
        return shown + (b"" if self._bottom.is_drawn else self._bottom.drawn())

    def _state(self, line: bytes) -> bytes:
        """Return what shows the state of a bar: nothing while another rank has its turn."""
        mark = _OWNER.match(line)
        owner = mark[0] if mark else b""
        now = time.monotonic()
        if owner != self._owner and now - self._since < TURN:
            return b""
        if owner != self._owner:
            self._owner, self._since = owner, now
        text = escapes.fitting(line.decode("utf-8", "backslashreplace"), bottom.columns(self._stdout) - 1)
        self._bottom.bar = b"" if line == owner else text.encode("utf-8", "backslashreplace")
        return self._bottom.drawn()

    def _try_to_write(self, data: bytes) -> None:
        """Write what nobody misses: a run does not end for its live line."""
        with contextlib.suppress(OSError):
            _write_all(self._screen, data)

    def _write(self, data: bytes) -> None:
        try:
            _write_all(self._stdout, data)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise errors.K8sddpError(
                f"standard output: cannot be written ({error.strerror}), so the run was ended"
            ) from error


def _write_all(descriptor: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]
