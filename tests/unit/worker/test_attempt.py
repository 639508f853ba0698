"""Attempts one after another in one process: what each reports of its ranks, and that nothing outlives its end."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from k8sddp.worker import attempt, loop, main, node_env, process_tree, rank_output, root_cause, shm
from k8sddp.worker.launcher import rank_env
from tests.unit.worker import gangs, workers

LIMIT = 20.0  # seconds; only reached by a test that fails


def apart(test: Callable[..., None]) -> Callable[..., None]:
    """Run a test in a process of its own: an attempt ends every descendant of the process that it lives in."""

    @functools.wraps(test)
    def run(**values: Any) -> None:
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                process_tree.become_subreaper()
                test(**values)
            except BaseException:
                os.write(write, traceback.format_exc().encode()[:60_000])
            finally:
                os._exit(0)
        os.close(write)
        with os.fdopen(read) as told:
            problem = told.read()
        os.waitpid(pid, 0)
        assert "" == problem

    return run


class Node:
    """A node whose attempts run here, with everything that they report."""

    def __init__(self, folder: Path, script: str, **options: str) -> None:
        self.folder = folder
        (folder / "train.py").write_text(script)
        (folder / "memory").mkdir()
        env = workers.make_env(0, folder, 29400, **{f"K8SDDP_{name.upper()}": text for name, text in options.items()})
        env["PYTHONPATH"] = str(workers.FAKE_TORCH)
        self.node = node_env.parse(env)
        self.environ = {**env, "MEMORY": str(folder / "memory"), "LOG": str(folder / "log")}
        self.log = os.open(folder / "log", os.O_CREAT | os.O_RDWR | os.O_APPEND)
        self.events = loop.Loop()
        self.events.handle_signals(lambda signum: None)
        self.sink = rank_output.Sink(self.events, self.log)
        self.memory = shm.SharedMemory(str(folder / "memory"), machine=str(folder / "memory"))
        self.told: list[tuple[str, object]] = []
        self.failures: list[root_cause.Failure] = []
        self.python = sys.executable
        self.number = -1

    def start(self) -> attempt.NodeAttempt:
        """Start the next attempt."""
        self.number += 1
        reports = attempt.Reports(
            failed=self._failed,
            left=lambda rank: self.told.append(("left", rank)),
            complete=lambda: self.told.append(("complete", None)),
            over=lambda: self.told.append(("over", None)),
        )
        folder = str(self.folder / f"attempt-{self.number}")
        ranks = attempt.NodeAttempt(
            self.events, self.sink, self.node, folder=folder, memory=self.memory, reports=reports
        )
        place = rank_env.Place(self.python, folder, main.instrument_dir(), self.environ)
        ranks.start(gangs.make_attempt(self.number), (str(self.folder / "train.py"),), place=place)
        return ranks

    def _failed(self, failure: root_cause.Failure) -> None:
        self.told.append(("failed", failure.rank))
        self.failures.append(failure)

    def run_until(self, condition: Callable[[], bool]) -> None:
        """Serve the loop until `condition` holds."""
        deadline = time.monotonic() + LIMIT

        def look() -> None:
            if condition() or time.monotonic() > deadline:
                self.events.stop(0)
            else:
                self.events.after(0.005, look)

        self.events._result = None
        look()
        self.events.run()
        assert condition(), f"it did not happen: {self.told}, {self.text()}"

    def wait(self, seconds: float) -> None:
        """Serve the loop for so long."""
        until = time.monotonic() + seconds
        self.run_until(lambda: time.monotonic() >= until)

    def end(self, ranks: attempt.NodeAttempt, *, grace: bool = False) -> None:
        """End an attempt and wait for the answer."""
        answers: list[tuple[int, ...]] = []
        ranks.end(answers.append, grace=grace)
        self.run_until(lambda: bool(answers))
        assert [()] == answers

    def text(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def says(self, text: str) -> Callable[[], bool]:
        return lambda: text in self.text()


def descriptors() -> dict[str, str]:
    found = {}
    for path in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # the descriptor of the listing itself
            found[path.name] = str(path.readlink())
    return found


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


FAIL_IN_EVERY_WAY = """
import os, subprocess, sys, time
rank, attempt = os.environ["RANK"], os.environ["K8SDDP_ATTEMPT"]
print("up", attempt, rank, flush=True)
if rank == "1":
    while f"up {attempt} 0" not in open(os.environ["LOG"]).read():
        time.sleep(0.005)
    {"0": lambda: sys.exit(3), "1": lambda: os.kill(os.getpid(), 9), "2": lambda: 1 / 0}.get(attempt, lambda: None)()
subprocess.Popen(["sleep", "100"], start_new_session=True)
sys.stdout.write("no end")
sys.stdout.flush()
time.sleep(100)
"""


@pytest.mark.parametrize("launcher", ["torchrun", "direct", "spawn"])
@apart
def test_nothing_of_an_attempt_outlives_its_end(tmp_path: Path, launcher: str) -> None:
    """Five attempts: after each the descriptors, the folders and the processes are those of before the first."""
    node = Node(tmp_path, FAIL_IN_EVERY_WAY, launcher=launcher, nproc_per_node="2")
    before = descriptors(), names(tmp_path)
    for number in range(5):
        ranks = node.start()
        expected = f"up {number} 0"
        node.run_until(node.says(expected))
        if number < 3 and launcher != "spawn":
            node.run_until(lambda: ("failed", 1) in node.told)
        node.end(ranks)
        node.told.clear()
        assert before == (descriptors(), names(tmp_path))
        assert () == process_tree.descendants(os.getpid())
        assert [] == list(node.events._children)
    node.wait(0.6)
    assert [] == node.told


DEAF = """
import signal, time
signal.signal(15, lambda *_: print("asked", flush=True))
print("up", flush=True)
time.sleep(100)
"""


@pytest.mark.parametrize("launcher", ["torchrun", "direct", "spawn"])
@apart
def test_an_end_without_grace_overtakes_one_with(tmp_path: Path, launcher: str) -> None:
    """Ranks that ignore SIGTERM die long before the grace period is over; each call is answered once, late ones too."""
    node = Node(tmp_path, DEAF, launcher=launcher, grace_period="600")
    ranks = node.start()
    node.run_until(node.says("up"))
    answers: list[str] = []
    ranks.end(lambda left: answers.append(f"grace {left}"), grace=True)
    node.run_until(node.says("asked"))
    ranks.end(lambda left: answers.append(f"again {left}"), grace=True)
    node.wait(0.1)
    assert [] == answers
    ranks.end(lambda left: answers.append(f"at once {left}"), grace=False)
    ranks.end(lambda left: answers.append(f"twice {left}"), grace=False)
    node.run_until(lambda: len(answers) == 4)
    ranks.end(lambda left: answers.append(f"late {left}"), grace=True)
    assert ["grace ()", "again ()", "at once ()", "twice ()", "late ()"] == answers
    assert 1 == node.text().count("asked")


@apart
def test_a_grace_that_was_overtaken_does_not_meet_the_next_attempt(tmp_path: Path) -> None:
    """Its deadline passes while the next attempt trains, and nothing happens."""
    node = Node(tmp_path, DEAF, launcher="direct", grace_period="1")
    ranks = node.start()
    node.run_until(node.says("up"))
    ranks.end(lambda left: None, grace=True)
    node.end(ranks)
    assert [] == [timer for timer in node.events._timers if timer.callback]
    following = node.start()
    node.run_until(lambda: node.text().count("up") == 2)
    node.wait(0.7)
    assert 1 == len(process_tree.descendants(os.getpid()))
    node.end(following)


SAVES = """
import signal, sys, time
def save(*_):
    print("saved", flush=True)
    raise RuntimeError("interrupted")
signal.signal(15, save)
print("up", flush=True)
time.sleep(100)
"""


@pytest.mark.parametrize("launcher", ["torchrun", "direct", "spawn"])
@apart
def test_ranks_that_are_asked_to_end_are_no_failures(tmp_path: Path, launcher: str) -> None:
    """Every rank gets SIGTERM and saves; the exception that it ends with is no news."""
    node = Node(tmp_path, SAVES, launcher=launcher, nproc_per_node="1" if launcher == "spawn" else "2")
    count = node.node.nproc_per_node
    ranks = node.start()
    node.run_until(lambda: node.text().count("up") == count)
    node.end(ranks, grace=True)
    assert (count, []) == (node.text().count("saved"), node.told)


@apart
def test_direct_goes_on_until_the_last_rank_has_ended(tmp_path: Path) -> None:
    """A rank that left, one that failed and one that was killed are told as they end; then the account is closed."""
    script = """
import os, sys, time
rank = int(os.environ["RANK"])
time.sleep(rank * 0.3)
{0: lambda: sys.exit(0), 1: lambda: sys.exit(3), 2: lambda: os.kill(os.getpid(), 9)}[rank]()
"""
    node = Node(tmp_path, script, launcher="direct", nproc_per_node="3")
    ranks = node.start()
    node.run_until(lambda: ("over", None) in node.told)
    assert [("left", 0), ("failed", 1), ("failed", 2), ("over", None)] == node.told
    assert [(3, None), (None, "SIGKILL")] == [(failure.exit_code, failure.signal) for failure in node.failures]
    assert [root_cause.CAUSE] * 2 == [failure.weight for failure in node.failures]
    node.end(ranks)


@pytest.mark.parametrize("launcher", ["torchrun", "direct", "spawn"])
@apart
def test_a_node_whose_ranks_ended_well_has_left_before_it_is_complete(tmp_path: Path, launcher: str) -> None:
    """So that a node that was too early can be named by a rank."""
    node = Node(tmp_path, "print('done')", launcher=launcher)
    ranks = node.start()
    node.run_until(lambda: ("complete", None) in node.told)
    assert [("left", 0), ("complete", None)] == node.told
    node.end(ranks)


@apart
def test_torchs_error_file_names_the_exception_of_a_direct_rank(tmp_path: Path) -> None:
    """A rank without our hooks, as @record leaves it; and its output has its own prefix."""
    record = {"message": {"message": "KeyError: 'lr'", "extraInfo": {"py_callstack": "Traceback: x", "timestamp": "1"}}}
    words = f"import os; print('bare'); open(os.environ['TORCHELASTIC_ERROR_FILE'], 'w').write({json.dumps(record)!r})"
    script = f"import os, sys\nos.execv(sys.executable, [sys.executable, '-I', '-c', {words + '; exit(1)'!r}])\n"
    node = Node(tmp_path, script, launcher="direct")
    ranks = node.start()
    node.run_until(lambda: ("over", None) in node.told)
    failure = node.failures[0]
    assert ("exception", 0, "KeyError: 'lr'", "Traceback: x") == (
        failure.kind,
        failure.rank,
        failure.exception,
        failure.traceback,
    )
    node.end(ranks)
    assert "[rank 0] bare\n" in node.text()


TELLS = """
import json, os, subprocess, sys, time
EVENTS = os.path.join(os.environ["K8SDDP_RANK_DIR"], "events")
def tell(**record):
    with open(EVENTS, "w") as events:
        events.write(json.dumps(record) + "\\n")
"""


@apart
def test_what_a_direct_rank_says_before_it_is_python_is_its_own(tmp_path: Path) -> None:
    """A missing library of the interpreter, for one: with the rank's prefix, and as its last words."""
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho cannot load libpython\nexit 127\n")
    python.chmod(0o755)
    node = Node(tmp_path, "", launcher="direct")
    node.python = str(python)
    ranks = node.start()
    node.run_until(lambda: ("over", None) in node.told)
    assert "cannot load libpython" == node.failures[0].traceback
    node.end(ranks)
    assert "[rank 0] cannot load libpython\n" in node.text()


def make_torchrun(folder: Path, body: str) -> str:
    """Write a torchrun of our own and return what PYTHONPATH must be for it."""
    package = folder / "torch" / "distributed"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").write_text("")
    (package / "__init__.py").write_text("")
    (package / "run.py").write_text(TELLS + body)
    return str(folder)


@apart
def test_a_rank_that_torchrun_reaped_first_has_left_all_the_same(tmp_path: Path) -> None:
    """Nobody saw its exit code; torchrun says nothing of it, so it was 0. One of which torchrun tells has failed."""
    body = """
for rank in range(2):
    child = subprocess.Popen([sys.executable, "-S", "-c", ""], env={})
    child.wait()
    tell(event="start", pid=child.pid, rank=rank)
    if rank == 0:
        tell(event="process", pid=os.getpid(), child_pid=child.pid, local_rank=0, exit_code=-11)
time.sleep(100)
"""
    node = Node(tmp_path, "", nproc_per_node="2")
    node.environ["PYTHONPATH"] = make_torchrun(tmp_path / "own", body.replace("range(2)", "(1, 0)"))
    ranks = node.start()
    node.run_until(lambda: len(node.told) == 2)
    assert [("failed", 0), ("left", 1)] == node.told
    node.end(ranks)


@apart
def test_torchruns_end_is_waited_for_no_longer(tmp_path: Path) -> None:
    """The rank that it reaped first has left before the account is closed, though rank 0 has failed since."""
    body = """
for rank, code in ((1, 0), (0, 3)):
    child = subprocess.Popen([sys.executable, "-S", "-c", ""], env={})
    child.wait()
    if rank == 0:
        tell(event="process", pid=os.getpid(), child_pid=child.pid, local_rank=0, exit_code=3)
    else:
        tell(event="start", pid=child.pid, rank=rank)
sys.exit(1)
"""
    node = Node(tmp_path, "", nproc_per_node="2")
    node.environ["PYTHONPATH"] = make_torchrun(tmp_path / "own", body)
    ranks = node.start()
    node.run_until(lambda: ("over", None) in node.told)
    assert {("failed", 0), ("left", 1)} == set(node.told[:-1])
    node.end(ranks)


@apart
def test_a_rank_that_the_script_spawned_is_asked_too(tmp_path: Path) -> None:
    """The script itself does not hand SIGTERM on, and it may take its time as long as a rank saves."""
    body = """
import signal
signal.signal(15, signal.SIG_IGN)
child = os.fork()
if child == 0:
    def save(*_):
        time.sleep(0.2)
        print("saved", flush=True)
        os._exit(0)
    signal.signal(15, save)
    tell(event="start", pid=os.getpid(), rank=1)
    print("up", flush=True)
    time.sleep(100)
os.wait()
"""
    node = Node(tmp_path, TELLS + body, launcher="spawn", nproc_per_node="2")
    ranks = node.start()
    node.run_until(node.says("up"))
    node.end(ranks, grace=True)
    assert "[node 0] saved\n" in node.text()


@apart
def test_what_torchrun_does_after_a_failure_is_a_consequence(tmp_path: Path) -> None:
    """Rank 0 answers torchrun's SIGTERM with exit code 7 and rank 2 with 0: neither has failed nor left by itself."""
    body = """
ranks = {}
for rank, code in ((0, 7), (2, 0)):
    words = f"import sys; sys.stdin.read(); sys.exit({code})"
    ranks[rank] = subprocess.Popen([sys.executable, "-S", "-c", words], env={}, stdin=subprocess.PIPE)
    tell(event="start", pid=ranks[rank].pid, rank=rank)
tell(event="process", pid=os.getpid(), child_pid=os.getpid(), local_rank=1, exit_code=3)
for rank in (2, 0):
    ranks[rank].stdin.close()
    os.waitid(os.P_PID, ranks[rank].pid, os.WEXITED | os.WNOWAIT)
time.sleep(100)
"""
    node = Node(tmp_path, "", nproc_per_node="3")
    node.environ["PYTHONPATH"] = make_torchrun(tmp_path / "own", body)
    ranks = node.start()
    node.run_until(lambda: len(node.failures) == 2)
    node.wait(0.1)
    assert [("failed", 1), ("failed", 0)] == node.told
    assert [root_cause.CAUSE, root_cause.VICTIM] == [failure.weight for failure in node.failures]
    node.end(ranks)


@apart
def test_nonsense_in_the_event_pipe_is_ignored(tmp_path: Path) -> None:
    """A script that writes into our pipe neither stops the worker nor has strangers signalled or waited for."""
    body = """
for pid in (int(os.environ["STRANGER"]), 10 ** 30, 0, -1, True, None, "x", 4194305):
    for rank in (0, 10 ** 30, None):
        tell(event="start", pid=pid, rank=rank)
        tell(event="process", pid=1, child_pid=pid, local_rank=rank, exit_code="x")
with open(EVENTS, "w") as events:
    events.write("[" * 40_000 + "\\n{\\n\\xff\\n[]\\n")
tell(event="last", pid=7, rank=None, exception=[1])
print("alive", flush=True)
time.sleep(100)
"""
    node = Node(tmp_path, TELLS + body, launcher="spawn")
    got: list[int] = []
    node.events.handle_signals(got.append)
    node.environ["STRANGER"] = str(os.getpid())  # to whom SIGTERM would come
    ranks = node.start()
    node.run_until(node.says("alive"))
    began = node.events.now()
    node.end(ranks, grace=True)
    assert ([], True) == (got, node.events.now() - began < node.node.grace_period / 2)


@apart
def test_shared_memory_of_an_attempt_is_gone_before_the_next(tmp_path: Path) -> None:
    """What a killed rank, its helper and a process of neither's name left; said in one line."""
    script = """
import os, subprocess, time
folder = os.environ["MEMORY"]
open(os.path.join(folder, "torch_%d_1_0" % os.getpid()), "w").close()
open(os.path.join(folder, "nccl-a1b2c3"), "w").close()
print("up", flush=True)
time.sleep(100)
"""
    node = Node(tmp_path, script, launcher="direct")
    ranks = node.start()
    node.run_until(node.says("up"))
    os.kill(process_tree.descendants(os.getpid())[0], signal.SIGKILL)
    node.run_until(lambda: ("over", None) in node.told)
    assert 2 == len(names(tmp_path / "memory"))
    node.end(ranks)
    assert [] == names(tmp_path / "memory")
    assert 1 == node.text().count("[k8sddp] removed what the ranks left in shared memory: ")


@apart
def test_on_a_shared_machine_the_helpers_segments_go_too(tmp_path: Path) -> None:
    """A DataLoader worker is no rank; its pid is known from the sweep that killed it."""
    script = """
import os, time
machine = os.environ["MACHINE"]
if os.fork() == 0:
    os.setsid()
    open(os.path.join(machine, "torch_%d_1_0" % os.getpid()), "w").close()
    print("up", flush=True)
time.sleep(100)
"""
    machine = tmp_path / "machine"
    machine.mkdir()
    (machine / "torch_1_1_0").write_text("init's")
    node = Node(tmp_path, script, launcher="direct")
    node.environ["MACHINE"] = str(machine)
    node.memory = shm.SharedMemory(str(tmp_path / "memory"), machine=str(machine))
    ranks = node.start()
    node.run_until(node.says("up"))
    node.end(ranks)
    assert ["torch_1_1_0"] == names(machine)
