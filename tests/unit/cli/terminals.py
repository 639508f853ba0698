"""A terminal as its user sees it: what is on the screen after a program has written so much."""

from __future__ import annotations

import re
from typing import Final

_SEQUENCE: Final = re.compile(rb"\x1b\[([0-9;?]*)([A-Za-z])")


class Terminal:
    """Rows of text and a cursor; knows what we write and nothing else, so that anything else fails the test."""

    def __init__(self, columns: int = 80) -> None:
        self.rows = [""]
        self.row = self.column = 0
        self.columns = columns
        self.colours: list[str] = []

    def write(self, data: bytes) -> Terminal:
        """Take what a program writes."""
        while data:
            found = _SEQUENCE.match(data)
            if found:
                self._do(found[2].decode(), found[1].decode())
                data = data[found.end() :]
                continue
            piece = re.match(rb"[\r\n]|[^\r\n\x1b]+", data)
            assert piece, f"a sequence that nobody may use: {data[:20]!r}"
            self._put(piece[0].decode())
            data = data[piece.end() :]
        return self

    @property
    def text(self) -> list[str]:
        """Return the rows down to the last that is not empty."""
        rows = [row.rstrip() for row in self.rows]
        while rows and not rows[-1]:
            rows.pop()
        return rows

    def _do(self, letter: str, numbers: str) -> None:
        if letter == "K":
            assert numbers == ""
            assert len(self.rows[self.row]) < self.columns, f"wrapped, so not all is erased: {self.rows[self.row]!r}"
            self.rows[self.row] = self.rows[self.row][: self.column]
        elif letter == "A":
            assert numbers == ""
            self.row = max(0, self.row - 1)
        else:
            assert letter == "m", f"CSI {numbers} {letter}"
            self.colours.append(numbers)

    def _put(self, text: str) -> None:
        if text == "\r":
            self.column = 0
        elif text == "\n":
            self.row += 1
            if self.row == len(self.rows):
                self.rows.append("")
        else:
            old = self.rows[self.row].ljust(self.column)
            self.rows[self.row] = old[: self.column] + text + old[self.column + len(text) :]
            self.column += len(text)
