"""Find and merge kubeconfig files as kubectl does, and say in one sentence what is wrong with them.

A flag names one file; else KUBECONFIG is a list of which missing files are skipped; else ~/.kube/config. The first file
that sets an entry wins, the current context included (the client's own merger lets the last win there). Relative paths
belong to the file they stand in. Files are read, nothing is ever written back.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from k8sddp import errors

_LISTS: Final = ("clusters", "contexts", "users")
_PATHS: Final = {
    "clusters": ("certificate-authority",),
    "users": ("client-certificate", "client-key", "tokenFile"),
}
_ENTRY: Final = {"clusters": "cluster", "contexts": "context", "users": "user"}


class Chosen(NamedTuple):
    """A merged kubeconfig and the context that is used; `config` has absolute paths only."""

    config: dict[str, Any]
    context: str
    namespace: str
    cluster: Mapping[str, Any]
    user: Mapping[str, Any]


def paths(flag: str | None, environ: Mapping[str, str], home: Path) -> tuple[Path, ...]:
    """Return the files to read in order; raises KubeconfigError where a file that was named is missing."""
    if flag:
        path = Path(flag).expanduser()
        if not path.exists():
            raise errors.KubeconfigError(f"kubeconfig {flag} does not exist; check --kubeconfig")
        return (path,)
    listed = [Path(one).expanduser() for one in environ.get("KUBECONFIG", "").split(os.pathsep) if one]
    if listed:
        found = tuple(path for path in listed if path.exists())
        if not found:
            names = ", ".join(map(str, listed))
            raise errors.KubeconfigError(f"no file of KUBECONFIG exists ({names}); set it right, or unset it")
        return found
    default = home / ".kube" / "config"
    return (default,) if default.exists() else ()


def choose(files: Sequence[Path], context: str | None) -> Chosen:
    """Return the merged configuration of the files with the context that was asked for, or their current one."""
    merged = _merge([(path, _read(path)) for path in files])
    where = ", ".join(map(str, files))
    names = [one["name"] for one in merged["contexts"]]
    known = f"known contexts: {', '.join(names)}" if names else "it has no contexts"
    name = context or merged["current-context"]
    if not name:
        raise errors.KubeconfigError(f"kubeconfig {where} has no current context; choose one with --context ({known})")
    entry = _named(merged, "contexts", name)
    if entry is None:
        raise errors.KubeconfigError(f"kubeconfig {where} has no context {name!r}; {known}")
    cluster = _named(merged, "clusters", entry.get("cluster"))
    if cluster is None:
        raise errors.KubeconfigError(
            f"kubeconfig {where}: context {name} names cluster {entry.get('cluster')!r}, which the file does not have"
        )
    if not isinstance(cluster.get("server"), str) or not cluster["server"].startswith(("http://", "https://")):
        raise errors.KubeconfigError(
            f"kubeconfig {where}: cluster {entry.get('cluster')} has server {cluster.get('server')!r}; "
            "it must be an https:// or http:// URL"
        )
    user = _named(merged, "users", entry["user"]) if entry.get("user") else {}
    if user is None:
        raise errors.KubeconfigError(
            f"kubeconfig {where}: context {name} names user {entry['user']!r}, which the file does not have"
        )
    return Chosen(merged, name, str(entry.get("namespace") or "default"), cluster, user)


def _read(path: Path) -> Mapping[str, Any]:
    import yaml

    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise errors.KubeconfigError(f"kubeconfig {path} is not text; is it the right file") from None
    except OSError as fault:
        raise errors.KubeconfigError(f"kubeconfig {path} cannot be read: {fault.strerror}") from None
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as fault:
        mark = getattr(fault, "problem_mark", None)
        place = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        problem = getattr(fault, "problem", None) or "it cannot be parsed"
        raise errors.KubeconfigError(f"kubeconfig {path}{place} is not YAML: {problem}") from None
    if not isinstance(content, dict):
        raise errors.KubeconfigError(
            f"kubeconfig {path} is {'empty' if content is None else 'no mapping'}; it must have clusters and contexts"
        )
    return content


def _merge(files: Sequence[tuple[Path, Mapping[str, Any]]]) -> dict[str, Any]:
    merged: dict[str, Any] = {"apiVersion": "v1", "kind": "Config", "current-context": ""}
    merged.update({section: [] for section in _LISTS})
    for path, content in files:
        merged["current-context"] = merged["current-context"] or str(content.get("current-context") or "")
        for section in _LISTS:
            taken = {one["name"] for one in merged[section]}
            merged[section].extend(one for one in _entries(path, content, section) if one["name"] not in taken)
    return merged


def _entries(path: Path, content: Mapping[str, Any], section: str) -> list[dict[str, Any]]:
    """Return the entries of one section, each checked to be {name, <entry>}, with absolute paths."""
    listed = content.get(section) or []
    key = _ENTRY[section]
    entries = []
    for index, one in enumerate(listed if isinstance(listed, list) else [listed]):
        if not isinstance(one, dict) or not isinstance(one.get("name"), str):
            raise errors.KubeconfigError(f"kubeconfig {path}: {section}[{index}] must be a mapping with a name")
        body = one.get(key) or {}
        if not isinstance(body, dict):
            raise errors.KubeconfigError(f"kubeconfig {path}: {section}[{index}].{key} must be a mapping")
        entries.append({"name": one["name"], key: _absolute(path, body, _PATHS.get(section, ()))})
    return entries


def _absolute(path: Path, body: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    base = path.absolute().parent
    resolved = dict(body)
    for key in keys:
        if isinstance(body.get(key), str) and body[key]:
            resolved[key] = str(base / body[key])
    plugin = body.get("exec")
    if isinstance(plugin, dict) and isinstance(plugin.get("command"), str) and os.sep in plugin["command"]:
        resolved["exec"] = {**plugin, "command": str(base / plugin["command"])}
    return resolved


def _named(merged: Mapping[str, Any], section: str, name: object) -> dict[str, Any] | None:
    found = [one for one in merged[section] if one["name"] == name]
    return dict(found[0][_ENTRY[section]]) if found else None
