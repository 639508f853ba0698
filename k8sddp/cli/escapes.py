"""What of a foreign text may reach a terminal: its characters, tabs and colours.

Ranks, the API server and whoever wrote an object's fields can put escape sequences into what we show. Moving the
cursor, setting the title, writing the clipboard (OSC 52), switching character sets or asking the terminal for answers
is not theirs to do: such sequences are left out, colours (SGR) stay and end with their line. Bytes that are no UTF-8
become `\\xff`, because some terminals take 0x80 to 0x9f for control characters. Pure.
Source: ECMA-48 5.3 and 5.4, and https://invisible-island.net/xterm/ctlseqs/ctlseqs.html.
"""

from __future__ import annotations

import re
from typing import Final

RESET: Final = "\x1b[0m"
_SGR: Final = re.compile(r"\x1b\[[0-9;:]*m")
# A string sequence without its end is text: what would have ended it may never come, and nothing is hidden by it.
_SEQUENCES: Final = re.compile(
    r"(?P<colour>\x1b\[[0-9;:]*m)"
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c\n]*(?:\x07|\x1b\\|\x9c)"  # OSC, DCS, SOS, PM, APC
    r"|(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"  # CSI
    r"|\x1b[ -/]*[0-~]?"  # two or three characters: character sets, reset and the like
    r"|[\x00-\x08\x0b-\x1f\x7f-\x9f]"  # C0 but for tab and newline, DEL, C1
)
_ANY: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def clean(text: str) -> str:
    """Return `text`, of any number of lines, as it may reach a terminal."""
    if not _ANY.search(text):
        return text
    return "\n".join(map(_clean_line, text.split("\n")))


def clean_bytes(data: bytes) -> bytes:
    """Return log lines as they may reach a terminal."""
    return clean(data.decode("utf-8", "backslashreplace")).encode("utf-8", "backslashreplace")


def fitting(text: str, cells: int) -> str:
    """Return `text` without colours, cut to a line of so many cells of a terminal."""
    plain = _SGR.sub("", clean(text)).replace("\t", " ").replace("\n", " ")
    if len(plain) <= cells and plain.isascii():
        return plain
    import unicodedata

    used = 0
    for place, character in enumerate(plain):
        if not unicodedata.combining(character):
            used += 2 if unicodedata.east_asian_width(character) in "WF" else 1
        if used > cells:
            return plain[:place]
    return plain


def _clean_line(line: str) -> str:
    line = line.rstrip("\r").replace("\r", " ")
    kept = _SEQUENCES.sub(lambda match: match["colour"] or "", line)
    colours = _SGR.findall(kept)
    return kept + RESET if colours and colours[-1] not in (RESET, "\x1b[m") else kept
