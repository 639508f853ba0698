"""`k8sddp run --local` and who reads it: gone, full, stuck or a terminal; through the installed program.

The scripts import no torch, but the worker wants to see that it is there.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import os
import pty
import re
import signal
import subprocess
import termios
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.local import jobs, pods
from tests.unit.cli import program

pytestmark = [
    pytest.mark.torch,
    pytest.mark.skipif(
        importlib.util.find_spec("torch") is None, reason="torch is not installed: pip install 'k8sddp[torch]'"
    ),
    pytest.mark.usefixtures("nothing_left"),
]
CHATTY = "import time\nfor i in range(10**6): print('tick', i, flush=True); time.sleep(0.01)"
QUIET = "import time\nprint('tick', flush=True); time.sleep(600)"
FLOOD = "import time\nwhile True: print('x' * 1000, flush=True)"
BAR = """
import sys, time
for i in range(20):
    sys.stderr.write(f"\\r{i}%|####|"); sys.stderr.flush(); time.sleep(0.1)
sys.stderr.write("\\n")
print("\\x1b[31mred\\x1b]0;title\\x07\\x1b[2J", flush=True)
"""


class Started:
    """A started `k8sddp run --local`."""

    def __init__(self, folder: Path, script: str, *, lines: str = "") -> None:
        self.mark = f"mark-{uuid.uuid4()}"
        self.folder = jobs.write(folder / "job", script, lines=f"env: {{MARK: {self.mark}}}\n  {lines}")

    @contextlib.contextmanager
    def process(self, stdout: int, **popen: Any) -> Iterator[subprocess.Popen[bytes]]:
        """Give the process; end it if the test has not."""
        command = [program.SCRIPTS / "k8sddp", "run", "--local", "job.yaml"]
        options = {"stdin": subprocess.DEVNULL, "stderr": subprocess.PIPE} | popen
        with subprocess.Popen(command, cwd=self.folder, stdout=stdout, **options) as process:
            try:
                yield process
            finally:
                process.kill()

    def assert_ended(self, process: subprocess.Popen[bytes], code: int) -> str:
        """Check that it ends with `code`, that no pod was started again and nothing is left; return its stderr."""
        said = process.communicate(timeout=60)[1]
        assert code == process.returncode, said
        assert b"replaces it" not in (said or b"")
        assert [] == pods.alive(self.mark)
        return (said or b"").decode()


@pytest.mark.parametrize("script", [pytest.param(CHATTY, id="printing"), pytest.param(QUIET, id="silent")])
def test_a_reader_that_goes_away_ends_the_run(tmp_path: Path, script: str) -> None:
    """`| head -8`, or a pager that is left: 141 as for any program, whether or not a rank prints again."""
    run = Started(tmp_path, script)
    read, write = os.pipe()
    with run.process(write) as process:
        os.close(write)
        with open(read, "rb") as lines:  # noqa: PTH123
            while b"tick" not in lines.readline():
                pass
        said = run.assert_ended(process, 141)
    assert "nobody reads standard output any more: stopping 2 pods within 5 s" in said


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="/dev/full is a Linux device")  # noqa: PTH110
def test_a_full_disk_ends_the_run(tmp_path: Path) -> None:
    """One sentence that says why, and exit code 1."""
    run = Started(tmp_path, CHATTY)
    full = os.open("/dev/full", os.O_WRONLY)
    with run.process(full) as process:
        os.close(full)
        said = run.assert_ended(process, 1)
    assert "error: standard output: cannot be written (No space left on device), so the run was ended\n" in said


def test_a_closed_stdout_starts_nothing(tmp_path: Path) -> None:
    """`>&-`: a run ends with its reader, and there is none."""
    run = Started(tmp_path, CHATTY)
    line = f"exec {program.SCRIPTS / 'k8sddp'} run --local job.yaml >&-"
    done = subprocess.run(["sh", "-c", line], cwd=run.folder, capture_output=True, text=True, timeout=60, check=False)
    assert 1 == done.returncode
    assert done.stderr.startswith("error: standard output is closed, and a local run ends with its reader")


@pytest.mark.parametrize("both", [False, True], ids=["stderr is read", "stderr is stuck too"])
@pytest.mark.parametrize(
    ("number", "code"),
    [
        pytest.param(signal.SIGINT, 130, id="Ctrl-C"),
        pytest.param(signal.SIGTERM, 143, id="SIGTERM"),
        pytest.param(None, 64, id="deadline"),
    ],
)
def test_a_stuck_reader_holds_the_ranks_but_not_the_end(
    tmp_path: Path, *, number: signal.Signals | None, code: int, both: bool
) -> None:
    """Nobody reads, the pipe is full, and Ctrl-C, SIGTERM and the deadline end the run all the same."""
    run = Started(tmp_path, FLOOD, lines="activeDeadlineSeconds: 8" if number is None else "")
    read, write = os.pipe()
    with run.process(write, **({"stderr": write} if both else {})) as process:
        os.close(write)
        if number is not None:
            pods.until(lambda: len(pods.alive(run.mark)) >= 6, seconds=60)  # keepers, workers, ranks
            process.send_signal(number)
        said = run.assert_ended(process, code)
    os.close(read)
    assert both or ("activeDeadlineSeconds is over" if number is None else f"interrupted by {number.name}") in said


def test_a_terminal_sees_the_bar_in_place_and_no_escapes(tmp_path: Path) -> None:
    """The whole way from a rank's tqdm to the user's screen."""
    run = Started(tmp_path, BAR)
    shown, written = pty.openpty()
    with run.process(written, stderr=written, env={**os.environ, "TERM": "xterm", "CI": ""}) as process:
        os.close(written)
        seen = b""
        with contextlib.suppress(OSError):  # EIO: the last writer is gone
            while data := os.read(shown, 1 << 16):
                seen += data
        os.close(shown)
        run.assert_ended(process, 0)
    assert len(re.findall(rb"\x1b\[K\[rank \d\] \d+%\|####\|", seen)) > 5
    assert re.search(rb"(?:\r\n|\x1b\[K)\[rank 1\] \x1b\[31mred\x1b\[0m\r\n", seen)
    assert b"title" not in seen
    assert b"\x1b[2J" not in seen


def test_a_terminal_that_is_closed_ends_the_run(tmp_path: Path) -> None:
    """SIGHUP, and every further write fails: all pods end, and none is started again."""
    run = Started(tmp_path, CHATTY)
    shown, written = pty.openpty()

    def own_terminal() -> None:
        fcntl.ioctl(1, termios.TIOCSCTTY, 0)

    with run.process(written, stderr=written, start_new_session=True, preexec_fn=own_terminal) as process:
        os.close(written)
        seen = b""
        while b"tick" not in seen:
            seen += os.read(shown, 1 << 16)
        os.close(shown)
        assert process.wait(timeout=60) in (1, 129)  # which of the two it meets first
    assert [] == pods.alive(run.mark)
