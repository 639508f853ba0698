"""Unpacks the job's code folder, with member checks of our own.

Only regular files with relative, normal names; no links, no devices, nothing twice, nothing outside; count and size are
bounded before anything is written and while it is. Running again over the same folder gives the same files. Whoever can
write the ConfigMap can run any code anyway: this keeps out mistakes and a zip that would fill the disk. It is done in a
process of its own, because what it needs would stay in the worker's memory as long as the job runs. The digest that the
members compare is made from what was unpacked, whoever packed it.
"""

from __future__ import annotations

import os
import signal
import stat
import sys

from . import root_cause

MAX_FILES = 10_000
MAX_BYTES = 256 * 1024 * 1024
MAX_PROBLEM = 4096  # bytes of what the worker is told
_PROBLEM = "!"  # before a problem; else the digest is told


class CodeZipError(Exception):
    """The zip file cannot be unpacked; the message says which member and why."""


def unpack(path: str, folder: str, config_map: str = "") -> str:
    """Unpack the zip file at `path`, which the ConfigMap holds, into `folder`; return the digest of what is in it.

    Raises CodeZipError, and RuntimeError or OSError where the process that unpacks cannot start or dies.
    """
    if not os.path.isfile(path):
        raise CodeZipError(
            "ConfigMap %s has no key %s: it must hold the code folder, as a zip file, under that key"
            % (config_map or "of the code", os.path.basename(path))
        )
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        _unpack_and_exit(path, folder, write)
    os.close(write)
    with open(read, "rb") as pipe:
        told = pipe.read().decode(errors="replace")
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if told.startswith(_PROBLEM):
        raise CodeZipError(told[len(_PROBLEM) :])
    if code:
        how = "was ended by %s" % root_cause.signal_name(-code) if code < 0 else "failed"
        raise RuntimeError("the process that unpacks %s into %s %s" % (path, folder, how))
    return told


def _unpack_and_exit(path: str, folder: str, write: int) -> None:
    code = 1
    signal.set_wakeup_fd(-1)  # the parent's
    try:
        try:
            os.write(write, _unpack(path, folder).encode())
        except CodeZipError as error:
            os.write(write, (_PROBLEM + str(error)).encode(errors="replace")[:MAX_PROBLEM])
        code = 0
    except BaseException:  # ours to mend, and nothing of the worker may run in this process
        sys.__excepthook__(*sys.exc_info())
    finally:
        os._exit(code)


def _unpack(path: str, folder: str) -> str:
    import hashlib
    import zipfile
    import zlib

    # EOFError, ValueError, zlib.error: what zipfile lets through of damaged data and of names that are not UTF-8
    damage = (OSError, EOFError, ValueError, zlib.error, zipfile.BadZipFile, NotImplementedError, RuntimeError)

    try:
        with zipfile.ZipFile(path) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
            _check([(m.filename, m.file_size, m.external_attr >> 16) for m in members])
            total = hashlib.sha256()
            for member in sorted(members, key=lambda one: one.filename):
                data, mode = archive.read(member), member.external_attr >> 16
                _write(os.path.join(folder, member.filename), data, mode)
                # as render/bundle.py does: `code.path` has the same digest in the manifest and here
                name = member.filename.encode(errors="surrogateescape")
                total.update(b"%d %d %d\n" % (len(name), bool(mode & 0o100), len(data)))
                total.update(name)
                total.update(data)
            return total.hexdigest()
    except damage as error:
        raise CodeZipError("%s cannot be unpacked into %s: %s" % (path, folder, error)) from None


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
