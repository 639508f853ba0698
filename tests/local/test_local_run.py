"""Real processes through `local.run`: output, ends, interruption, and nothing left behind. No torch, no worker.

Pods here are small Python programs in hand-written manifests. Every process of a run carries a mark in its environment,
so that /proc tells whether one is left.
"""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import textwrap
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from k8sddp import errors, local
from k8sddp.local import faults, machine
from tests.unit.local.builders import make_job

# A pod as bad as it gets: ignores SIGTERM, has a child in another session, and that one has a stopped child.
STUBBORN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
sleep = [sys.executable, "-S", "-c", "import time; time.sleep(300)"]
helper = subprocess.Popen(sleep, start_new_session=True)
orphan = "import os, subprocess, sys; p = subprocess.Popen(sys.argv[1:]); os.kill(p.pid, 19)"
subprocess.run([sys.executable, "-S", "-c", orphan, *sleep], start_new_session=True)
print("up", flush=True)
time.sleep(300)
"""
POLITE = """
import signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
print("up", flush=True)
signal.sigwait({signal.SIGTERM})
print("saved", flush=True)
sys.exit(143)
"""
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
result = local.run([json.loads(sys.argv[1])], work_dir=Path(sys.argv[2]), out=out, report=report)
sys.exit(result.exit_code)
"""


class Run:
    """One call of `local.run` in this process."""

    def __init__(
        self,
        tmp_path: Path,
        *,
        on_line: Callable[[bytes], None] = lambda _: None,
        on_report: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.folder = tmp_path
        self.mark = f"mark-{uuid.uuid4()}"
        self.printed = b""
        self.reported: list[str] = []
        self._on_line = on_line
        self._on_report = on_report

    def __call__(self, program: str, *, asked: Sequence[faults.Fault] = (), **changes: Any) -> local.Result:
        return local.run(
            [marked_job(program, self.mark, **changes)],
            work_dir=self.folder / "wd",
            out=self._out,
            report=self._report,
            machine=machine.observe(),
            asked=asked,
        )

    def _report(self, text: str) -> None:
        self.reported.append(text)
        self._on_report(text)

    def _out(self, data: bytes) -> None:
        self.printed += data
        self._on_line(data)


def marked_job(program: str, mark: str, **changes: Any) -> dict[str, Any]:
    """Return a job whose pods run `program`; the first failure fails it unless `changes` say otherwise."""
    rules: dict[str, Any] = {"backoffLimitPerIndex": 0, "maxFailedIndexes": 0}
    rules |= {"volumes": [{"name": "tmp", "emptyDir": {}}], "mounts": [{"name": "tmp", "mountPath": "/tmp"}]}
    env = {"MARK": mark, "K8SDDP_SCRATCH_DIR": "/tmp"}
    return make_job(command=["python3", "-S", "-c", program], env=env, **rules | changes)


def alive(mark: str) -> list[int]:
    """Return the processes that carry `mark`."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"MARK={mark}".encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
    return found


def until(condition: Callable[[], object], *, seconds: float = 20.0) -> None:
    """Wait for something that no event announces."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.01)


@pytest.fixture(autouse=True)
def nothing_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every test here ends with an empty temporary folder and without new folders in memory."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    before = set(Path("/dev/shm").glob("k8sddp-*"))
    yield
    until(lambda: not list(temporary.iterdir()))
    assert before >= {path for path in Path("/dev/shm").glob("k8sddp-*") if path.stat().st_uid == os.getuid()}


@contextlib.contextmanager
def caller(tmp_path: Path, job: dict[str, Any], **popen: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Start a process that calls `local.run`; end it if the test has not."""
    command = [sys.executable, "-c", CALLER, json.dumps(job), str(tmp_path / "wd")]
    with subprocess.Popen(command, **{"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT} | popen) as process:
        try:
            yield process
        finally:
            process.kill()


def test_lines_of_all_pods_arrive_whole(tmp_path: Path) -> None:
    """Standard output and error of every pod pass through unchanged, an unfinished last line included."""
    run = Run(tmp_path)

    result = run(
        "import os, sys; i = os.environ['K8SDDP_NODE_RANK']; print('out', i); sys.stderr.write('err ' + i)", nnodes=2
    )

    assert ("complete", 0) == (result.state, result.exit_code)
    assert [b"err 0", b"err 1", b"out 0", b"out 1"] == sorted(run.printed.splitlines())


def test_lines_arrive_while_the_pod_runs(tmp_path: Path) -> None:
    """A line is passed on at once, not at the pod's end."""
    go = tmp_path / "go"
    run = Run(tmp_path, on_line=lambda data: go.touch() if b"first" in data else None)

    result = run(
        f"import os, time\nprint('first', flush=True)\nwhile not os.path.exists({str(go)!r}): time.sleep(0.01)"
    )

    assert "complete" == result.state


def test_ten_thousand_lines_are_not_lost(tmp_path: Path) -> None:
    """Output that is still in the pipe when the pod ends is read."""
    run = Run(tmp_path)

    run("import sys; sys.stdout.write('x' * 99 + '\\n'); [print(i) for i in range(10000)]")

    assert [b"x" * 99, *(str(i).encode() for i in range(10000))] == run.printed.splitlines()


def test_the_exit_code_is_the_deciding_pods(tmp_path: Path) -> None:
    """A pod that fails ends the others, and its code is the Job's."""
    run = Run(tmp_path)
    program = "import os, signal, sys\nif os.environ['K8SDDP_NODE_RANK'] == '1': sys.exit(7)\nsignal.pause()"

    result = run(program, nnodes=2)

    assert ("failed", 7, "MaxFailedIndexesExceeded") == (result.state, result.exit_code, result.reason)
    assert [] == alive(run.mark)


def test_index_zero_completes_the_job(tmp_path: Path) -> None:
    """The success policy of the manifest ends the pods that still run."""
    run = Run(tmp_path)
    program = "import os, signal\nif os.environ['K8SDDP_NODE_RANK'] != '0': signal.pause()"

    result = run(program, nnodes=2, successPolicy={"rules": [{"succeededIndexes": "0"}]})

    assert ("complete", "SuccessPolicy") == (result.state, result.reason)
    assert [] == alive(run.mark)


def test_a_pods_end_takes_everything_it_started(tmp_path: Path) -> None:
    """Processes in other sessions, orphans and stopped ones end with their pod, as with a container."""
    run = Run(tmp_path)

    result = run(
        STUBBORN.replace("time.sleep(300)\n", "sys.exit(0)\n").replace("; time.sleep(300)", "; time.sleep(30)")
    )

    assert "complete" == result.state
    assert [] == alive(run.mark)


def test_the_deadline_is_honoured(tmp_path: Path) -> None:
    """activeDeadlineSeconds fails the Job with Kubernetes' reason, also while the pod ignores SIGTERM."""
    run = Run(tmp_path)

    result = run(STUBBORN, activeDeadlineSeconds=1, grace=0)

    assert ("failed", 64, "DeadlineExceeded") == (result.state, result.exit_code, result.reason)
    assert [] == alive(run.mark)


def test_a_pod_killed_from_outside_fails_the_job(tmp_path: Path) -> None:
    """SIGKILL of the pod's program is 137, and what it leaves is ended."""

    def kill(data: bytes) -> None:
        if b"up" in data:
            number = int(data.split()[1])
            os.kill(number, signal.SIGKILL)

    run = Run(tmp_path, on_line=kill)

    result = run(STUBBORN.replace('print("up"', 'print("up", os.getpid()'))

    assert ("failed", 137) == (result.state, result.exit_code)
    assert "pod digits-0 was killed by SIGKILL" in result.message
    assert [] == alive(run.mark)


def test_a_keeper_killed_from_outside_fails_the_job(tmp_path: Path) -> None:
    """Should the keeper itself be killed, its orphans come to us and are ended."""
    run = Run(tmp_path, on_line=lambda data: os.kill(int(data.split()[1]), signal.SIGKILL) if b"up" in data else None)

    result = run(STUBBORN.replace('print("up"', 'print("up", os.getppid()'))

    assert ("failed", 137) == (result.state, result.exit_code)
    assert [] == alive(run.mark)


def test_a_lost_pods_processes_end_while_others_run(tmp_path: Path) -> None:
    """What a killed keeper leaves is ended at once, not when the whole run ends."""
    go = tmp_path / "go"
    left: list[int] = []

    def watch(data: bytes) -> None:
        if b"up" in data:
            os.kill(int(data.split()[1]), signal.SIGKILL)
        elif b"tail" in data:
            left.extend(alive(run.mark))
            go.touch()

    run = Run(tmp_path, on_line=watch)
    waits = f"import os, time\nwhile not os.path.exists({str(go)!r}): time.sleep(0.01)"
    loses = STUBBORN.replace('print("up"', 'print("up", os.getppid(), end="\\ntail"')
    program = f"import os\nexec({waits!r} if os.environ['K8SDDP_NODE_RANK'] == '0' else {loses!r})"

    result = run(program, nnodes=2, backoffLimitPerIndex=1, successPolicy={"rules": [{"succeededIndexes": "0"}]})

    assert "complete" == result.state
    assert 2 == len(left), "the other pod and its keeper"


# The first pod of index 1 kills itself and leaves orphans; its replacement says who it is and what is left of the old
# one, and lets index 0 complete the Job.
LOSES_ITSELF = """
import os, signal, subprocess, sys, time
name, go = os.environ["K8SDDP_POD_NAME"], "GO"
if os.environ["K8SDDP_NODE_RANK"] == "0":
    while not os.path.exists(go):
        time.sleep(0.01)
elif name == "digits-1":
    open(os.environ["K8SDDP_SCRATCH_DIR"] + "/k8sddp-fault-0", "w")
    sleep = [sys.executable, "-S", "-c", "import time; time.sleep(300)"]
    subprocess.Popen(sleep, start_new_session=True)
    os.kill(os.getpid(), signal.SIGKILL)
else:
    left = 0
    for entry in os.listdir("/proc"):
        try:
            left += b"K8SDDP_POD_NAME=digits-1\\0" in open(f"/proc/{entry}/environ", "rb").read()
        except OSError:
            continue
    print(name, os.environ["K8SDDP_FAILURE_COUNT"], os.environ["K8SDDP_IGNORED_COUNT"] or "-", end=" ")
    print(left, os.listdir(os.environ["TMPDIR"]))
    open(go, "w")
"""
INDEX_0_DECIDES = {"successPolicy": {"rules": [{"succeededIndexes": "0"}]}}
IGNORES_LOST_NODES = {
    "podFailurePolicy": {
        "rules": [{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]
    }
}


@pytest.mark.parametrize(
    ("asked", "rules", "counts", "how"),
    [
        pytest.param((), {"backoffLimitPerIndex": 1}, "1 -", "was killed by SIGKILL", id="killed: counted"),
        pytest.param(
            (faults.Fault(faults.LOSE_NODE, 1, 1),),
            IGNORES_LOST_NODES,
            "0 1",
            "was lost with its node",
            id="lost with its node: ignored",
        ),
    ],
)
def test_a_lost_pod_is_replaced_when_all_of_it_has_ended(
    tmp_path: Path, asked: Sequence[faults.Fault], rules: dict[str, Any], counts: str, how: str
) -> None:
    """A pod of the same index with a new name and the Job's counts starts after the last process of the old one."""
    run = Run(tmp_path)

    program = LOSES_ITSELF.replace("GO", str(tmp_path / "go"))

    result = run(program, asked=asked, nnodes=2, **INDEX_0_DECIDES | rules)

    assert ("complete", "SuccessPolicy") == (result.state, result.reason)
    assert [f"digits-1-2 {counts} 0 []"] == run.printed.decode().splitlines()
    assert [f"pod digits-1 {how}; digits-1-2 replaces it in 1 s"] == run.reported
    assert [] == alive(run.mark)


def test_the_limit_of_an_index_is_the_jobs(tmp_path: Path) -> None:
    """A pod that is killed once too often fails the Job, in the name of the last one."""
    run = Run(tmp_path)

    result = run("import os; print('up', flush=True); os.kill(os.getpid(), 9)", backoffLimitPerIndex=1)

    assert ("failed", 137, "MaxFailedIndexesExceeded") == (result.state, result.exit_code, result.reason)
    assert [b"up", b"up"] == run.printed.splitlines()
    assert "pod digits-0-2 was killed by SIGKILL" in result.message


IGNORES = {
    "podFailurePolicy": {"rules": [{"action": "Ignore", "onExitCodes": {"operator": "In", "values": [79, 143]}}]}
}


def test_a_follower_that_leaves_is_not_replaced_before_the_job_ends(tmp_path: Path) -> None:
    """It leaves with 79 when the gang has ended; index 0 follows with the result, and nothing is said of it."""
    run = Run(tmp_path)
    program = (
        "import os, sys, time\nprint('up', flush=True)\nif os.environ['K8SDDP_NODE_RANK'] == '1': sys.exit(79)\n"
        "time.sleep(1.5)"  # longer than the back-off after any other end
    )

    result = run(program, nnodes=2, **INDEX_0_DECIDES | IGNORES)

    assert "complete" == result.state
    assert [b"up", b"up"] == run.printed.splitlines()
    assert [] == run.reported


def test_nothing_is_replaced_after_control_c(tmp_path: Path) -> None:
    """Also while no pod runs and one is due."""
    run = Run(tmp_path, on_report=lambda _: os.kill(os.getpid(), signal.SIGINT))

    result = run("import sys; print('up', flush=True); sys.exit(143)", **IGNORES)

    assert ("interrupted", 130) == (result.state, result.exit_code)
    assert b"up\n" == run.printed
    assert ["pod digits-0 was stopped by SIGTERM; digits-0-2 replaces it in 1 s"] == run.reported


def test_nothing_is_replaced_after_the_deadline(tmp_path: Path) -> None:
    """activeDeadlineSeconds ends a Job that waits for a replacement."""
    run = Run(tmp_path)
    started = time.monotonic()

    result = run("import sys; print('up', flush=True); sys.exit(79)", activeDeadlineSeconds=1, **IGNORES)

    assert ("failed", "DeadlineExceeded") == (result.state, result.reason)
    assert b"up\n" == run.printed
    assert time.monotonic() - started < 9  # the back-off is 10 s


def test_a_fault_that_never_happened_is_said(tmp_path: Path) -> None:
    """The ranks get the fault, none brings it about, and the run ends with a sentence about it."""
    run = Run(tmp_path)

    result = run(
        "import os; print(os.environ['K8SDDP_FAULTS'])", asked=[faults.parse("lose-node 0", nnodes=1, nproc_per_node=1)]
    )

    assert "complete" == result.state
    assert b"lose-node node=0 step=1 attempt=0\n" == run.printed
    assert [
        "the fault `lose-node node=0 step=1 attempt=0` never happened: in attempt 0, node 0 made no optimizer step 1"
    ] == run.reported


def test_an_error_of_the_caller_ends_the_pods(tmp_path: Path) -> None:
    """A closed pipe, for example, passes through `run` after every pod has ended."""

    def closed(_data: bytes) -> None:
        raise BrokenPipeError

    run = Run(tmp_path, on_line=closed)

    with pytest.raises(BrokenPipeError):
        run(STUBBORN)
    assert [] == alive(run.mark)


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
    run = Run(tmp_path, on_line=lambda data: os.kill(os.getpid(), number) if b"up" in data else None)
    handler = signal.getsignal(number)

    result = run(POLITE)

    assert ("interrupted", code, number.name) == (result.state, result.exit_code, result.reason)
    assert [b"up", b"saved"] == run.printed.splitlines()
    assert [f"{number.name}: stopping 1 pod within 5 s; once more kills"] == run.reported
    assert signal.getsignal(number) == handler
    assert [] == alive(run.mark)


def test_a_second_signal_kills_at_once(tmp_path: Path) -> None:
    """The grace period is not waited for after a second Ctrl-C."""

    def twice(data: bytes) -> None:
        if b"up" in data:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    run = Run(tmp_path, on_line=twice)
    started = time.monotonic()

    result = run(STUBBORN, grace=100)

    assert 130 == result.exit_code
    assert time.monotonic() - started < 20
    assert [] == alive(run.mark)


def test_a_stubborn_pod_is_killed_after_its_grace_period(tmp_path: Path) -> None:
    """SIGTERM ignored, SIGKILL follows for the whole tree."""
    run = Run(tmp_path, on_line=lambda data: os.kill(os.getpid(), signal.SIGTERM) if b"up" in data else None)

    assert 143 == run(STUBBORN, grace=1).exit_code
    assert [] == alive(run.mark)


def test_control_c_in_a_terminal(tmp_path: Path) -> None:
    """The terminal's SIGINT reaches only us, and the pods are stopped in order."""
    mark = f"mark-{uuid.uuid4()}"
    leader, follower = pty.openpty()
    job = marked_job(POLITE, mark)

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
    assert [] == alive(mark)


@pytest.mark.parametrize("program", [pytest.param(POLITE, id="polite"), pytest.param(STUBBORN, id="stubborn")])
def test_nothing_outlives_a_sigkill_of_the_caller(tmp_path: Path, program: str) -> None:
    """The pods and their scratch folders end although nobody is left to end them."""
    mark = f"mark-{uuid.uuid4()}"
    with caller(tmp_path, marked_job(program, mark, nnodes=2, grace=1)) as process:
        assert process.stdout is not None
        seen = [process.stdout.readline(), process.stdout.readline()]
        assert [b"up\n"] * 2 == seen
        assert len(alive(mark)) >= 4
        process.kill()
        process.wait()
        until(lambda: not alive(mark))


def test_signals_of_a_container_are_default(tmp_path: Path) -> None:
    """A pod inherits neither ignored nor blocked signals, whatever the caller's shell did."""
    program = textwrap.dedent("""
        import signal
        ignored = [n for n in signal.valid_signals() if n not in (2, 13, 25) and signal.getsignal(n) == signal.SIG_IGN]
        status = dict(line.split(":\\t", 1) for line in open("/proc/self/status"))
        print(ignored, int(status["SigBlk"], 16))
    """)
    run = Run(tmp_path)
    before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    try:
        run(program)
    finally:
        signal.signal(signal.SIGUSR1, before)

    assert b"[] 0\n" == run.printed


def test_a_program_that_cannot_be_executed_is_reported(tmp_path: Path) -> None:
    """A file that is no program ends as in a container, with one line."""
    broken = tmp_path / "broken"
    broken.write_text("#!/no/such/interpreter\n")
    broken.chmod(0o755)
    run = Run(tmp_path)

    result = run("", container={"command": [str(broken)]})

    assert 127 == result.exit_code
    assert f"[k8sddp] cannot start {broken}: No such file or directory\n".encode() == run.printed


def test_refusals_start_nothing(tmp_path: Path) -> None:
    """A job that cannot run here leaves no folder and no process."""
    run = Run(tmp_path)
    secret: Sequence[dict[str, Any]] = [{"name": "v", "secret": {"secretName": "s"}}]

    with pytest.raises(errors.LocalError, match="volume v: secret"):
        run("", volumes=secret, mounts=[{"name": "v", "mountPath": "/v"}])

    assert ["tmp"] == [path.name for path in tmp_path.iterdir()]
