"""Where a local run writes: stdout for the ranks' lines, stderr for remarks, straight to the descriptors.

Its functions are called by threads that may be left behind in the middle of a write (local/output.py), so none of
Python's own buffers and locks is used. On a terminal the states of progress bars, lines that end with a carriage
return, share one line: it is drawn again in place, makes way for everything else, and passes from rank to rank, each
keeping it for TURN seconds at least. Piped, every byte passes as it came.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from typing import Final

from k8sddp import errors
from k8sddp.cli import escapes

TURN: Final = 1.0
_PIECE: Final = re.compile(rb"([^\r\n]*)(\r?\n|\r|\Z)")
_OWNER: Final = re.compile(rb"\[[^]]*\] ?")
_ERASE: Final = b"\r\x1b[K"  # back to the start of the line, and clear it


class Console:
    """The terminal, or the files, that a local run writes to."""

    def __init__(self, environ: Mapping[str, str], *, stdout: int = 1, stderr: int = 2) -> None:
        self._stdout, self._stderr = stdout, stderr
        self._is_terminal = os.isatty(stdout)
        self.live = self._is_terminal and environ.get("TERM", "dumb") != "dumb"  # a dumb one cannot clear a line
        self._drawn = False  # the line is on the screen
        self._owner = b""
        self._since = 0.0  # when it became its owner's

    def out(self, data: bytes) -> None:
        """Write lines of the pods; raises BrokenPipeError without a reader, K8sddpError where it cannot be written."""
        self._write(self._shown(data) if self._is_terminal else data)

    def clear(self) -> None:
        """Take the bar's line off the screen, because something else is to be written."""
        self._write(self._erased())

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
                shown += self._erased() + escapes.clean_bytes(line) + b"\n"
        return shown

    def _state(self, line: bytes) -> bytes:
        """Return what shows the state of a bar: nothing while another rank has its turn."""
        mark = _OWNER.match(line)
        owner = mark[0] if mark else b""
        now = time.monotonic()
        if owner != self._owner and now - self._since < TURN:
            return b""
        if owner != self._owner:
            self._owner, self._since = owner, now
        if line == owner:
            return self._erased()
        self._drawn = True
        text = escapes.fitting(line.decode("utf-8", "backslashreplace"), self._columns() - 1)
        return _ERASE + text.encode("utf-8", "backslashreplace")

    def _erased(self) -> bytes:
        erase, self._drawn = (_ERASE if self._drawn else b""), False
        return erase

    def _columns(self) -> int:
        try:
            return os.get_terminal_size(self._stdout).columns or 80
        except OSError:
            return 80

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
