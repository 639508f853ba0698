"""What a user sees: data on stdout, everything else on stderr, colour only where a person looks.

Colour needs a terminal, no NO_COLOR (https://no-color.org) and a TERM that is not `dumb`; piped output is plain. Lines
are flushed at once, because they are progress. Nothing here knows what is printed, so of all text that reaches a
terminal only characters and colours do (escapes.py); what is piped passes byte for byte, as kubectl's does.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, TextIO

from k8sddp import errors
from k8sddp.cli import bottom, escapes

_SGR: Final = {"red": "31", "green": "32", "yellow": "33", "bold": "1", "dim": "2"}
_PLUGIN: Final = "kubectl-k8sddp"  # kubectl runs a program of this name as `kubectl k8sddp`
_bottom: Final = bottom.Bottom()  # of stderr, where it is a terminal


def prepare() -> None:
    """Make stdin, stdout and stderr such that everything can be written, whatever the caller has made of them.

    A closed one (`>&-`) becomes the null device: Python has None for it, so that notes would go to stdout, and the next
    pipe or file would get its number. A character that stdout's encoding has not is written as an escape.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    sys.stdin = sys.stdin or open(0, closefd=False)  # noqa: SIM115  descriptors that live as long as we
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115  as above
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115  as above
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # what stderr does anyway


def program() -> str:
    """Return the name by which the user called us, as usage lines and hints show it."""
    return "kubectl k8sddp" if sys.argv[0].rpartition("/")[2] == _PLUGIN else "k8sddp"


def out(text: str) -> None:
    """Print data on stdout.

    Raises K8sddpError where it cannot be written (a full disk); a closed pipe stays BrokenPipeError.
    """
    with _writing():
        _make_way_on_stdout()
        print(_safe(text, sys.stdout), flush=True)


def raw(data: bytes) -> None:
    """Write log bytes to stdout, exactly as they came unless it is a terminal; raises as `out` does."""
    with _writing():
        _make_way_on_stdout()
        sys.stdout.flush()
        sys.stdout.buffer.write(escapes.clean_bytes(data) if sys.stdout.isatty() else data)
        sys.stdout.buffer.flush()


def line(data: bytes) -> None:
    """Write one log line, given without its line end, to stdout."""
    raw(data + b"\n")


def note(text: str) -> None:
    """Print a line of progress on stderr; where that is a full disk nobody hears it, and nothing ends by it."""
    try:
        _make_way()
        print(_safe(text, sys.stderr), file=sys.stderr, flush=True)
    except BrokenPipeError:
        raise
    except OSError:
        pass


def stand(row: str) -> None:
    """Draw a row below what has been printed; the next line takes its place. An empty one takes it away."""
    _bottom.row = row.encode(sys.stderr.encoding, "backslashreplace")
    _to_stderr(_bottom.drawn())


def wipe() -> None:
    """Take the row away for good, and the `^C` that a terminal may have written where it stood."""
    _bottom.row = b""
    _to_stderr(_bottom.wiped())


def _make_way() -> None:
    """Take away what stands where the next line goes."""
    _to_stderr(_bottom.erased())


def _make_way_on_stdout() -> None:
    if _bottom.is_drawn and sys.stdout.isatty():  # else it is a file, and nothing stands in the way there
        _make_way()


def _to_stderr(data: bytes) -> None:
    if data:
        with contextlib.suppress(OSError):  # nobody misses it
            sys.stderr.flush()
            sys.stderr.buffer.write(data)
            sys.stderr.buffer.flush()


def hint(text: str) -> None:
    """Print what the user may do next."""
    _labelled("hint", "dim", text)


def warning(text: str) -> None:
    """Print something that does not stop us but that the user must know."""
    note(warning_text(text))


def warning_text(text: str) -> str:
    """Return what `warning` prints."""
    return _painted("warning: ", "yellow") + text


def error(text: str) -> None:
    """Print why the command ends."""
    _labelled("error", "red", text)


def traceback() -> None:
    """Print the traceback of the exception that is being handled."""
    import traceback as library

    note(library.format_exc().rstrip("\n"))


def result(text: str, *, good: bool) -> None:
    """Print how a job ended, green or red."""
    note(result_text(text, good=good))


def result_text(text: str, *, good: bool) -> str:
    """Return how a job ended as `result` prints it."""
    return _painted(text, "green" if good else "red")


def paint(text: str, colour: str, *, tty: bool, environ: Mapping[str, str]) -> str:
    """Return `text` in `colour` (a key of the table above) where the reader is a person who wants it, else as it is."""
    plain = not tty or "NO_COLOR" in environ or environ.get("TERM") == "dumb"
    return text if plain else f"\x1b[{_SGR[colour]}m{text}\x1b[0m"


def _safe(text: str, stream: TextIO) -> str:
    """Return `text`, which may be a stranger's, as this stream may show it."""
    return escapes.clean(text) if stream.isatty() else text


def _painted(text: str, colour: str) -> str:
    """Return `text` as stderr shows it."""
    return paint(text, colour, tty=sys.stderr.isatty(), environ=os.environ)


@contextlib.contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise errors.K8sddpError(f"standard output: cannot be written ({error.strerror})") from error


def _labelled(label: str, colour: str, text: str) -> None:
    note(_painted(f"{label}: ", colour) + text)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return columns as kubectl prints them: padded to the widest cell, three spaces apart, no line at all before."""
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    return "\n".join(
        "   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (header, *rows)
    )
