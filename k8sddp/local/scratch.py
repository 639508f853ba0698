"""The folders and files of a run, and the lock that keeps two runs of one job apart.

What the run needs lies in two temporary folders, one of them in memory, and is removed when the run ends, however it
ends; names are short, because Unix sockets under TMPDIR must stay below 108 characters. The user's volumes lie under
the work folder and are kept; only an emptyDir starts empty, as on a cluster.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from k8sddp import errors
from k8sddp.local import machine as machines
from k8sddp.local import pods


@contextmanager
def places(*, machine: machines.Machine, work_dir: Path, job: str) -> Iterator[pods.Places]:
    """Give a run its places, and remove the temporary ones at the end.

    Raises LocalError where the work folder or the temporary folder cannot be written.
    """
    volumes = work_dir.absolute() / job
    temporary = _writable(machine.temporary)
    with (
        _lock(volumes),
        tempfile.TemporaryDirectory(prefix="k8sddp-", dir=temporary, ignore_cleanup_errors=True) as scratch,
    ):
        memory = Path(scratch) / "memory"
        if machine.shared_memory is not None:
            memory = Path(tempfile.mkdtemp(prefix="k8sddp-", dir=machine.shared_memory))
        try:
            yield pods.Places(scratch=Path(scratch), memory=memory, volumes=volumes)
        finally:
            shutil.rmtree(memory, ignore_errors=True)


def prepare(layout: Sequence[pods.LocalPod]) -> None:
    """Make the folders and write the files of all pods.

    Raises LocalError where the work folder cannot be written.
    """
    for pod in layout:
        pod.folders.scratch.mkdir(parents=True, exist_ok=True)
        for mount in pod.mounts:
            if mount.kept and not mount.shared and mount.folder.is_relative_to(pod.folders.kept):
                shutil.rmtree(mount.folder, ignore_errors=True)
            _make(mount.folder)
            for path, contents in mount.files.items():
                _make(path.parent)
                path.write_bytes(contents)
        pod.cwd.mkdir(parents=True, exist_ok=True)


def discard(pod: pods.LocalPod) -> None:
    """Remove what ends with a pod, as the kubelet does, before another one takes its place."""
    for folder in (pod.folders.scratch, pod.folders.memory):
        shutil.rmtree(folder, ignore_errors=True)


def kept(layout: Sequence[pods.LocalPod]) -> Mapping[str, Path]:
    """Return the user's volumes after a run: `name` for what the pods share, `NAME-INDEX/name` for what they do not."""
    return {
        mount.kept if mount.shared else f"{pod.folders.kept.parent.name}/{mount.kept}": mount.folder
        for pod in layout
        for mount in pod.mounts
        if mount.kept
    }


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise errors.LocalError(
            f"{error.filename or folder}: cannot be written ({error.strerror}); name another folder with --work-dir"
        ) from error


def _writable(folder: Path) -> Path:
    if not os.access(folder, os.W_OK | os.X_OK):
        raise errors.LocalError(f"{folder}: the temporary folder cannot be written; name another one in TMPDIR")
    return folder


@contextmanager
def _lock(volumes: Path) -> Iterator[None]:
    """Hold the name of a job in a work folder.

    An abstract Unix socket: the kernel drops it with its process, it works where the work folder is on NFS, and it
    leaves no file behind.
    """
    name = hashlib.sha256(os.fsencode(volumes.resolve())).hexdigest()
    with socket.socket(socket.AF_UNIX) as lock:
        try:
            lock.bind(f"\0k8sddp-local-{name}")
        except OSError as error:
            raise errors.LocalError(
                f"{volumes}: the job runs here already; wait for it, end it, or rename this one in metadata.name"
            ) from error
        yield
