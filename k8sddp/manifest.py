"""A Kubernetes object as the API server's JSON has it, and the few ways in which we look into one.

Manifests are plain mappings on purpose: typed client models drop fields that they do not know
(reference: kubectl's conventions forbid to parse and re-encode objects).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from k8sddp import errors

Manifest = Mapping[str, Any]


class Ref(NamedTuple):
    """What names an object inside a namespace."""

    api_version: str
    kind: str
    name: str

    def __str__(self) -> str:
        """Return the name as kubectl prints it: `job.batch/digits`, `service/digits`."""
        group = self.api_version.partition("/")[0] if "/" in self.api_version else ""
        return f"{self.kind.lower()}{'.' + group if group else ''}/{self.name}"


def ref_of(manifest: Manifest) -> Ref:
    """Return the reference of `manifest`."""
    return Ref(manifest["apiVersion"], manifest["kind"], manifest["metadata"]["name"])


def annotation(manifest: Manifest, key: str) -> str:
    """Return an annotation's value, the empty string where it is not set."""
    return str((manifest["metadata"].get("annotations") or {}).get(key, ""))


def label(manifest: Manifest, key: str) -> str:
    """Return a label's value, the empty string where it is not set."""
    return str((manifest["metadata"].get("labels") or {}).get(key, ""))


def condition(manifest: Manifest, kind: str) -> Mapping[str, Any] | None:
    """Return the status condition of type `kind` when it is true, else None."""
    for entry in (manifest.get("status") or {}).get("conditions") or ():
        if entry.get("type") == kind and entry.get("status") == "True":
            return dict(entry)
    return None


def to_yaml(manifests: Iterable[Manifest]) -> str:
    """Return the manifests as YAML documents, in ASCII, that kubectl reads exactly as they are.

    Every scalar is written by `flow`: no dumper of ours or PyYAML's can then turn "on", "010" or "1e-3" into something
    else. Raises RenderError where a text cannot be sent.
    """
    return "".join("---\n" + _block(manifest, 0) for manifest in manifests)


def flow(value: Any) -> str:
    """Return `value` as one line of ASCII that YAML 1.1 and 1.2 read as exactly this value.

    It is JSON but for the escapes: Go's YAML reader refuses JSON's surrogate pairs, PyYAML takes one for two
    characters, both refuse a raw DEL, and U+0085, U+2028 and U+2029 are line breaks in YAML 1.1.
    Raises RenderError for half of a surrogate pair, which is no character, and for numbers that JSON has not.
    """
    try:
        text = _JSON.encode(value)
    except ValueError as error:
        raise errors.RenderError(f"{value!r} cannot be written as JSON: {error}") from error
    # the search costs nothing beside a substitution over a megabyte of base64
    return _NOT_PLAIN.sub(_escape, text) if _NOT_PLAIN.search(text) else text


_JSON = json.JSONEncoder(ensure_ascii=False, allow_nan=False)
# JSON has escaped the control characters below U+0020; what is left stands inside of strings.
_NOT_PLAIN = re.compile("[^ -~]")


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xD800 <= code <= 0xDFFF:
        raise errors.RenderError(f"\\u{code:04x} is half of a surrogate pair, not a character; remove it")
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def _block(value: Any, depth: int) -> str:
    pad = "  " * depth
    if isinstance(value, Mapping) and value:
        return "".join(pad + _key(key) + ":" + _value(item, depth) for key, item in value.items())
    if isinstance(value, (list, tuple)) and value:
        return "".join(pad + "- " + _block(item, depth + 1).removeprefix("  " * (depth + 1)) for item in value)
    return pad + _scalar(value) + "\n"


def _value(item: Any, depth: int) -> str:
    if isinstance(item, (list, tuple)) and all(type(number) is int for number in item):
        return f" {flow(item)}\n"  # 67 exit codes are one line, not a screen
    if isinstance(item, (Mapping, list, tuple)) and item:
        return "\n" + _block(item, depth + 1)
    return " " + _scalar(item) + "\n"


# Keys that are plain words in every YAML version; kubectl reads a bare `y` or `on` as a boolean.
_BOOLEAN_WORDS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})


def _key(key: str) -> str:
    plain = key.isascii() and key.isalpha() and key.lower() not in _BOOLEAN_WORDS
    return key if plain else flow(key)


def _scalar(value: Any) -> str:
    if isinstance(value, (Mapping, list, tuple)):
        return "{}" if isinstance(value, Mapping) else "[]"
    text = flow(value)
    # PyYAML reads a float only where there is a point: 1e-05 would be a string
    return text.replace("e", ".0e") if isinstance(value, float) and "e" in text and "." not in text else text
