"""Python sources without their comments and docstrings, for a zip that has to be small.

Every statement stays on its line, so a traceback from the zip names the line of the source, and what runs is the same:
tests/unit/render/test_stripping.py compares the syntax trees of all modules that travel. One regular expression finds
strings and comments, in tens of milliseconds for the whole worker; `ast.unparse` would take half a second of every
command that renders, and lose the lines. Whatever is not surely a docstring stays: it must begin the module, or follow
a line that ends with a colon, and have its lines to itself.
"""

from __future__ import annotations

import re
from typing import Final

_TRIPLE: Final = r'"""[^"\\]*(?:(?:\\.|"(?!""))[^"\\]*)*"""' + r"|'''[^'\\]*(?:(?:\\.|'(?!''))[^'\\]*)*'''"
_SINGLE: Final = r'"[^"\\\n]*(?:\\.[^"\\\n]*)*"' + r"|'[^'\\\n]*(?:\\.[^'\\\n]*)*'"
# What may be a docstring in group 1, a comment in group 2; a string hides its `#`. The look ahead makes it quick, as
# places where nothing can match are then passed over in C.
_PIECE: Final = re.compile(
    rf"""(?=["'#])(?:({_TRIPLE})(?=[ ]*(?:#[^\n]*)?$)|(#[^\n]*)|{_TRIPLE}|{_SINGLE})""",
    re.DOTALL | re.MULTILINE,
)


def strip(source: str) -> str:
    """Return `source` without comments and docstrings, every statement on its line.

    A docstring becomes an empty one, as a class or function may have no other body; spaces before either stay.
    """
    return _PIECE.sub(_replacement, source)


def _replacement(found: re.Match[str]) -> str:
    if found[2] is not None:
        return ""
    if found[1] is not None and _stands_as_docstring(found.string, found.start()):
        return '""' + "\n" * found[1].count("\n")
    return found[0]


def _stands_as_docstring(text: str, start: int) -> bool:
    line = text.rfind("\n", 0, start) + 1
    return text[line:start].strip(" ") in {"", "r"} and (not line or text.endswith(":\n", 0, line))
