"""What travels in ConfigMaps: the worker as a zipapp, and the user's code folder as a zip.

Both are reproducible: sorted names, a fixed date, fixed permissions. A digest is taken over names, modes and contents,
never over compressed bytes, because another zlib compresses to other bytes. Pure but for reading our own package;
walking a folder is `cli/code_folder.py`, unpacking in the pod is the worker's.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.resources
import io
import stat
import zipfile
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from k8sddp import constants, errors

from . import stripping

if TYPE_CHECKING:
    from importlib.abc import Traversable  # importlib.resources.abc is not in Python 3.10

_DATE: Final = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip can hold
_UNIX: Final = 3  # create_system: the system whose permission bits external_attr holds
_LEVEL: Final = 9
_BIGGEST: Final = 5
# Read by any Python there is, so that an old one gets a sentence: 78 is exit_codes.BAD_CONFIGURATION.
_MAIN: Final = b"""import sys

if sys.version_info < (3, 9):
    found = "%s is Python %d.%d" % ((sys.executable,) + tuple(sys.version_info[:2]))
    sys.stderr.write("[k8sddp] %s; 3.9 or newer is needed: name another interpreter in spec.python\\n" % found)
    sys.exit(78)

from k8sddp.worker import main

main.run()
"""


class CodeFile(NamedTuple):
    """One file of a code folder; `name` is relative, with forward slashes."""

    name: str
    data: bytes
    executable: bool = False


class Code(NamedTuple):
    """A packed code folder; `digest` is the SHA-256, in hex, of names, modes and contents."""

    zip: bytes
    digest: str


def pack(files: Sequence[CodeFile]) -> Code:
    """Return `files` as a zip that depends on nothing but them.

    Raises CodeError above constants.MAX_CODE_ZIP, naming the biggest files.
    """
    ordered = sorted(files)
    packed = _zip(ordered)
    if len(packed) > constants.MAX_CODE_ZIP:
        raise errors.CodeError(_too_big(packed))
    return Code(packed, digest(ordered))


def digest(files: Sequence[CodeFile]) -> str:
    """Return the SHA-256, in hex, over name, mode and content of `files`, whatever their order."""
    total = hashlib.sha256()
    for file in sorted(files):
        name = file.name.encode()
        # lengths in front: no two different folders give the same stream
        total.update(b"%d %d %d\n" % (len(name), file.executable, len(file.data)))
        total.update(name)
        total.update(file.data)
    return total.hexdigest()


@functools.cache
def worker_zip() -> bytes:
    """Return the worker as a zipapp: `python worker.pyz` starts it, `k8sddp.worker` is importable from it."""
    return _zip(sorted(_worker_files()))


def _worker_files() -> Iterator[CodeFile]:
    package = importlib.resources.files("k8sddp")
    yield CodeFile("__main__.py", _MAIN)
    yield CodeFile("k8sddp/__init__.py", _source(package.joinpath("__init__.py")))
    yield from _modules(package.joinpath("worker"), "k8sddp/worker")


def _modules(folder: Traversable, name: str) -> Iterator[CodeFile]:
    for entry in folder.iterdir():
        path = f"{name}/{entry.name}"
        if entry.is_dir():
            yield from _modules(entry, path)
        elif entry.name.endswith(".py"):
            yield CodeFile(path, _source(entry))


def _source(module: Traversable) -> bytes:
    return stripping.strip(module.read_bytes().decode()).encode()


def _zip(files: Sequence[CodeFile]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=_LEVEL) as archive:
        for file in files:
            info = zipfile.ZipInfo(file.name, date_time=_DATE)
            info.create_system = _UNIX
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = (stat.S_IFREG | (0o755 if file.executable else 0o644)) << 16
            archive.writestr(info, file.data)
    return buffer.getvalue()


def _too_big(packed: bytes) -> str:
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        biggest = sorted(archive.infolist(), key=lambda info: (-info.compress_size, info.filename))[:_BIGGEST]
    listed = "".join(f"\n  {info.compress_size / 1024:8.0f} KiB  {info.filename}" for info in biggest)
    return (
        f"the code folder is {len(packed) / 1024:.0f} KiB packed, the limit is {constants.MAX_CODE_ZIP // 1024} KiB "
        "(a ConfigMap holds 1 MiB); name in .k8sddpignore what need not travel, or put the code into the image, "
        f"or data on a volume; the biggest files, packed:{listed}"
    )
