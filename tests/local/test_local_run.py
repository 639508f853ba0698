"""Real processes through `local.run`: what they print, how they end, and nothing left behind."""

from __future__ import annotations

import os
import signal
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from k8sddp import errors
from k8sddp.worker.contract import exit_codes
from tests.local import pods

pytestmark = pytest.mark.usefixtures("nothing_left")


def test_lines_of_all_pods_arrive_whole(tmp_path: Path) -> None:
    """Standard output and error of every pod pass through unchanged, an unfinished last line included."""
    run = pods.Run(tmp_path)

    result = run(
        "import os, sys; i = os.environ['K8SDDP_NODE_RANK']; print('out', i); sys.stderr.write('err ' + i)", nnodes=2
    )

    assert ("complete", 0) == (result.state, result.exit_code)
    assert [b"err 0", b"err 1", b"out 0", b"out 1"] == sorted(run.printed.splitlines())


def test_lines_arrive_while_the_pod_runs(tmp_path: Path) -> None:
    """A line is passed on at once, not at the pod's end."""
    go = tmp_path / "go"
    run = pods.Run(tmp_path, on_line=lambda data: go.touch() if b"first" in data else None)

    result = run(
        f"import os, time\nprint('first', flush=True)\nwhile not os.path.exists({str(go)!r}): time.sleep(0.01)"
    )

    assert "complete" == result.state


def test_ten_thousand_lines_are_not_lost(tmp_path: Path) -> None:
    """Output that is still in the pipe when the pod ends is read."""
    run = pods.Run(tmp_path)

    run("import sys; sys.stdout.write('x' * 99 + '\\n'); [print(i) for i in range(10000)]")

    assert [b"x" * 99, *(str(i).encode() for i in range(10000))] == run.printed.splitlines()


def test_the_exit_code_is_the_deciding_pods(tmp_path: Path) -> None:
    """A pod that fails ends the others, and its code is the Job's."""
    run = pods.Run(tmp_path)
    program = "import os, signal, sys\nif os.environ['K8SDDP_NODE_RANK'] == '1': sys.exit(7)\nsignal.pause()"

    result = run(program, nnodes=2)

    assert ("failed", 7, "MaxFailedIndexesExceeded") == (result.state, result.exit_code, result.reason)
    assert [] == pods.alive(run.mark)


def test_index_zero_completes_the_job(tmp_path: Path) -> None:
    """The success policy of the manifest ends the pods that still run."""
    run = pods.Run(tmp_path)
    program = "import os, signal\nif os.environ['K8SDDP_NODE_RANK'] != '0': signal.pause()"

    result = run(program, nnodes=2, successPolicy={"rules": [{"succeededIndexes": "0"}]})

    assert ("complete", "SuccessPolicy") == (result.state, result.reason)
    assert [] == pods.alive(run.mark)


def test_a_pods_end_takes_everything_it_started(tmp_path: Path) -> None:
    """Processes in other sessions, orphans and stopped ones end with their pod, as with a container."""
    run = pods.Run(tmp_path)

    result = run(
        pods.STUBBORN.replace("time.sleep(300)\n", "sys.exit(0)\n").replace("; time.sleep(300)", "; time.sleep(30)")
    )

    assert "complete" == result.state
    assert [] == pods.alive(run.mark)


def test_the_deadline_is_honoured(tmp_path: Path) -> None:
    """activeDeadlineSeconds fails the Job with Kubernetes' reason, also while the pod ignores SIGTERM."""
    run = pods.Run(tmp_path)

    result = run(pods.STUBBORN, activeDeadlineSeconds=1, grace=0)

    assert ("failed", 64, "DeadlineExceeded") == (result.state, result.exit_code, result.reason)
    assert [] == pods.alive(run.mark)


def test_a_pod_killed_from_outside_fails_the_job(tmp_path: Path) -> None:
    """SIGKILL of the pod's program is 137, and what it leaves is ended."""

    def kill(data: bytes) -> None:
        if b"up" in data:
            number = int(data.split()[1])
            os.kill(number, signal.SIGKILL)

    run = pods.Run(tmp_path, on_line=kill)

    result = run(pods.STUBBORN.replace('print("up"', 'print("up", os.getpid()'))

    assert ("failed", 137) == (result.state, result.exit_code)
    assert "pod digits-0 was killed by SIGKILL" in result.message
    assert [] == pods.alive(run.mark)


def test_a_keeper_killed_from_outside_fails_the_job(tmp_path: Path) -> None:
    """Should the keeper itself be killed, its orphans come to us and are ended."""
    run = pods.Run(
        tmp_path, on_line=lambda data: os.kill(int(data.split()[1]), signal.SIGKILL) if b"up" in data else None
    )

    result = run(pods.STUBBORN.replace('print("up"', 'print("up", os.getppid()'))

    assert ("failed", 137) == (result.state, result.exit_code)
    assert [] == pods.alive(run.mark)


def test_an_error_of_the_caller_ends_the_pods(tmp_path: Path) -> None:
    """A closed pipe, for example, passes through `run` after every pod has ended."""

    def closed(_data: bytes) -> None:
        raise BrokenPipeError

    run = pods.Run(tmp_path, on_line=closed)

    with pytest.raises(BrokenPipeError):
        run(pods.STUBBORN)
    assert [] == pods.alive(run.mark)


def test_signals_of_a_container_are_default(tmp_path: Path) -> None:
    """A pod inherits neither ignored nor blocked signals, whatever the caller's shell did.

    But SIGQUIT: without a handler it does nothing to PID 1, and here only ignoring it does the same.
    """
    program = textwrap.dedent("""
        import signal
        asked = signal.valid_signals() - {2, 3, 13, 25}
        ignored = [number for number in asked if signal.getsignal(number) == signal.SIG_IGN]
        status = dict(line.split(":\\t", 1) for line in open("/proc/self/status"))
        print(ignored, int(status["SigBlk"], 16))
    """)
    run = pods.Run(tmp_path)
    before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    try:
        run(program)
    finally:
        signal.signal(signal.SIGUSR1, before)

    assert b"[] 0\n" == run.printed


def test_a_program_that_cannot_be_executed_is_reported(tmp_path: Path) -> None:
    """A file that is no program ends as in a container, with one line: the rendered Jobs fail by that code."""
    broken = tmp_path / "broken"
    broken.write_text("#!/no/such/interpreter\n")
    broken.chmod(0o755)
    run = pods.Run(tmp_path)

    result = run("", container={"command": [str(broken)]})

    assert exit_codes.NOT_STARTED == result.exit_code
    assert result.message.endswith("could not be started")
    assert f"[k8sddp] cannot start {broken}: No such file or directory\n".encode() == run.printed


def test_refusals_start_nothing(tmp_path: Path) -> None:
    """A job that cannot run here leaves no folder and no process."""
    run = pods.Run(tmp_path)
    secret: Sequence[dict[str, Any]] = [{"name": "v", "secret": {"secretName": "s"}}]

    with pytest.raises(errors.LocalError, match="volume v: secret"):
        run("", volumes=secret, mounts=[{"name": "v", "mountPath": "/v"}])

    assert ["tmp"] == [path.name for path in tmp_path.iterdir()]
