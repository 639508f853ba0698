"""Unpacks the job's code folder, with member checks of our own.

Only regular files with relative, normal names; no links, no devices, nothing twice, nothing outside; count and size are
bounded before anything is written and while it is. Running again over the same folder gives the same files. Whoever can
write the ConfigMap can run any code anyway: this keeps out mistakes and a zip that would fill the disk.
"""

from __future__ import annotations

import os
import stat

MAX_FILES = 10_000
MAX_BYTES = 256 * 1024 * 1024


class CodeZipError(Exception):
    """The zip file cannot be unpacked; the message says which member and why."""


def unpack(path: str, folder: str) -> int:
    """Unpack the zip file at `path` into `folder` and return the number of files.

    Raises CodeZipError.
    """
    import zipfile  # 30 ms that a job without code need not pay
    import zlib

    # EOFError, ValueError, zlib.error: what zipfile lets through of damaged data and of names that are not UTF-8
    damage = (OSError, EOFError, ValueError, zlib.error, zipfile.BadZipFile, NotImplementedError, RuntimeError)

    try:
        with zipfile.ZipFile(path) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
            _check([(m.filename, m.file_size, m.external_attr >> 16) for m in members])
            for member in members:
                _write(os.path.join(folder, member.filename), archive.read(member), member.external_attr >> 16)
    except damage as error:
        raise CodeZipError("%s cannot be unpacked into %s: %s" % (path, folder, error)) from None
    return len(members)


def _check(members: list[tuple[str, int, int]]) -> None:
    if len(members) > MAX_FILES:
        raise CodeZipError("the code has %d files, the limit is %d" % (len(members), MAX_FILES))
    size = sum(member[1] for member in members)
    if size > MAX_BYTES:
        raise CodeZipError("the code unpacks to %d bytes, the limit is %d" % (size, MAX_BYTES))
    names: set[str] = set()
    for name, _, mode in members:
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
            raise CodeZipError("%r in the code is not a regular file" % name)
        leads_out = name.startswith("/") or ".." in name.split("/")
        if not name or leads_out or "\0" in name or os.path.normpath(name) != name:
            raise CodeZipError("%r in the code is not a plain relative name" % name)
        if name in names:
            raise CodeZipError("%r is twice in the code" % name)
        names.add(name)
    for name in names:
        while "/" in name:
            name = name.rpartition("/")[0]
            if name in names:
                raise CodeZipError("%r in the code is a file and a folder" % name)


def _write(path: str, data: bytes, mode: int) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    temporary = path + ".k8sddp-part"
    with open(temporary, "wb") as file:
        file.write(data)
    os.chmod(temporary, 0o755 if mode & 0o100 else 0o644)
    os.replace(temporary, path)
