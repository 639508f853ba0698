"""The texts of the real API server for what it refuses, as Kubernetes 1.37 writes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class Refused(Exception):
    """A request that is answered with a Status object."""

    def __init__(self, code: int, reason: str, message: str, **details: Any) -> None:
        super().__init__(message)
        self.code = code
        self.status = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": message,
            "reason": reason,
            "details": details,
            "code": code,
        }


def not_found(resource: str, name: str) -> Refused:
    return Refused(404, "NotFound", f'{resource} "{name}" not found', name=name, kind=resource.partition(".")[0])


def already_exists(resource: str, name: str) -> Refused:
    return Refused(409, "AlreadyExists", f'{resource} "{name}" already exists', name=name, kind=resource)


def forbidden(user: str, verb: str, plural: str, *, group: str, namespace: str) -> Refused:
    resource = plural + (f".{group}" if group else "")
    text = f'{resource} is forbidden: User "{user}" cannot {verb} resource "{plural}" in API group "{group}"'
    return Refused(403, "Forbidden", f'{text} in the namespace "{namespace}"', kind=plural, group=group)


def unauthorized() -> Refused:
    return Refused(401, "Unauthorized", "Unauthorized")


def expired() -> Refused:
    return Refused(410, "Expired", "too old resource version: 1 (2)")


def apply_conflict(conflicts: Sequence[tuple[str, str]]) -> Refused:
    count = len(conflicts)
    lines = "\n".join(f'conflict with "{manager}" using batch/v1: {path}' for manager, path in conflicts)
    causes = [
        {"reason": "FieldManagerConflict", "message": f'conflict with "{manager}" using batch/v1', "field": path}
        for manager, path in conflicts
    ]
    word = "conflict" if count == 1 else "conflicts"
    joined = f": {lines}" if count == 1 else f":\n{lines}"
    return Refused(409, "Conflict", f"Apply failed with {count} {word}{joined}", causes=causes)


def undeclared(namespace: str, name: str, *, api_version: str, kind: str, path: str) -> Refused:
    """Return the 500 of an apply with an unknown field: a schema error in the clothes of a server fault."""
    where = f"{namespace}/{name}; {api_version}, Kind={kind}"
    text = f"failed to create typed patch object ({where}): {path}: field not declared in schema"
    return Refused(500, "", text)


def unknown_field(version: str, kind: str, path: str) -> Refused:
    text = f'strict decoding error: unknown field "{path.lstrip(".")}"'
    return Refused(400, "BadRequest", f'{kind} in version "{version}" cannot be handled as a {kind}: {text}')


def immutable(resource: str, kind: str, name: str, *, field: str, dump: str) -> Refused:
    cause = f"Invalid value: {dump}: field is immutable"
    return Refused(
        422,
        "Invalid",
        f'{kind}.{resource.partition(".")[2]} "{name}" is invalid: {field}: {cause}',
        name=name,
        kind=kind,
        causes=[{"reason": "FieldValueInvalid", "message": cause, "field": field}],
    )


def immutable_config_map(name: str, field: str) -> Refused:
    cause = "Forbidden: field is immutable when `immutable` is set"
    return Refused(
        422,
        "Invalid",
        f'ConfigMap "{name}" is invalid: {field}: {cause}',
        name=name,
        kind="ConfigMap",
        causes=[{"reason": "FieldValueForbidden", "message": cause, "field": field}],
    )


def uid_precondition(kind: str, name: str, *, wanted: str, found: str) -> Refused:
    text = f"the UID in the precondition ({wanted}) does not match the UID in record ({found})"
    text += ". The object might have been deleted and then recreated"
    return Refused(409, "Conflict", f'Operation cannot be fulfilled on {kind} "{name}": {text}', name=name, kind=kind)
