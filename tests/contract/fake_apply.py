"""Server-side apply in its simple form: who owns which field, conflicts, fields that are given up.

Maps are merged field by field; lists are taken whole, but ownerReferences, which are keyed by uid. That is less than
the real merge, and enough for objects whose lists have one manager.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from tests.contract import fake_answers

Object = dict[str, Any]
Path = tuple[str, ...]
_ABSENT = object()


class Managers:
    """The fields that each manager of one object has set."""

    def __init__(self) -> None:
        self.owned: dict[str, set[Path]] = {}

    def set_by(self, manager: str, paths: set[Path]) -> None:
        self.owned[manager] = paths

    def owners(self, path: Path, *, but: str) -> list[str]:
        return [manager for manager, paths in self.owned.items() if manager != but and path in paths]


def leaves(config: Object, prefix: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Yield the fields of an applied configuration that a manager owns."""
    for key, value in config.items():
        path = (*prefix, key)
        if path in (("apiVersion",), ("kind",), ("metadata", "name"), ("metadata", "namespace")):
            continue
        if path == ("metadata", "ownerReferences"):
            for owner in value:
                yield (*path, owner["uid"]), owner
        elif isinstance(value, dict) and value:
            yield from leaves(value, path)
        else:
            yield path, value


def merge(live: Object, config: Object, *, manager: str, managers: Managers, force: bool) -> Object:
    """Return the live object with the configuration applied; raises the 409 of the real server."""
    wanted = dict(leaves(config))
    conflicts = []
    for path, value in wanted.items():
        if _get(live, path) == value:
            continue
        for other in managers.owners(path, but=manager):
            if force:
                managers.owned[other].discard(path)
            else:
                conflicts.append((other, "." + ".".join(path)))
    if conflicts:
        raise fake_answers.apply_conflict(conflicts)
    result = copy.deepcopy(live)
    for path in managers.owned.get(manager, set()) - wanted.keys():
        if not managers.owners(path, but=manager):
            _remove(result, path)
    for path, value in wanted.items():
        _set(result, path, copy.deepcopy(value))
    managers.set_by(manager, set(wanted))
    return result


def _get(one: Object, path: Path) -> Any:
    here: Any = one
    for key in path:
        if isinstance(here, list):  # ownerReferences
            here = next((owner for owner in here if owner["uid"] == key), _ABSENT)
        else:
            here = here.get(key, _ABSENT) if isinstance(here, dict) else _ABSENT
        if here is _ABSENT:
            return _ABSENT
    return here


def _set(one: Object, path: Path, value: Any) -> None:
    *parents, last = path
    here: Any = one
    for key in parents:
        empty: Any = [] if key == "ownerReferences" else {}
        here = here.setdefault(key, empty)
        if here is None:
            raise ValueError(path)
    if isinstance(here, list):
        here[:] = [owner for owner in here if owner["uid"] != last] + [value]
    else:
        here[last] = value


def _remove(one: Object, path: Path) -> None:
    *parents, last = path
    here: Any = one
    for key in parents:
        here = here.get(key) if isinstance(here, dict) else None
        if here is None:
            return
    if isinstance(here, list):
        here[:] = [owner for owner in here if owner["uid"] != last]
        if not here:
            one["metadata"].pop("ownerReferences", None)
    else:
        here.pop(last, None)
