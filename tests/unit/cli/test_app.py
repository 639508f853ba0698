"""The program as a whole: what it loads, how it ends, what it says when it is called wrongly."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from k8sddp import errors
from k8sddp.cli import app, screen
from tests.unit.cli import program

HEAVY = ("pydantic", "yaml", "jinja2", "kubernetes", "torch", "rich")


def loaded_after(statement: str) -> set[str]:
    """Return the top-level modules that a fresh interpreter holds after `statement`."""
    code = f"import sys\n{statement}\nprint(*{{name.partition('.')[0] for name in sys.modules}}, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


@pytest.mark.parametrize(
    "statement",
    [
        pytest.param("import k8sddp.cli.app", id="import"),
        pytest.param("from k8sddp.cli.app import main; main(['--help'])", id="help"),
        *(
            pytest.param(f"from k8sddp.cli.app import main; main([{name!r}, '--help'])", id=f"{name}-help")
            for name in app.COMMANDS
        ),
        pytest.param("from k8sddp.cli.app import main; main(['version', '--client'])", id="version"),
    ],
)
def test_help_and_version_load_no_heavy_library(statement: str) -> None:
    """Start-up time is a promise: heavy libraries come with the work that needs them."""
    assert set() == loaded_after(statement) & set(HEAVY)


def test_help_names_every_command_and_the_examples() -> None:
    """`k8sddp --help` is where a newcomer begins."""
    ended = program.k8sddp("--help")
    assert 0 == ended.code
    assert "" == ended.err
    assert all(f"\n  {name} " in ended.out for name in app.COMMANDS)
    assert "  k8sddp run --local job.yaml\n" in ended.out


def test_no_words_show_the_help() -> None:
    """Like kubectl, the bare program explains itself and is content."""
    assert program.k8sddp("--help") == program.k8sddp()


def test_kubectl_plugin_is_shown_as_the_user_typed_it() -> None:
    """Called through kubectl, usage and examples begin with `kubectl k8sddp`."""
    ended = program.k8sddp("render", "--help", program="kubectl-k8sddp")
    assert ended.out.startswith("Usage: kubectl k8sddp render ")
    assert "  kubectl k8sddp render job.yaml\n" in ended.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        pytest.param(["rendr"], "no such command 'rendr'; did you mean 'render'?", id="near-command"),
        pytest.param(["frobnicate"], "no such command 'frobnicate'; there are validate, ", id="far-command"),
        pytest.param(["render", "--outptu", "json", "x"], "no such option", id="option"),
        pytest.param(["render"], "FILE is missing; - reads stdin", id="no-file"),
        pytest.param(["render", ""], "FILE is missing; - reads stdin", id="empty-file-name"),
        pytest.param(["render", "a", "-f", "b"], "FILE and -f FILE are given; one is enough", id="two-files"),
        pytest.param(["render", "-o", "toml", "x"], "'toml'", id="choice"),
        pytest.param(["version", "--request-timeout", "soon"], "'soon' is not a duration; write 30s", id="duration"),
        pytest.param(["logs", "digits", "--since", "99999999999h"], "is longer than a year; write 30s", id="for ever"),
    ],
)
def test_wrong_call_is_one_sentence_and_exit_2(words: list[str], message: str) -> None:
    """A wrong flag is answered with the rule, and a hint where the help is."""
    ended = program.k8sddp(*words)
    assert 2 == ended.code
    assert "" == ended.out
    error, hint = ended.err.splitlines()
    assert error.startswith("error: ")
    assert message in error
    assert hint.startswith("hint: k8sddp ") and hint.endswith("--help")


@pytest.mark.parametrize(
    "words",
    [["--local", "--replace"], ["--local", "-n", "research"], ["--work-dir", "w"], ["--fault", "lose-node 1"]],
    ids=["replace", "namespace", "work-dir", "fault"],
)
def test_run_refuses_what_belongs_to_its_other_place(words: list[str]) -> None:
    """Nothing is accepted and ignored: a cluster has no work folder, this machine no namespace."""
    ended = program.k8sddp("run", *words, "job.yaml")
    assert (2, "") == (ended.code, ended.out)
    assert "--local" in ended.err
    assert "job.yaml: " not in ended.err


def test_own_errors_are_one_sentence_with_their_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    """An expected error never shows a traceback."""

    def refuse() -> None:
        raise errors.WaitTimeoutError("digits: not complete after 5 s")

    assert 4 == app.guarded(refuse)
    assert "error: digits: not complete after 5 s\n" == capsys.readouterr().err


def test_debug_shows_the_traceback_of_an_expected_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """K8SDDP_DEBUG=1 keeps the chain of causes in sight."""
    monkeypatch.setenv("K8SDDP_DEBUG", "1")

    def refuse() -> None:
        raise errors.UnreachableError("no answer") from ConnectionRefusedError("port 6443")

    assert 1 == app.guarded(refuse)
    shown = capsys.readouterr().err
    assert "ConnectionRefusedError: port 6443" in shown
    assert shown.endswith("error: no answer\n")


def test_unexpected_error_is_called_a_bug_and_keeps_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    """What a report needs is on the screen: the traceback, the version and where to say it."""
    assert app.BUG == app.guarded(lambda: {}["missing"])
    shown = capsys.readouterr().err
    assert "Traceback (most recent call last)" in shown
    assert "error: KeyError: 'missing'; this is a bug in k8sddp " in shown


def test_interrupt_ends_with_130(capsys: pytest.CaptureFixture[str]) -> None:
    """Ctrl-C is no error and has nothing to say."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    assert 130 == app.guarded(interrupt)
    assert "" == capsys.readouterr().err


def test_closed_pipe_is_quiet() -> None:
    """`k8sddp --help | head -0` ends as any program that writes into a closed pipe."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as closed:
        done = subprocess.run(
            [program.SCRIPTS / "k8sddp", "--help"], stdout=closed, stderr=subprocess.PIPE, timeout=30, check=False
        )
    assert (app.READER_GONE, b"") == (done.returncode, done.stderr)


def test_closed_stderr_is_a_reader_that_went_away_too() -> None:
    """`k8sddp wrong 2>&1 | true`: what cannot be said about an error is no other error."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as closed:
        done = subprocess.run([program.SCRIPTS / "k8sddp", "wrong"], stderr=closed, timeout=30, check=False)
    assert app.READER_GONE == done.returncode


def test_a_full_disk_behind_stderr_changes_no_exit_code() -> None:
    """A script reads the code of the job, not that of what is said about it."""
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run([program.SCRIPTS / "k8sddp", "wrong"], stderr=full, timeout=30, check=False)
    assert 2 == done.returncode


@pytest.mark.parametrize(
    ("words", "closed", "code", "out", "err"),
    [
        pytest.param("validate nope.yaml", "2>&-", 2, "", "", id="stderr"),
        pytest.param("version --client", ">&-", 0, "", "", id="stdout"),
        pytest.param("validate - 2>&1", "<&-", 2, "error: <stdin> has 1 problem\n", "", id="stdin"),
    ],
)
def test_closed_stream_is_as_good_as_the_null_device(words: str, closed: str, code: int, out: str, err: str) -> None:
    """Nothing that belongs on one stream comes out of another, and nothing is a bug."""
    line = f"exec {program.SCRIPTS / 'k8sddp'} {words} {closed}"
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=30, check=False)
    assert (code, True, err) == (done.returncode, done.stdout.startswith(out), done.stderr)
    assert bool(out) == bool(done.stdout)


def test_logs_go_to_a_closed_stdout_too() -> None:
    """`run job.yaml >&-` follows the job all the same."""
    line = f"exec {sys.executable} -c '{_WRITE_RAW}' >&-"
    assert 0 == subprocess.run(["sh", "-c", line], timeout=30, check=False).returncode


_WRITE_RAW = 'from k8sddp.cli import screen; screen.prepare(); screen.raw(b"line")'


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="/dev/full is a Linux device")  # noqa: PTH110
def test_full_disk_is_one_sentence() -> None:
    """Output that cannot be written is not passed over in silence."""
    with open("/dev/full", "wb") as full:  # noqa: PTH123
        done = subprocess.run(
            [program.SCRIPTS / "k8sddp", "version", "--client"], stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert (1, b"error: standard output: cannot be written (No space left on device)\n") == (
        done.returncode,
        done.stderr,
    )


def test_module_is_the_program_too() -> None:
    """The GPU tests start a checkout that is not installed; ending with 0 and silence would look like success."""
    words = [sys.executable, "-m", "k8sddp.cli.app", "version", "--client"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
    assert (0, program.k8sddp("version", "--client").out) == (done.returncode, done.stdout)


def test_version_needs_no_cluster() -> None:
    """`version` is for bug reports: an unreachable cluster is part of its answer."""
    ended = program.k8sddp("version", "--client")
    assert (0, "") == (ended.code, ended.err)
    assert ended.out.startswith("k8sddp 0.")
    assert f"Python {sys.version.split()[0]}\n" in ended.out


@pytest.mark.parametrize(
    ("write", "stream"),
    [
        pytest.param('screen.raw(b"a\\x1b[2Jb\\n")', "stdout", id="log"),
        pytest.param('screen.out("a\\x1b[2Jb")', "stdout", id="table"),
        pytest.param('screen.note("a\\x1b[2Jb")', "stderr", id="remark"),
        pytest.param('screen.error("\\x9b2Jb")', "stderr", id="answer of the API server"),
    ],
)
@pytest.mark.parametrize("tty", [True, False], ids=["terminal", "pipe"])
def test_foreign_escapes_reach_no_terminal(write: str, stream: str, *, tty: bool) -> None:
    """On a terminal only text and colours; a pipe gets what there is."""
    shown, written = pty.openpty() if tty else os.pipe()
    code = f"from k8sddp.cli import screen; screen.prepare(); {write}"
    subprocess.run([sys.executable, "-c", code], **{stream: written}, timeout=30, check=True)  # type: ignore[call-overload]
    seen = os.read(shown, 1000).decode()
    os.close(written)
    os.close(shown)
    assert tty != ("\x1b[2J" in seen or "\x9b2J" in seen)


class Terminal:
    """A stream that says whether it is a terminal."""

    def __init__(self, *, tty: bool) -> None:
        self.tty = tty

    def isatty(self) -> bool:
        """Return what the test asked for."""
        return self.tty


@pytest.mark.parametrize(
    ("tty", "environ", "coloured"),
    [
        pytest.param(True, {"TERM": "xterm"}, True, id="terminal"),
        pytest.param(False, {"TERM": "xterm"}, False, id="piped"),
        pytest.param(True, {"TERM": "xterm", "NO_COLOR": ""}, False, id="no-color"),
        pytest.param(True, {"TERM": "dumb"}, False, id="dumb"),
    ],
)
def test_colour_only_where_a_person_looks(tty: bool, environ: dict[str, str], coloured: bool) -> None:
    """Piped output and NO_COLOR get plain text."""
    painted = screen.paint("x", "red", tty=Terminal(tty=tty).isatty(), environ=environ)
    assert ("\x1b[31mx\x1b[0m" if coloured else "x") == painted


def test_table_pads_columns_as_kubectl_does() -> None:
    """Columns stand three spaces apart and no line ends in blanks."""
    assert "NAME     AGE\ndigits   5s\na        12m" == screen.table(("NAME", "AGE"), [("digits", "5s"), ("a", "12m")])
