"""What changed between two specs, as the user can read it: field paths with the old and the new value.

The specs are the canonical JSON of the Job's annotation. A value of `env` may be a secret, so there only the name is
said. A spec that is missing or not JSON (cut off, edited by hand) is a change that cannot be named.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from k8sddp.worker.contract import wording

MAX_NAMED: Final = 5
MAX_VALUE: Final = 60
_ABSENT: Final = object()


def sentence(old: str, new: str) -> str:
    """Return `spec.nnodes: 2 -> 4, ...` for two specs in JSON; at most five fields, then how many more there are."""
    try:
        before, after = json.loads(old), json.loads(new)
    except ValueError:
        return "which fields cannot be said: the spec it was made from is not readable"
    named = [_change(path, *values) for path, values in _changes("", before, after)]
    if not named:
        return "no field differs, but the recorded spec does: edited by hand, or by another version"
    more = len(named) - MAX_NAMED
    return ", ".join(named[:MAX_NAMED]) + (f" and {more} more" if more > 0 else "")


def _changes(path: str, old: Any, new: Any) -> Iterator[tuple[str, tuple[Any, Any]]]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted({*old, *new}):
            yield from _changes(f"{path}.{key}" if path else str(key), old.get(key, _ABSENT), new.get(key, _ABSENT))
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (one, other) in enumerate(zip(old, new, strict=True)):
            yield from _changes(f"{path}[{index}]", one, other)
    elif old is _ABSENT and isinstance(new, Mapping) and new:
        yield from _changes(path, {}, new)
    elif new is _ABSENT and isinstance(old, Mapping) and old:
        yield from _changes(path, old, {})
    elif old is _ABSENT or new is _ABSENT or old != new:
        yield path, (old, new)


def _change(path: str, old: Any, new: Any) -> str:
    if ".env." in path:
        return f"{path}: {'removed' if new is _ABSENT else 'added' if old is _ABSENT else 'another value'}"
    return f"{path}: {_shown(old)} -> {_shown(new)}"


def _shown(value: Any) -> str:
    if value is _ABSENT:
        return "default"
    return wording.shorten(json.dumps(value, ensure_ascii=False), MAX_VALUE)
