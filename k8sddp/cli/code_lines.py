"""Lines of the user's program, as it runs in the pods: out of the ConfigMap that the code has travelled in.

The port from which stacks come shows no text of a program, because anybody may read it; who may read the ConfigMap may
read the code. It is immutable, so a line that is found is the line that runs. Code that is in the image, in a volume or
in a ConfigMap that this user may not read has no lines here, and that is all that happens.
"""

from __future__ import annotations

import base64
import binascii
import functools
import io
import zipfile
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from k8sddp import errors
from k8sddp.cli import jobs
from k8sddp.manifest import Manifest, Ref
from k8sddp.worker.contract import node_env
from k8sddp.worker.contract.stacks import Frame

if TYPE_CHECKING:
    from k8sddp import cluster

MAX_FILE: Final = 1 << 22  # bytes of a file, unpacked


def of_job(connection: cluster.Cluster, job: Manifest) -> Callable[[Frame], str]:
    """Return a function that gives the text of a frame's line, empty where it is not known."""
    archive: list[zipfile.ZipFile | None] = []
    env = jobs.environment(job)
    folder, name = env.get(node_env.WORK_DIR, "").rstrip("/") + "/", env.get(node_env.CODE_CONFIG_MAP, "")

    @functools.cache
    def lines(file: str) -> tuple[str, ...]:
        if not archive:
            archive.append(_archive(connection, name, key=env.get(node_env.CODE_ZIP, "").rpartition("/")[2]))
        return _lines(archive[0], file.removeprefix(folder)) if archive[0] else ()

    def line(frame: Frame) -> str:
        if not name or folder == "/" or not frame.file.startswith(folder):
            return ""
        found = lines(frame.file)
        return found[frame.line - 1] if 0 < frame.line <= len(found) else ""

    return line


def _archive(connection: cluster.Cluster, name: str, *, key: str) -> zipfile.ZipFile | None:
    try:
        found = connection.get(Ref("v1", "ConfigMap", name), patient=False) or {}
        data = base64.b64decode((found.get("binaryData") or {}).get(key) or "")
        return zipfile.ZipFile(io.BytesIO(data))
    except (errors.ClusterError, binascii.Error, zipfile.BadZipFile):
        return None


def _lines(archive: zipfile.ZipFile, name: str) -> tuple[str, ...]:
    try:
        with archive.open(name) as file:
            return tuple(file.read(MAX_FILE).decode("utf-8", "replace").splitlines())
    except (KeyError, OSError, zipfile.BadZipFile, RuntimeError, NotImplementedError):
        return ()
