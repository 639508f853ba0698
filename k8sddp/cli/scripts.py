"""Whether the code folder holds what `spec.command` starts: the script, or the module after -m; is it Python at all?

The code folder is the ranks' working directory, so a relative script must be in it, and so must a module, unless it is
the standard library's, torch's or a tool's that runs a script. What an absolute path names is the image's business.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Final

from k8sddp import errors

# Packages of the image that are started with -m to run something else: profilers, debuggers, coverage
_TOOLS: Final = frozenset(
    {"torch", "coverage", "debugpy", "viztracer", "scalene", "memray", "line_profiler", "kernprof", "memory_profiler"}
    | {"pyinstrument", "pudb", "ipdb", "mpi4py", "ddtrace"}
)
ALIKE: Final = 0.8  # of difflib: `trian.py` is meant for `train.py`, `eval.py` is not
_ELF: Final = b"\x7fELF"


def check(path: Path, command: Sequence[str], files: Mapping[str, bytes], *, ignore_file: str) -> None:
    """Check that the files that travel with `path`, name to content, hold what `command` starts.

    Raises CodeError.
    """
    if command and command[0] == "-m" and len(command) > 1:
        _check_module(path, command[1], files, ignore_file=ignore_file)
    elif command and not command[0].startswith(("/", "-")):
        _check_script(path, command[0], files, ignore_file=ignore_file)


def _check_script(path: Path, written: str, files: Mapping[str, bytes], *, ignore_file: str) -> None:
    name = os.path.normpath(written)
    if name in files:
        kind = _no_python(name, files[name])
        if kind:
            raise errors.CodeError(
                f"spec.command names {written}, which is {kind}, not Python; name the Python script that it starts"
            )
    elif f"{name}/__main__.py" not in files:  # python runs such a folder
        raise _missing(path, written, _near(name, files), there=(path / name).is_file(), ignore_file=ignore_file)


def _check_module(path: Path, module: str, files: Mapping[str, bytes], *, ignore_file: str) -> None:
    top, name = module.partition(".")[0], module.replace(".", "/")
    if top in sys.stdlib_module_names or top in _TOOLS:
        return
    if f"{name}.py" in files or f"{name}/__main__.py" in files:
        return
    if any(file.startswith(f"{name}/") for file in files):
        raise errors.CodeError(
            f"spec.command names the package {module}, which has no __main__.py; name one of its modules"
        )
    there = any((path / file).is_file() for file in (f"{name}.py", f"{name}/__main__.py"))
    raise _missing(path, f"the module {module}", _near(f"{name}.py", files), there=there, ignore_file=ignore_file)


def _missing(path: Path, what: str, near: Sequence[str], *, there: bool, ignore_file: str) -> errors.CodeError:
    fate = f"it is there, but ignored: see {ignore_file}" if there else "the code folder lacks it"
    hint = f"; did you mean [{near[0]}]?" if near and not there else "; correct spec.command or spec.code.path"
    return errors.CodeError(f"spec.command names {what}, which does not travel with {path} ({fate}){hint}")


def _near(name: str, files: Collection[str]) -> Sequence[str]:
    """Return the files that end like `name`, the nearest to the top first; else those that are written alike."""
    import difflib

    found = [file for file in files if file.endswith(f"/{name}")] or list(_same_name(name, files))
    alike = [file for file in files if file.endswith(".py")]
    return sorted(found, key=lambda file: (file.count("/"), file)) or difflib.get_close_matches(
        name, alike, n=1, cutoff=ALIKE
    )


def _same_name(name: str, files: Collection[str]) -> Iterator[str]:
    wanted = PurePosixPath(name).name
    return (file for file in files if PurePosixPath(file).name == wanted)


def _no_python(name: str, data: bytes) -> str:
    """Return what a file is that Python cannot run, the empty string where it may be Python."""
    if data.startswith(_ELF):
        return "a program"
    first = data.partition(b"\n")[0]
    if name.endswith(".py") or not first.startswith(b"#!") or b"python" in first:
        return ""
    return f"a script for {first[2:].decode('utf-8', 'replace').strip()[:40]}"
