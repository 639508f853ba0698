"""The folders and files of a run, and the lock that keeps two runs of one job apart.

What the run needs lies in two temporary folders, one of them in memory, and is removed when the run ends, however it
ends. A pod's own /tmp is reached by a path that is as short as it can be, because a Unix socket's must stay below 108
bytes and scripts make them below TMPDIR. The user's volumes and the pods' working folders lie under the work folder:
claims are kept, an emptyDir starts empty, as on a cluster, and of a working folder the script's own files stay, until
the run after the next.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
import socket
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from k8sddp import errors
from k8sddp.local import machine as machines
from k8sddp.local import pods

PREFIX: Final = "k8"  # of the short folders in /tmp; two characters follow, more where many are taken
FILES: Final = "files"  # of the newest run, in the job's folder
OLD_FILES: Final = "files.old"  # of the run before
_TRIES: Final = 50
_ALPHABET: Final = "abcdefghijklmnopqrstuvwxyz0123456789"


@contextmanager
def places(*, machine: machines.Machine, work_dir: Path, job: str, alone: bool = True) -> Iterator[pods.Places]:
    """Give a run its places, and remove the temporary ones at the end.

    A job that is not `alone` may run here twice at once: the second one then has a folder NAME.2. Raises LocalError
    where the work folder or the temporary folder cannot be written.
    """
    temporary = _writable(machine.temporary)
    with contextlib.ExitStack() as stack:
        volumes = _hold(stack, work_dir.absolute(), job, alone=alone)
        with _writing("name another temporary folder in TMPDIR", path=temporary):
            scratch = _short_folder(temporary)
        stack.callback(shutil.rmtree, scratch, ignore_errors=True)
        link = _short_link(machine, scratch)
        if link is not None:
            stack.callback(link.unlink, missing_ok=True)
        memory = scratch / "memory"
        if machine.shared_memory is not None:
            with _writing("make room in it", path=machine.shared_memory):
                memory = Path(tempfile.mkdtemp(prefix="k8sddp-", dir=machine.shared_memory))
        stack.callback(shutil.rmtree, memory, ignore_errors=True)
        stack.callback(_tidy, volumes)
        yield pods.Places(scratch=scratch, memory=memory, volumes=volumes, files=volumes / FILES, link=link)


def prepare(layout: Sequence[pods.LocalPod]) -> None:
    """Make the folders and write the files of all pods.

    Raises LocalError where the work folder or the temporary folder cannot be written.
    """
    for pod in layout:
        with _writing("name another temporary folder in TMPDIR", path=pod.folders.scratch):
            pod.folders.scratch.mkdir(parents=True, exist_ok=True)
        for mount in pod.mounts:
            if mount.kept and not mount.shared and mount.folder.is_relative_to(pod.folders.kept):
                shutil.rmtree(mount.folder, ignore_errors=True)
            with _writing("name another folder with --work-dir", path=mount.folder):
                mount.folder.mkdir(parents=True, exist_ok=True)
            for path, contents in mount.files.items():
                with _writing("name another temporary folder in TMPDIR", path=path):
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(contents)
        with _writing("name another folder with --work-dir", path=pod.cwd):
            pod.cwd.mkdir(parents=True, exist_ok=True)


def begin(volumes: Path) -> None:
    """Put the files of the newest run aside, and those of the one before it away."""
    files, old = volumes / FILES, volumes / OLD_FILES
    if files.is_dir():
        shutil.rmtree(old, ignore_errors=True)
        with contextlib.suppress(OSError):
            files.rename(old)
    with contextlib.suppress(OSError):  # what needs the folder will say so
        volumes.mkdir(parents=True, exist_ok=True)
        (volumes / ".gitignore").write_text("*\n")  # the work folder may lie in a repository


def discard(pod: pods.LocalPod) -> None:
    """Remove what ends with a pod, as the kubelet does, before another one takes its place."""
    for folder in (pod.folders.scratch, pod.folders.temporary, pod.folders.memory):
        shutil.rmtree(folder, ignore_errors=True)


def kept(layout: Sequence[pods.LocalPod]) -> Mapping[str, Path]:
    """Return the user's volumes after a run: `name` for what the pods share, `NAME-INDEX/name` for what they do not."""
    return {
        mount.kept if mount.shared else f"{pod.folders.kept.parent.name}/{mount.kept}": mount.folder
        for pod in layout
        for mount in pod.mounts
        if mount.kept
    }


@contextmanager
def _writing(remedy: str, *, path: Path) -> Iterator[None]:
    """Turn what keeps the block from writing `path` (a full disk) into a LocalError with a remedy."""
    try:
        yield
    except OSError as error:
        raise errors.LocalError(f"{error.filename or path}: cannot be written ({error.strerror}); {remedy}") from error


def _tidy(volumes: Path) -> None:
    """Remove the job's folder where the run has left nothing in it."""
    with contextlib.suppress(OSError):
        (volumes / FILES).rmdir()
    with contextlib.suppress(OSError):
        if [entry.name for entry in volumes.iterdir()] == [".gitignore"]:
            (volumes / ".gitignore").unlink()
            volumes.rmdir()
            volumes.parent.rmdir()


def _writable(folder: Path) -> Path:
    if not os.access(folder, os.W_OK | os.X_OK):
        raise errors.LocalError(f"{folder}: the temporary folder cannot be written; name another one in TMPDIR")
    return folder


def _short_folder(parent: Path) -> Path:
    for name in _short_names():
        with contextlib.suppress(FileExistsError):
            (parent / name).mkdir(0o700)
            return parent / name
    return Path(tempfile.mkdtemp(prefix="k8sddp-", dir=parent))


def _short_link(machine: machines.Machine, scratch: Path) -> Path | None:
    """Return a link to `scratch` whose path is shorter, None where there is no such place."""
    parent = machine.short_temporary
    if parent is None or len(os.fsencode(scratch.parent)) <= len(os.fsencode(parent)):
        return None
    for name in _short_names():
        with contextlib.suppress(FileExistsError):
            (parent / name).symlink_to(scratch)
            return parent / name
    return None


def _short_names() -> Iterator[str]:
    for length in (2, 4):
        for _ in range(_TRIES):
            yield PREFIX + "".join(secrets.choice(_ALPHABET) for _ in range(length))


def _hold(stack: contextlib.ExitStack, work_dir: Path, job: str, *, alone: bool) -> Path:
    """Hold the name of a job in a work folder and return its folder there.

    An abstract Unix socket: the kernel drops it with its process, it works where the work folder is on NFS, and it
    leaves no file behind.
    """
    for number in range(1, 2 if alone else 100):
        volumes = work_dir / (job if number == 1 else f"{job}.{number}")  # no job's name has a dot
        lock = stack.enter_context(socket.socket(socket.AF_UNIX))
        name = hashlib.sha256(os.fsencode(volumes.resolve())).hexdigest()
        with contextlib.suppress(OSError):
            lock.bind(f"\0k8sddp-local-{name}")
            return volumes
    raise errors.LocalError(
        f"{work_dir / job}: the job runs here already; wait for it, end it, or rename this one in metadata.name"
    )
