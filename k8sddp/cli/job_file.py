"""job.yaml as a command meets it: FILE or `-f FILE`, `-` for stdin, the spec in it and the code folder beside it.

A file that cannot be read is one sentence and exit code 2. `code.path` is relative to job.yaml, and to the current
folder when the text comes from stdin. Nothing is written.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from k8sddp import errors

if TYPE_CHECKING:
    from pathlib import Path

    from k8sddp.manifest import Manifest
    from k8sddp.render import bundle
    from k8sddp.spec import DDPJob

MAX_BYTES = 1024 * 1024  # etcd takes no larger object; a file above it is not a job.yaml


STDIN = "<stdin>"


class Loaded(NamedTuple):
    """A job.yaml that is valid, its code folder packed."""

    source: str
    job: DDPJob
    code: bundle.Code | None

    def manifests(self, *, only_preflight: bool = False) -> tuple[Manifest, ...]:
        """Return what the cluster, or `run --local`, is given."""
        from k8sddp import render

        return render.render(self.job, code=self.code, only_preflight=only_preflight)

    def code_folder(self) -> Path | None:
        """Return the folder that travels, as an absolute path; None without one."""
        from pathlib import Path

        if self.job.spec.code is None or self.job.spec.code.path is None:
            return None
        return Path(_folder_of(self.source) / self.job.spec.code.path).absolute()

    def summary(self) -> str:
        """Return the job in one line: `digits, 2 nodes x 1 process = 2 ranks, gloo`."""
        spec = self.job.spec
        shape = [_count(spec.nnodes, "node"), _count(spec.nproc_per_node, "process"), _count(spec.world_size, "rank")]
        return f"{self.job.name}, {shape[0]} x {shape[1]} = {shape[2]}, {spec.backend}"


def argument(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command one job file, positional or as kubectl's `-f`; its function gets it as `file`."""

    @click.argument("file", required=False, metavar="FILE")
    @click.option("-f", "--filename", metavar="FILE", help="The job file, as for kubectl; - reads stdin.")
    @functools.wraps(function)
    def with_file(*, file: str | None, filename: str | None, **others: Any) -> Any:
        given = [name for name in (file, filename) if name]  # an unset shell variable is an empty word
        if len(given) != 1:
            problem = "FILE and -f FILE are given; one is enough" if given else "FILE is missing; - reads stdin"
            raise click.UsageError(problem, click.get_current_context())
        return function(file=given[0], **others)

    return with_file


def load(file: str) -> Loaded:
    """Read and check `file` (`-`: stdin), and pack its code folder.

    Raises UsageError (cannot be read), SpecError (not valid) or CodeError (the code folder cannot travel).
    """
    from pathlib import Path

    from k8sddp import spec

    text = _read(file)
    source = STDIN if file == "-" else file
    job = spec.load(text, source=source)
    return Loaded(source, job, _pack(job, None if file == "-" else Path(file)))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "es" if noun.endswith("s") else "s")


def _pack(job: DDPJob, file: Path | None) -> bundle.Code | None:
    if job.spec.code is None or job.spec.code.path is None:
        return None

    from k8sddp.cli import code_folder
    from k8sddp.render import bundle

    folder = _folder_of(str(file or STDIN)) / job.spec.code.path
    return bundle.pack(code_folder.read(folder, command=job.spec.command, job_file=file))


def _folder_of(source: str) -> Path:
    """Return what spec.code.path is relative to."""
    from pathlib import Path

    return Path() if source == STDIN else Path(source).parent


def _read(file: str) -> str:
    from pathlib import Path

    name = "standard input" if file == "-" else file
    try:
        if file == "-":
            data = sys.stdin.buffer.read(MAX_BYTES + 1)
        else:
            with Path(file).open("rb") as stream:
                data = stream.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise errors.UsageError(f"{name}: there is no such file") from error
    except IsADirectoryError as error:
        raise errors.UsageError(f"{name}: is a folder; name the job.yaml in it") from error
    except OSError as error:
        raise errors.UsageError(f"{name}: cannot be read ({error.strerror})") from error
    except ValueError as error:  # a NUL in the name
        raise errors.UsageError(f"{name!r}: is not a file name") from error
    if len(data) > MAX_BYTES:
        raise errors.UsageError(f"{name}: is larger than 1 MiB; a job.yaml is a short text")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise errors.UsageError(f"{name}:{line}: is not UTF-8 text (byte {data[error.start]:#04x})") from error
