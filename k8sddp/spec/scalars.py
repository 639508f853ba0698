"""What a plain YAML scalar means, and whether everybody reads it so.

job.yaml may be read by us, by kubectl (Go, mostly YAML 1.1), by editors (YAML 1.2) and by PyYAML. Only plain scalars
that all of them read alike are taken: `true`, `null`, decimal numbers, texts. The others (`on`, `010`, `1e-3`,
`12:30:45`, ...) get a `Trap`, whose remedy is the quoted form. Measured against kubectl and PyYAML.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

_BOOLEANS: Final = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
NULLS: Final = frozenset({"", "~", "null", "Null", "NULL"})
# YAML 1.1 booleans that YAML 1.2 reads as texts
_WORDS: Final = {
    **dict.fromkeys(("y", "Y", "yes", "Yes", "YES", "on", "On", "ON"), "true"),
    **dict.fromkeys(("n", "N", "no", "No", "NO", "off", "Off", "OFF"), "false"),
}
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(?:0|[1-9][0-9]*)\.[0-9]+|\.[0-9]+")  # PyYAML wants a digit between sign and point
# A number to at least one of YAML 1.1, YAML 1.2, PyYAML, Go's yaml.v2
_NUMBER_TO_SOME = re.compile(
    r"[-+]?(?:0[bB][01_]+|0[oO][0-7_]+|0[xX][0-9a-fA-F_]+"
    r"|(?:[0-9][0-9_]*(?:\.[0-9_]*)?|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?)"
)
_BASE_60 = re.compile(r"[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?")
_DATE = re.compile(r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:(?:[Tt]|[ \t]+)[0-9]{1,2}:.*)?")
_SPECIAL_FLOAT = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_FIRST_OF_SPECIAL = frozenset("0123456789+-.~tTfFnNyYoO")
_BASES: Final = {"0x": 16, "0o": 8, "0b": 2}
_INT64 = range(-(2**63), 2**63)  # beyond it kubectl keeps a float


class Trap(NamedTuple):
    """Why readers disagree about a plain scalar, and what to write instead."""

    rule: str
    hint: str


Plain = str | int | float | bool | None


def resolve(text: str) -> Plain | Trap:
    """Return the value of a plain scalar, or the reason why it may not stand unquoted."""
    if text and text[0] not in _FIRST_OF_SPECIAL:
        return text  # most scalars: no word below begins so
    if text in NULLS:
        return None
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    if _INTEGER.fullmatch(text) and len(text) <= 20 and int(text) in _INT64:
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    return _trap(text) or text


def _trap(text: str) -> Trap | None:
    quoted = f'write "{text}"'
    if text in _WORDS:
        return Trap(
            f"`{text}` is {_WORDS[text]} to kubectl and a text to others", f"{quoted} for the text, or {_WORDS[text]}"
        )
    if _NUMBER_TO_SOME.fullmatch(text):
        return Trap(f"`{text}` {_disagreement(text)}", f"{quoted}, or the number in plain decimal digits")
    if _BASE_60.fullmatch(text):
        return Trap(f"`{text}` is a number in base 60 to some YAML readers", quoted)
    if _DATE.fullmatch(text):
        return Trap(f"`{text}` is a date to some YAML readers", quoted)
    if _SPECIAL_FLOAT.fullmatch(text):
        return Trap(f"`{text}` is a number to YAML", quoted)
    return None


def _disagreement(text: str) -> str:
    digits = text.lstrip("+-")
    base = _BASES.get(digits[:2].lower())
    if base:
        return f"is a number in base {base} to some YAML readers and a text to others"
    if "_" in digits:
        return f"is {text.replace('_', '')} to kubectl and a text to others"
    if "e" in digits or "E" in digits:
        return "is a number to kubectl and a text to others"
    if digits[0] == "0" and set(digits) <= set("01234567"):
        return f"is {int(text, 8)} to kubectl and {int(text)} to others"
    if digits.isdigit() and digits[0] != "0":
        return "is too large for a YAML number: readers round it"
    return "is a number to some YAML readers and a text to others"
