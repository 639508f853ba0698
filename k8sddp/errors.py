"""Every error that k8sddp raises on purpose, with the exit code of the command that meets it.

    K8sddpError                     1
    |-- UsageError                  2   flags that do not fit together, a file that cannot be read
    |-- SpecError                   2   job.yaml; carries every problem at once
    |-- CodeError                   2   the code folder cannot travel
    |-- RenderError                 1   a template's text is not the object that was meant
    |-- RefusedError                1   what is asked for would change or lose something that exists
    |-- LocalError                  1   `run --local` cannot do this here
    |-- WaitTimeoutError            4   a wait reached its limit
    |-- DetachedError              69   the job runs on, and we can no longer see it
    `-- ClusterError                1   what the cluster answered, one class per kind of answer
        |-- KubeconfigError         1   no usable kubeconfig or context
        |-- UnreachableError        1   no answer from the API server
        |-- UnauthorizedError       1   401
        |-- ForbiddenError          1   403
        |-- NotFoundError           1   404
        |-- ConflictError           1   409
        |-- InvalidError            1   400, 422, and the 500 of an apply with an unknown field
        |-- NotKubernetesError      1   a 2xx that is no Kubernetes object: a proxy, a login page
        `-- OldKubernetesError      1   below the minimum version

A message says where (path or file:line:column), the value, the rule and the remedy; lower case, no full stop.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_MAX_PROBLEMS = 100  # shown; a generated file may have thousands of the same
_MAX_LINE = 160  # characters shown of a line of job.yaml


class K8sddpError(Exception):
    """Base of all errors that are the user's or the cluster's to mend, shown as one sentence without a traceback."""

    exit_code = 1


class UsageError(K8sddpError):
    """Flags that do not fit together, or a file that cannot be read."""

    exit_code = 2


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong in job.yaml.

    `line` and `column` count from 1 and are 0 where the problem has no place of its own; `path` is the field path as
    the user writes it (`spec.resources.gpu`); `source_line` is the text that the caret points into.
    """

    message: str
    path: str = ""
    line: int = 0
    column: int = 0
    width: int = 1
    source_line: str = ""
    hint: str = ""


class SpecError(K8sddpError):
    """job.yaml has problems; `str()` shows all of them, each with its place, a caret and the remedy."""

    exit_code = 2

    def __init__(self, source: str, problems: Sequence[Problem]) -> None:
        self.source = source
        self.problems = tuple(problems)
        super().__init__(source, self.problems)

    def __str__(self) -> str:
        count = len(self.problems)
        lines = [f"{self.source} has {count} problem{'' if count == 1 else 's'}"]
        for problem in self.problems[:_MAX_PROBLEMS]:
            lines.extend(_problem_lines(self.source, problem))
        if count > _MAX_PROBLEMS:
            lines.append(f"  and {count - _MAX_PROBLEMS} more")
        return "\n".join(lines)


def _problem_lines(source: str, problem: Problem) -> list[str]:
    place = f"{source}:{problem.line}:{problem.column}" if problem.line else source
    where = f"  {place}  " + (f"{problem.path}: " if problem.path else "")
    if not problem.line:
        return [where + problem.message, *([f"      {problem.hint}"] if problem.hint else [])]
    start, text = _clip(problem.source_line, problem.column - 1)
    gutter = f"{problem.line:>6} | "
    indent = " " * _cells(text[: problem.column - 1 - start])
    marks = "^" * max(1, _cells(text[problem.column - 1 - start :][: problem.width]))
    caret = " " * (len(gutter) - 2) + "| " + indent + marks
    return [where + problem.message, gutter + text, caret + (f" {problem.hint}" if problem.hint else "")]


def _clip(line: str, column: int) -> tuple[int, str]:
    """Return the part of a long line that surrounds `column`, and where it starts: one-line JSON is valid YAML."""
    start = 0 if len(line) <= _MAX_LINE else max(0, min(column - _MAX_LINE // 3, len(line) - _MAX_LINE))
    return start, line[start : start + _MAX_LINE]


def _cells(text: str) -> int:
    """Return how many terminal cells `text` takes: Chinese characters take two, combining ones none."""
    if text.isascii():
        return len(text)
    import unicodedata

    wide = sum(unicodedata.east_asian_width(char) in "WF" for char in text)
    return len(text) + wide - sum(unicodedata.combining(char) > 0 for char in text)


class CodeError(K8sddpError):
    """The code folder cannot travel: too big, a link that leads out of it, a file that is not a file."""

    exit_code = 2


class RenderError(K8sddpError):
    """A template's text is not the object that was meant."""


class RefusedError(K8sddpError):
    """What is asked for would change or lose something that exists; the message names the command that does it."""


class LocalError(K8sddpError):
    """`run --local` cannot do this on this machine."""


class WaitTimeoutError(K8sddpError):
    """A wait reached its limit."""

    exit_code = 4


class DetachedError(K8sddpError):
    """The job runs on, and we can no longer see it.

    69 is sysexits' EX_UNAVAILABLE. `run` ends with a rank's own code, 1 to 63, or one of the worker's
    (worker/contract/exit_codes.py): this one is neither, so that nobody takes an API server that is away for a failure.
    """

    exit_code = 69


class ClusterError(K8sddpError):
    """The cluster said no, or nothing; `status` is the HTTP status code, 0 where there was no answer.

    `retry_after` is the number of seconds after which the server wants to be asked again, where it said so.
    """

    def __init__(self, message: str, *, status: int = 0, retry_after: float | None = None) -> None:
        self.status = status
        self.retry_after = retry_after
        super().__init__(message)


class KubeconfigError(ClusterError):
    """There is no usable kubeconfig or context."""


class UnreachableError(ClusterError):
    """The API server does not answer."""


class UnauthorizedError(ClusterError):
    """The API server does not accept the credentials (401)."""


class ForbiddenError(ClusterError):
    """The user may not do this (403)."""


class NotFoundError(ClusterError):
    """There is no such object (404)."""


class ConflictError(ClusterError):
    """Somebody else changed or owns it (409)."""


class InvalidError(ClusterError):
    """The API server does not accept the object (400, 422, or 500 with a schema error in an apply)."""


class NotKubernetesError(ClusterError):
    """Somebody else answered in the API server's place: a proxy, a login page."""


class OldKubernetesError(ClusterError):
    """The API server is older than the minimum version."""
