"""What a terminal would show of a rank's output, as lines: of a progress bar its states instead of every stroke.

A bar redraws its line after a carriage return, nested ones (tqdm) also go down by newlines and up again by ESC[A. Only
these three are understood: of each row the text after the last carriage return is its state, and `\\r\\n` is a newline.
All other bytes pass unchanged. How the stream is cut into reads makes no difference, every byte is shown or was
overwritten by the rank itself, and the last state of a row is always shown. Holds less than MAX_ROWS rows of MAX_LINE
bytes; when something unfinished is shown is the caller's to say.
"""

from __future__ import annotations

import re

MAX_LINE = 64 * 1024
MAX_ROWS = 8  # a script with more bars below each other has the upper ones mixed

_MOVES = re.compile(rb"(\r|\x1b\[[0-9]{0,3}A)")
_CUT = re.compile(rb"\x1b(?:\[[0-9]{0,3})?\Z")  # the beginning of such a move at the end of a read


class Row:
    """One row of the rank's terminal, as far as it matters here."""

    __slots__ = ("at_start", "partly", "redrawn", "shown", "text")

    def __init__(self, *, redrawn: bool = False) -> None:
        self.text = b""
        self.shown = b""  # the state that was shown last
        self.redrawn = redrawn  # a bar: a later state takes the place of an earlier one
        self.at_start = redrawn  # what comes next overwrites the text
        self.partly = False  # the beginning of this line was shown already, and `text` is what followed

    @property
    def news(self) -> bool:
        """Return whether there is something to see that was not shown."""
        return self.text != self.shown and bool(self.text.strip())


class Rows:
    """Turn the bytes of one pipe into finished lines and the states of unfinished ones."""

    def __init__(self) -> None:
        self.finished = 0  # lines that have ended
        self._rest = b""
        self._rows = [Row()]  # the last one is the bottom
        self._at = 0

    @property
    def pending(self) -> bool:
        """Return whether something unfinished has not been shown."""
        return any(row.news for row in self._rows)

    @property
    def redrawn(self) -> bool:
        """Return whether that is the state of a bar, which a later one may overwrite."""
        return all(row.redrawn for row in self._rows if row.news)

    def state(self) -> bytes:
        """Return what is unfinished, as one line."""
        return b"  ".join(row.text.strip() for row in self._rows if row.text.strip())[:MAX_LINE]

    def feed(self, data: bytes) -> list[bytes]:
        """Return the lines that `data` finishes, without their ends."""
        if self._is_plain and b"\r" not in data and b"\x1b" not in data:
            return self._feed_plain(data)
        data = self._rest + data
        cut = _CUT.search(data, max(0, len(data) - 5))
        self._rest = data[cut.start() :] if cut else b""
        lines: list[bytes] = []
        *ended, begun = (data[: cut.start()] if cut else data).split(b"\n")
        for text in ended:
            self._write(text, lines)
            self._end_row(lines)
        self._write(begun, lines)
        return lines

    @property
    def _is_plain(self) -> bool:
        return len(self._rows) == 1 and not self._rest and not self._rows[0].redrawn

    def _feed_plain(self, data: bytes) -> list[bytes]:
        """Do the same as `feed` for the many lines that are just lines, in a tenth of the time."""
        row = self._rows[0]
        *ended, row.text = (row.text + data).split(b"\n")
        if ended:
            self.finished += len(ended)
            if row.partly and not ended[0]:
                del ended[0]
            row.partly = False
        if len(row.text) <= MAX_LINE and all(len(line) <= MAX_LINE for line in ended):
            return ended
        cut = [line[i : i + MAX_LINE] for line in ended for i in range(0, len(line) or 1, MAX_LINE)]
        while len(row.text) > MAX_LINE:
            cut.append(row.text[:MAX_LINE])
            row.text = row.text[MAX_LINE:]
        return cut

    def show(self) -> list[bytes]:
        """Return what is unfinished, if it was not shown, as one line, and take it for shown."""
        if not self.pending:
            return []
        lines = [self._rows[0].text if len(self._rows) == 1 else self.state()]
        for row in self._rows:
            if row.redrawn:
                row.shown = row.text
            elif row.news:
                row.text, row.partly = b"", True
        return lines

    def flush(self) -> list[bytes]:
        """Return all that was not shown, at the end of the stream."""
        lines: list[bytes] = []
        self._write(self._rest, lines)
        bottom = self._rows[-1]
        lines += [row.text for row in self._rows if row.news or (row is bottom and row.text != row.shown)]
        self._rest, self._rows, self._at = b"", [Row()], 0
        return lines

    def _write(self, text: bytes, lines: list[bytes]) -> None:
        if b"\r" not in text and b"\x1b[" not in text:
            self._put(text, lines)
            return
        for piece in _MOVES.split(text):
            if piece == b"\r":
                self._rows[self._at].at_start = self._rows[self._at].redrawn = True
            elif _MOVES.fullmatch(piece):
                self._go_up(int(piece[2:-1] or 1))
            else:
                self._put(piece, lines)

    def _put(self, text: bytes, lines: list[bytes]) -> None:
        if not text:
            return
        row = self._rows[self._at]
        row.text = text if row.at_start else row.text + text
        row.at_start = False
        while len(row.text) > MAX_LINE:
            lines.append(row.text[:MAX_LINE])
            row.text = row.text[MAX_LINE:]

    def _go_up(self, count: int) -> None:
        for _ in range(min(count, MAX_ROWS)):
            if self._at > 0:
                self._at -= 1
            elif len(self._rows) < MAX_ROWS:
                self._rows.insert(0, Row(redrawn=True))

    def _end_row(self, lines: list[bytes]) -> None:
        """Go to the next row: one below that is there, or a new one, and then everything above is finished."""
        if self._at < len(self._rows) - 1:
            self._at += 1
            self._rows[self._at].at_start = self._rows[self._at].redrawn = True
            return
        *above, row = self._rows
        lines += [other.text for other in above if other.news]
        known = row.text == row.shown if row.redrawn and row.text else row.partly and not row.text
        if not known:
            lines.append(row.text)
        self.finished += 1
        self._rows, self._at = [Row()], 0
