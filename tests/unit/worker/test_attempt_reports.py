"""What an attempt reports of its ranks: who left, who failed and how, and what is only a consequence."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from k8sddp.worker import root_cause
from k8sddp.worker.ranks import reports
from tests.unit.worker.attempts import TELLS, Node, apart


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


@pytest.mark.parametrize(("flag", "separate"), [("-I", False), ("-u", True)], ids=["without our hooks", "with them"])
@apart
def test_only_a_rank_with_our_hooks_has_never_joined(tmp_path: Path, flag: str, separate: bool) -> None:
    """Another one may have, for all we know."""
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} {flag} "$@"\n')
    python.chmod(0o755)
    node = Node(tmp_path, "", launcher="direct")
    node.python = str(python)
    ranks = node.start()
    node.run_until(lambda: ("complete", None) in node.told)
    assert separate == ranks.separate
    node.end(ranks)


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
def start(rank):
    child = subprocess.Popen([sys.executable, "-S", "-c", ""], env={})
    child.wait()
    return {"event": "start", "pid": child.pid, "rank": rank}
tell(start(1))
wait_for("rank-1-left")
started = start(0)
failed = {"event": "process", "pid": os.getpid(), "child_pid": started["pid"], "local_rank": 0, "exit_code": -11}
tell(started, failed)
time.sleep(100)
"""
    node = Node(tmp_path, "", nproc_per_node="2")
    node.environ["PYTHONPATH"] = make_torchrun(tmp_path / "own", body)
    ranks = node.start()
    node.run_until(lambda: ("left", 1) in node.told)
    (tmp_path / "attempt-0" / "rank-1-left").touch()
    node.run_until(lambda: len(node.told) == 2)
    assert [("left", 1), ("failed", 0)] == node.told
    node.end(ranks)


@apart
def test_torchruns_end_is_waited_for_no_longer(tmp_path: Path) -> None:
    """The rank that it reaped first has left before the account is closed, though rank 0 has failed since."""
    body = """
for rank in (1, 0):
    child = subprocess.Popen([sys.executable, "-S", "-c", ""], env={})
    child.wait()
    if rank == 1:
        tell(event="start", pid=child.pid, rank=rank)
        wait_for("rank-1-gone")
    else:
        tell(event="process", pid=os.getpid(), child_pid=child.pid, local_rank=0, exit_code=3)
sys.exit(1)
"""
    reports.LATE = 600.0  # so that torchrun's end comes first
    node = Node(tmp_path, "", nproc_per_node="2")
    node.environ["PYTHONPATH"] = make_torchrun(tmp_path / "own", body)
    ranks = node.start()
    node.run_until(lambda: bool(ranks._reports._unknown))
    (tmp_path / "attempt-0" / "rank-1-gone").touch()
    node.run_until(lambda: ("over", None) in node.told)
    assert {("failed", 0), ("left", 1)} == set(node.told[:-1])
    node.end(ranks)


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
