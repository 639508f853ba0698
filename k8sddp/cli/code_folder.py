"""Reads the code folder: which of its files travel, and why it cannot when it cannot.

Every entry that cannot travel is named at once: a link that leads out of the folder or nowhere, a socket, a pipe, a
device, a file that cannot be read. A link inside the folder travels as what it points to; empty folders do not travel,
nor does the job file itself.
Reads only; packing and its limit are `render/bundle.py`.

`.k8sddpignore` at the top of the folder is read as git reads .gitignore (by pathspec); ignore files below the top are
not known, and nothing below an ignored folder is looked at.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from k8sddp import constants, errors
from k8sddp.cli import scripts
from k8sddp.render.bundle import CodeFile

IGNORE_FILE: Final = ".k8sddpignore"
# What no training needs; a line such as `!venv` in the ignore file takes one back
DEFAULT_IGNORES: Final = (
    *(".git", ".hg", ".svn", ".k8sddp", IGNORE_FILE),
    *("__pycache__", "*.pyc", ".venv", "venv", "node_modules", ".DS_Store"),
    *(".ipynb_checkpoints", ".mypy_cache", ".ruff_cache", ".pytest_cache"),
)
MAX_RAW: Final = 64 * 1024 * 1024  # no code packs from this to below 1 MiB: reading on would only cost time
MAX_FILES: Final = 10_000  # each costs a zip some 100 bytes whatever is in it
MAX_DEPTH: Final = 100  # folders in folders; Python's own limit is some 900
_BIGGEST: Final = 5
_REMEDY: Final = f"name in {IGNORE_FILE} what need not travel, or put the code into the image, or data on a volume"


class _Entry(NamedTuple):
    """A file that travels: its name in the folder and its status, links followed."""

    name: str
    status: os.stat_result


_Identity = tuple[int, int]  # device and inode
_Ignored = Callable[[str, bool], bool]


def read(path: Path, *, command: Sequence[str] = (), job_file: Path | None = None) -> tuple[CodeFile, ...]:
    """Return the files below `path` that travel, sorted by name.

    `command` is spec.command: a script that it names must be among them. `job_file` stays behind unless a word of
    `command` names it: a comment in job.yaml is no change of the code. Raises CodeError, naming every entry that cannot
    travel.
    """
    folder = _folder(path)
    problems: list[str] = []
    entries = [entry for entry in _checked(folder, path, problems) if not _stays(entry, command, job_file)]
    files = [file for entry in entries if (file := _file(folder, entry, problems)) is not None]
    if problems:
        entry_count = "1 entry" if len(problems) == 1 else f"{len(problems)} entries"
        listed = "".join(f"\n  {problem}" for problem in sorted(problems))
        raise errors.CodeError(f"{path}: {entry_count} cannot travel; mend it, or name it in {IGNORE_FILE}:{listed}")
    if not files:
        raise errors.CodeError(f"{path}: holds no file that travels; name another folder in spec.code.path")
    scripts.check(path, command, {file.name: file.data for file in files}, ignore_file=IGNORE_FILE)
    return tuple(sorted(files))


def _folder(path: Path) -> Path:
    try:
        folder = path.resolve(strict=True)
        with os.scandir(folder):
            return folder
    except FileNotFoundError as error:
        raise errors.CodeError(f"{path}: no such folder; spec.code.path is relative to job.yaml") from error
    except NotADirectoryError as error:
        raise errors.CodeError(f"{path}: is a file; spec.code.path names the folder that travels") from error
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links, before Python 3.13
        reason = getattr(error, "strerror", None) or "the link leads to itself"
        raise errors.CodeError(f"{path}: the folder cannot be read ({reason})") from error
    except ValueError as error:  # a NUL in the name
        raise errors.CodeError(f"{str(path)!r}: is not the name of a folder") from error


def _stays(entry: _Entry, command: Sequence[str], job_file: Path | None) -> bool:
    """Return whether `entry` is the job file, under whatever name, and the script is not told to read it."""
    if job_file is None or entry.name in {os.path.normpath(word.rpartition("=")[2]) for word in command}:
        return False
    try:
        return _identity(entry.status) == _identity(job_file.stat())
    except OSError:
        return False  # a pipe of the shell's, closed by now


def _checked(folder: Path, path: Path, problems: list[str]) -> Iterator[_Entry]:
    """Yield the entries that travel; raise where it is hopeless, before anything has been read."""
    entries: list[_Entry] = []
    size = 0
    for entry in _walk(folder, "", (_identity(folder.stat()),), ignored=_ignores(folder), problems=problems):
        entries.append(entry)
        size += entry.status.st_size
        if size > MAX_RAW or len(entries) > MAX_FILES:
            reached = f"more than {MAX_RAW // 1024**2} MiB" if size > MAX_RAW else f"more than {MAX_FILES} files"
            biggest = sorted(entries, key=lambda entry: (-entry.status.st_size, entry.name))[:_BIGGEST]
            listed = "".join(f"\n  {entry.status.st_size / 1024**2:8.1f} MiB  {entry.name}" for entry in biggest)
            raise errors.CodeError(
                f"{path}: holds {reached}, the limit is {constants.MAX_CODE_ZIP // 1024} KiB packed; {_REMEDY}; "
                f"the biggest files so far:{listed}"
            )
        yield entry


def _walk(
    folder: Path, prefix: str, above: tuple[_Identity, ...], *, ignored: _Ignored, problems: list[str]
) -> Iterator[_Entry]:
    """Yield the files below `prefix`; `above` are the folders on the way there, so that links cannot make a circle."""
    try:
        names = sorted(place.name for place in (folder / prefix).iterdir())
    except OSError as error:
        problems.append(f"{prefix}: the folder cannot be read ({error.strerror})")
        return
    for name in names:
        relative = f"{prefix}{name}"
        place = folder / relative
        if not ignored(relative, _is_folder(place)):
            try:
                status = _status(folder, place, above)
            except _CannotTravelError as error:
                problems.append(f"{_shown(relative)}: {error}")
                continue
            if stat.S_ISDIR(status.st_mode):
                below = (*above, _identity(status))
                yield from _walk(folder, f"{relative}/", below, ignored=ignored, problems=problems)
            else:
                yield _Entry(relative, status)


class _CannotTravelError(Exception):
    """Why an entry cannot travel."""


# Kinds of entries that are no files: stat's test -> what people call it
_KINDS: Final = (
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def _status(folder: Path, place: Path, above: Sequence[_Identity]) -> os.stat_result:
    """Return the status of what travels as `place`; raise _CannotTravelError with the reason."""
    try:
        str(place).encode()
        link = place.is_symlink()
        target = place.resolve(strict=True)
        status = target.stat()
    except UnicodeEncodeError as error:
        raise _CannotTravelError("the name is not UTF-8") from error
    except FileNotFoundError as error:
        raise _CannotTravelError(f"the link leads nowhere ({_shown(str(place.readlink()))})") from error
    except (OSError, RuntimeError) as error:
        if isinstance(error, RuntimeError) or error.errno == errno.ELOOP:  # before Python 3.13, and since
            raise _CannotTravelError("the link leads to itself") from error
        raise _CannotTravelError(f"cannot be read ({error.strerror})") from error
    if link and not target.is_relative_to(folder):
        raise _CannotTravelError(f"the link leads out of the folder ({_shown(str(place.readlink()))})")
    if _identity(status) in above:
        raise _CannotTravelError(f"the link leads back to a folder that it lies in ({_shown(str(place.readlink()))})")
    if stat.S_ISDIR(status.st_mode) and len(above) > MAX_DEPTH:
        raise _CannotTravelError(f"lies in more than {MAX_DEPTH} folders")
    for is_kind, kind in _KINDS:
        if is_kind(status.st_mode):
            raise _CannotTravelError(f"is {kind}, not a file")
    return status


def _file(folder: Path, entry: _Entry, problems: list[str]) -> CodeFile | None:
    try:
        data = (folder / entry.name).read_bytes()
    except OSError as error:
        problems.append(f"{entry.name}: cannot be read ({error.strerror})")
        return None
    return CodeFile(entry.name, data, bool(entry.status.st_mode & stat.S_IXUSR))


def _is_folder(place: Path) -> bool:
    try:
        return place.is_dir()
    except OSError:
        return False


def _shown(name: str) -> str:
    return name.encode("utf-8", "replace").decode()


def _identity(status: os.stat_result) -> _Identity:
    return status.st_dev, status.st_ino


def _ignores(folder: Path) -> _Ignored:
    """Return the function that tells whether a relative name (and whether it is a folder) is ignored."""
    import pathspec

    file = folder / IGNORE_FILE
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines() if file.is_file() else []
    except (OSError, ValueError) as error:
        raise errors.CodeError(f"{file}: cannot be read as UTF-8 text ({error})") from error
    for number, line in enumerate(lines, start=1):
        try:
            pathspec.GitIgnoreSpec.from_lines([line], backend="simple")
        except (ValueError, re.error) as error:
            raise errors.CodeError(f"{file}:{number}: `{line.strip()}` is not a pattern ({error})") from error
    spec = pathspec.GitIgnoreSpec.from_lines([*DEFAULT_IGNORES, *lines], backend="simple")
    patterns = [pattern for pattern in reversed(spec.patterns) if pattern.include is not None]

    def ignored(name: str, is_folder: bool) -> bool:
        if not is_folder:
            return spec.match_file(name)
        # pathspec decides about files; for a folder itself git lets the last pattern that matches it decide
        return any(next(([p.include] for p in patterns if p.match_file(f"{name}/")), [False]))

    return ignored
