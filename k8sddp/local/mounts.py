"""Volumes of the rendered pod -> folders on this machine, and container paths -> paths in them. Pure.

There are no mounts without root, so a path is rewritten where it stands alone: a whole environment value or argument,
or the part behind its first `=`. A path that a script spells out in its own source is not found; on a cluster the same
script works. ConfigMaps must be among the rendered manifests, and everything else that only a cluster has is refused by
name, because a job that quietly runs without its data is worse than one that does not run.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from k8sddp import errors
from k8sddp.manifest import Manifest


@dataclass(frozen=True)
class Folders:
    """Where the volumes of one pod lie: what is kept after the run, and what is not."""

    claims: Path  # one folder per PersistentVolumeClaim, shared by the pods
    kept: Path  # the pod's own emptyDirs
    work: Path  # where the code is unpacked; what the script adds is kept
    scratch: Path  # the pod's own folders that end with the run
    temporary: Path  # the pod's /tmp
    memory: Path  # the same in memory; /dev/shm where it can be written


@dataclass(frozen=True)
class Mount:
    """One mounted volume; `kept` names it in the report after the run and is empty for scratch."""

    container_path: PurePosixPath
    folder: Path
    files: Mapping[Path, bytes]
    kept: str = ""
    shared: bool = False


def of_pod(
    pod_spec: Mapping[str, Any], *, folders: Folders, own: Mapping[str, Path], configs: Sequence[Manifest]
) -> tuple[Mount, ...]:
    """Return the mounts of the only container, the deepest path first.

    `own` are the container paths of k8sddp itself, with the folders that an emptyDir there is; any other emptyDir is
    the user's and kept.
    Raises LocalError naming a volume that this machine does not have.
    """
    volumes = {volume["name"]: volume for volume in pod_spec.get("volumes") or ()}
    mounts = [
        _mount(volumes[entry["name"]], entry, folders=folders, own=own, configs=configs)
        for entry in pod_spec["containers"][0].get("volumeMounts") or ()
    ]
    return tuple(sorted(mounts, key=lambda mount: len(mount.container_path.parts), reverse=True))


def relocate(text: str, mounts: Sequence[Mount]) -> str:
    """Return `text` with the container path that it is, or that follows its first `=`, as a path of this machine."""
    moved = _moved(text, mounts)
    if moved is not None:
        return moved
    name, equals, value = text.partition("=")
    moved = _moved(value, mounts) if equals else None
    return text if moved is None else f"{name}={moved}"


def _moved(text: str, mounts: Sequence[Mount]) -> str | None:
    for mount in mounts:
        root = str(mount.container_path)
        if text == root or text.startswith(root.rstrip("/") + "/"):
            return str(mount.folder) + text[len(root.rstrip("/")) :]
    return None


def _mount(
    volume: Mapping[str, Any],
    entry: Mapping[str, Any],
    *,
    folders: Folders,
    own: Mapping[str, Path],
    configs: Sequence[Manifest],
) -> Mount:
    name, path = volume["name"], PurePosixPath(entry["mountPath"])
    files: Mapping[Path, bytes] = {}
    kept, shared = "", False
    if "configMap" in volume:
        root = folders.scratch / "volumes" / name
        files = _files(volume, root=root, configs=configs)
    elif "persistentVolumeClaim" in volume:
        root, kept, shared = _below(folders.claims, volume["persistentVolumeClaim"]["claimName"], name), name, True
    elif ("emptyDir" in volume or "ephemeral" in volume) and str(path) not in own:
        root, kept = folders.kept / name, name
    elif "emptyDir" in volume:
        root = own[str(path)]
    else:
        raise errors.LocalError(_refusal(volume))
    folder = _below(root, entry["subPath"], name) if entry.get("subPath") else root
    return Mount(path, folder, files, kept, shared)


def _files(volume: Mapping[str, Any], *, root: Path, configs: Sequence[Manifest]) -> Mapping[Path, bytes]:
    source = volume["configMap"]
    config = next((config for config in configs if config["metadata"]["name"] == source["name"]), None)
    if config is None:
        raise errors.LocalError(
            f"volume {volume['name']}: ConfigMap {source['name']!r} exists only on a cluster; run it there, or give "
            "the files with code.path"
        )
    contents = {key: text.encode() for key, text in (config.get("data") or {}).items()}
    contents |= {key: base64.b64decode(text) for key, text in (config.get("binaryData") or {}).items()}
    items = {item["key"]: item["path"] for item in source.get("items") or ()} or {key: key for key in contents}
    missing = sorted(set(items) - set(contents))
    if missing:
        raise errors.LocalError(f"volume {volume['name']}: ConfigMap {source['name']!r} has no key {missing[0]!r}")
    return {_below(root, path, volume["name"]): contents[key] for key, path in items.items()}


def _below(folder: Path, name: str, volume: str) -> Path:
    """Return `name` in `folder`; raises LocalError where it leads out of it."""
    path = PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts:
        raise errors.LocalError(f"volume {volume}: {name!r} leads out of the volume; use a relative path without ..")
    return folder / path


def _refusal(volume: Mapping[str, Any]) -> str:
    source = ", ".join(sorted(set(volume) - {"name"})) or "no source"
    return (
        f"volume {volume['name']}: {source} exists only on a cluster; run it there, or use persistentVolumeClaim or "
        "emptyDir, which are folders here"
    )
