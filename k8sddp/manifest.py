"""A Kubernetes object as the API server's JSON has it, and the few ways in which we look into one.

Manifests are plain mappings on purpose: typed client models drop fields that they do not know
(reference: kubectl's conventions forbid to parse and re-encode objects).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

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
    """Return the manifests as YAML documents that kubectl reads exactly as they are.

    JSON strings are double-quoted YAML strings, so every key and scalar is written by `json.dumps`: no dumper of ours
    or PyYAML's can then turn "on", "010" or "1e-3" into something else.
    """
    return "".join("---\n" + _block(manifest, 0) for manifest in manifests)


def _block(value: Any, depth: int) -> str:
    pad = "  " * depth
    if isinstance(value, Mapping) and value:
        return "".join(pad + _key(key) + ":" + _value(item, depth) for key, item in value.items())
    if isinstance(value, (list, tuple)) and value:
        return "".join(pad + "- " + _block(item, depth + 1).removeprefix("  " * (depth + 1)) for item in value)
    return pad + _scalar(value) + "\n"


def _value(item: Any, depth: int) -> str:
    if isinstance(item, (Mapping, list, tuple)) and item:
        return "\n" + _block(item, depth + 1)
    return " " + _scalar(item) + "\n"


# Keys that are plain words in every YAML version; kubectl reads a bare `y` or `on` as a boolean.
_BOOLEAN_WORDS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})


def _key(key: str) -> str:
    plain = key.isascii() and key.isalpha() and key.lower() not in _BOOLEAN_WORDS
    return key if plain else _scalar(key)


def _scalar(value: Any) -> str:
    if isinstance(value, (Mapping, list, tuple)):
        return "{}" if isinstance(value, Mapping) else "[]"
    # YAML takes U+2028, U+2029 and U+0085 for line breaks; ascii escapes keep every scalar on one line.
    return json.dumps(value, ensure_ascii=True)
