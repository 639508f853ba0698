"""Signals to a local run, and its own sudden end: pods stop politely, then at once, and none is left."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.local import pods

pytestmark = pytest.mark.usefixtures("nothing_left")

# What the command line does with `local.run`, without the command line.
CALLER = """
import json, sys
from pathlib import Path
from k8sddp import local
def out(data):
    sys.stdout.buffer.write(data)
    sys.stdout.flush()
def report(text):
    print(text, flush=True)
with local.Output(out, report) as output:
    result = local.run([json.loads(sys.argv[1])], work_dir=Path(sys.argv[2]), output=output)
    output.finish()
sys.exit(result.exit_code)
"""


@contextlib.contextmanager
def caller(tmp_path: Path, job: dict[str, Any], **popen: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Start a process that calls `local.run`; end it if the test has not."""
    command = [sys.executable, "-c", CALLER, json.dumps(job), str(tmp_path / "wd")]
    with subprocess.Popen(command, **{"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT} | popen) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("number", "code"),
    [
        pytest.param(signal.SIGINT, 130, id="Ctrl-C"),
        pytest.param(signal.SIGTERM, 143, id="a supervisor"),
        pytest.param(signal.SIGHUP, 129, id="a closed terminal"),
    ],
)
def test_a_signal_stops_the_pods_politely(tmp_path: Path, number: signal.Signals, code: int) -> None:
    """Each pod gets SIGTERM and may save; the result says what interrupted it."""
    run = pods.Run(tmp_path, on_line=lambda data: os.kill(os.getpid(), number) if b"up" in data else None)
    handler = signal.getsignal(number)

    result = run(pods.POLITE)

    assert ("interrupted", code, number.name) == (result.state, result.exit_code, result.reason)
    assert [b"up", b"saved"] == run.printed.splitlines()
    assert [f"{number.name}: stopping 1 pod within 5 s; once more kills"] == run.reported
    assert signal.getsignal(number) == handler
    assert [] == pods.alive(run.mark)


def test_sigquit_reaches_the_programs_of_all_pods_and_ends_none(tmp_path: Path) -> None:
    """Ctrl-\\ asks every worker for its ranks' stacks."""
    program = """
import signal
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGQUIT})
signal.signal(signal.SIGQUIT, lambda *_: None)
print("up", flush=True)
signal.sigwait({signal.SIGQUIT})
print("asked", flush=True)
"""
    seen: list[bytes] = []

    def on_line(data: bytes) -> None:
        seen.append(data)
        if b"".join(seen).count(b"up\n") == 2:
            seen.clear()
            os.kill(os.getpid(), signal.SIGQUIT)

    run = pods.Run(tmp_path, on_line=on_line)
    handler = signal.getsignal(signal.SIGQUIT)
    assert "complete" == run(program, nnodes=2).state
    assert [b"asked", b"asked", b"up", b"up"] == sorted(run.printed.splitlines())
    assert [] == run.reported
    assert signal.getsignal(signal.SIGQUIT) == handler


def test_sigquit_does_not_harm_a_program_that_has_no_handler_for_it_yet(tmp_path: Path) -> None:
    """As for PID 1 of a container: a worker that has just started has none."""
    program = "import time\nprint('up', flush=True)\ntime.sleep(0.5)\nprint('done', flush=True)\n"
    run = pods.Run(tmp_path, on_line=lambda data: os.kill(os.getpid(), signal.SIGQUIT) if b"up" in data else None)
    assert "complete" == run(program).state
    assert [b"up", b"done"] == run.printed.splitlines()


def test_a_second_signal_kills_at_once(tmp_path: Path) -> None:
    """The grace period is not waited for after a second Ctrl-C."""

    run = pods.Run(
        tmp_path,
        on_line=lambda data: os.kill(os.getpid(), signal.SIGINT) if b"up" in data else None,
        on_report=lambda _: os.kill(os.getpid(), signal.SIGINT),
    )
    started = time.monotonic()

    result = run(pods.STUBBORN, grace=100)

    assert 130 == result.exit_code
    assert time.monotonic() - started < 20
    assert [] == pods.alive(run.mark)


def test_a_stubborn_pod_is_killed_after_its_grace_period(tmp_path: Path) -> None:
    """SIGTERM ignored, SIGKILL follows for the whole tree."""
    run = pods.Run(tmp_path, on_line=lambda data: os.kill(os.getpid(), signal.SIGTERM) if b"up" in data else None)

    assert 143 == run(pods.STUBBORN, grace=1).exit_code
    assert [] == pods.alive(run.mark)


def test_control_c_in_a_terminal(tmp_path: Path) -> None:
    """The terminal's SIGINT reaches only us, and the pods are stopped in order."""
    mark = f"mark-{uuid.uuid4()}"
    leader, follower = pty.openpty()
    job = pods.marked_job(pods.POLITE, mark)

    def own_terminal() -> None:
        import fcntl
        import termios

        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    with caller(
        tmp_path, job, stdin=follower, stdout=follower, stderr=follower, start_new_session=True, preexec_fn=own_terminal
    ) as process:
        os.close(follower)
        seen = b""
        while b"up" not in seen:
            seen += os.read(leader, 1000)
        os.write(leader, b"\x03")
        assert 130 == process.wait(timeout=20)
        with contextlib.suppress(OSError):
            while data := os.read(leader, 1000):
                seen += data
    os.close(leader)
    assert b"SIGINT: stopping 1 pod within" in seen
    assert b"saved" in seen
    assert [] == pods.alive(mark)


@pytest.mark.parametrize(
    "program", [pytest.param(pods.POLITE, id="polite"), pytest.param(pods.STUBBORN, id="stubborn")]
)
def test_nothing_outlives_a_sigkill_of_the_caller(tmp_path: Path, program: str) -> None:
    """The pods and their scratch folders end although nobody is left to end them."""
    mark = f"mark-{uuid.uuid4()}"
    with caller(tmp_path, pods.marked_job(program, mark, nnodes=2, grace=1)) as process:
        assert process.stdout is not None
        seen = [process.stdout.readline(), process.stdout.readline()]
        assert [b"up\n"] * 2 == seen
        assert len(pods.alive(mark)) >= 4
        process.kill()
        process.wait()
        pods.until(lambda: not pods.alive(mark))


def test_the_short_path_to_a_pods_tmp_ends_with_the_pod(tmp_path: Path) -> None:
    """A link in /tmp, where the user's TMPDIR is long: the keepers remove it when nobody else is left."""
    mark = f"mark-{uuid.uuid4()}"
    program = "import os, signal\nprint(os.environ['TMPDIR'], flush=True)\nsignal.pause()"
    with caller(tmp_path, pods.marked_job(program, mark, nnodes=2, grace=1)) as process:
        assert process.stdout is not None
        folders = [Path(process.stdout.readline().decode().strip()) for _ in range(2)]
        assert all(folder.is_dir() for folder in folders)
        assert {True} == {folder.parent.is_symlink() for folder in folders}
        process.kill()
        process.wait()
        pods.until(lambda: not any(os.path.lexists(folder.parent) for folder in folders))
