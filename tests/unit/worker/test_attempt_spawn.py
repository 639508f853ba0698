"""What an attempt reports where the script starts its ranks itself: one pool after the other, or itself again."""

from __future__ import annotations

from pathlib import Path

import pytest

from k8sddp.worker import root_cause
from k8sddp.worker.ranks import reports
from tests.unit.worker.attempts import TELLS, Node, apart

FORKS = (
    TELLS
    + """
import signal
def rank(number, words, **event):
    \"\"\"Start a rank that nobody but `os.wait` reaps, so that its parent does not tell how it ended.\"\"\"
    pid = os.fork()
    if pid == 0:
        tell(event="start", pid=os.getpid(), rank=number)
        exec(words)
        sys.stdout.flush()
        os._exit(0)
    return pid
"""
)


def make_node(tmp_path: Path, body: str, nproc_per_node: int = 2) -> Node:
    """Return node 0, or where the scripts say so node 1, of a job whose script starts its own ranks."""
    return Node(tmp_path, FORKS + body, launcher="spawn", nproc_per_node=str(nproc_per_node))


def causes(node: Node) -> list[tuple[object, ...]]:
    return [(one.rank, one.kind, one.signal or one.exit_code, one.weight == root_cause.VICTIM) for one in node.failures]


@apart
def test_ranks_that_leave_have_successors(tmp_path: Path) -> None:
    """Fit, then test: the first pool has not left early, and the second one's failure is a cause."""
    body = """
for phase in (0, 1):
    pids = [rank(number, "wait_for('fail'); 1/0" if (phase, number) == (1, 1) else "pass") for number in (0, 1)]
    for pid in pids[:2 - phase]:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    wait_for("reaped-%d" % phase)
"""
    node = make_node(
        tmp_path, body.replace("1/0", "tell(event='exception', pid=os.getpid(), rank=1, exception='X: x')")
    )
    ranks = node.start()
    node.run_until(lambda: node.told.count(("left", 0)) + node.told.count(("left", 1)) == 2)
    (tmp_path / "attempt-0" / "reaped-0").touch()
    node.run_until(lambda: ("left", 0) in node.told[3:])
    assert 1 == node.told.count(("back", None))
    (tmp_path / "attempt-0" / "fail").touch()
    node.run_until(lambda: bool(node.failures))
    assert [(1, "exception", 1, False)] == causes(node)
    node.end(ranks)


@apart
def test_a_rank_that_its_parent_reaped_first_has_not_failed(tmp_path: Path) -> None:
    """Nobody knows its exit code, and nothing that comes after it is its fault."""
    body = """
pid = os.fork()
if pid == 0:
    os._exit(0)
os.waitpid(pid, 0)
tell(event="start", pid=pid, rank=1)
wait_for("left")
rank(0, "tell(event='exception', pid=os.getpid(), rank=0, exception='ValueError: x')")
time.sleep(100)
"""
    node = make_node(tmp_path, body)
    ranks = node.start()
    node.run_until(lambda: ("left", 1) in node.told)
    (tmp_path / "attempt-0" / "left").touch()
    node.run_until(lambda: bool(node.failures))
    assert [(0, "exception", 1, False)] == causes(node)
    node.end(ranks)


@apart
def test_who_reaps_a_rank_says_how_it_ended(tmp_path: Path) -> None:
    """Before it ends the others, whose end is no failure; what it says of it later changes nothing."""
    body = """
pids = [rank(number, "time.sleep(100)") for number in (0, 1)]
wait_for("up")
os.kill(pids[1], signal.SIGKILL)
os.waitpid(pids[1], 0)
tell(event="ended", pid=os.getpid(), child_pid=pids[1], exit_code=-9)
os.kill(pids[0], signal.SIGTERM)
os.waitpid(pids[0], 0)
tell(event="ended", pid=os.getpid(), child_pid=pids[0], exit_code=-15)
tell(event="child", pid=os.getpid(), child_pid=pids[1], index=1, exit_code=-9)
sys.exit(1)
"""
    reports.LATE = 600.0
    node = make_node(tmp_path, body)
    ranks = node.start()
    node.run_until(lambda: len(ranks._reports._ranks) == 2)
    (tmp_path / "attempt-0" / "up").touch()
    node.run_until(lambda: ("over", None) in node.told)
    assert [(1, "signal", "SIGKILL", False)] == causes(node)
    node.end(ranks)


@apart
def test_a_crash_after_the_first_failure_is_one_of_its_own(tmp_path: Path) -> None:
    """A launcher ends ranks with SIGTERM or SIGKILL, not with SIGSEGV."""
    body = """
pids = [rank(0, "wait_for('first'); os._exit(3)"), rank(1, "wait_for('second'); os.kill(os.getpid(), 11)")]
os.waitpid(pids[0], 0)
tell(event="ended", pid=os.getpid(), child_pid=pids[0], exit_code=3)
time.sleep(100)
"""
    node = make_node(tmp_path, body)
    ranks = node.start()
    (tmp_path / "attempt-0" / "first").touch()
    node.run_until(lambda: bool(node.failures))
    (tmp_path / "attempt-0" / "second").touch()
    node.run_until(lambda: len(node.failures) == 2)
    assert [(0, "exit", 3, False), (1, "signal", "SIGSEGV", False)] == causes(node)
    node.end(ranks)


@pytest.mark.parametrize(("code", "told"), [(0, ("complete", None)), (3, ("over", None))])
@apart
def test_ranks_may_outlive_their_script(tmp_path: Path, code: int, told: tuple[str, object]) -> None:
    """A script that has started itself again and does not wait: its end is not theirs."""
    body = f"""
tell(event="start", pid=os.getpid(), rank=0)
rank(1, "wait_for('saved'); print('saved'); sys.stdout.flush(); os._exit({code})")
wait_for("up")
os._exit(0)
"""
    node = make_node(tmp_path, body)
    ranks = node.start()
    node.run_until(lambda: len(ranks._reports._ranks) == 2)
    (tmp_path / "attempt-0" / "up").touch()
    node.run_until(lambda: ("left", 0) in node.told)
    node.wait(0.2)
    assert [("left", 0)] == node.told
    (tmp_path / "attempt-0" / "saved").touch()
    node.run_until(lambda: told in node.told)
    assert [("left", 1) if code == 0 else ("failed", 1), told] == node.told[1:]
    assert "saved\n" in node.text()
    node.end(ranks)
    assert [] == list(node.events._children)


@apart
def test_a_script_that_is_a_rank_ends_as_that_rank(tmp_path: Path) -> None:
    """With the rank that its group gave it, not its node's number."""
    body = "tell(event='start', pid=os.getpid(), rank=1)\nos.kill(os.getpid(), 9)\n"
    node = make_node(tmp_path, body)
    ranks = node.start()
    node.run_until(lambda: ("over", None) in node.told)
    assert [(1, "signal", "SIGKILL", False)] == causes(node)
    node.end(ranks)


@pytest.mark.parametrize(("local_rank", "expected"), [("1", [(1, "exit", 3, False)]), ("0", []), ("7", [])])
@apart
def test_a_process_that_would_have_been_a_rank_fails_as_one(
    tmp_path: Path, local_rank: str, expected: list[tuple[object, ...]]
) -> None:
    """It dies before it has joined, and the others would wait for it; what is no rank's may exit as it likes."""
    body = f"""
if "LOCAL_RANK" in os.environ:
    sys.exit(3)
subprocess.Popen([sys.executable, *sys.argv], env={{**os.environ, "LOCAL_RANK": "{local_rank}"}}).wait()
print("waits", flush=True)
wait_for("end")
"""
    node = make_node(tmp_path, body)
    ranks = node.start()
    node.run_until(node.says("waits"))
    (tmp_path / "attempt-0" / "end").touch()
    node.run_until(lambda: bool({("complete", None), ("over", None)} & set(node.told)))
    assert expected == causes(node)
    node.end(ranks)


@apart
def test_a_group_that_is_refused_is_a_configuration(tmp_path: Path) -> None:
    """Its sentence is said once for the node, and no exit code that follows is a failure of its own."""
    body = """
for number in (1, 0):
    pid = rank(number, "tell(event='refused', pid=os.getpid(), rank=%d, detail='a group of 1'); os._exit(78)" % number)
    os.waitpid(pid, 0)
sys.exit(1)
"""
    node = make_node(tmp_path, body)
    ranks = node.start()
    node.run_until(lambda: ("over", None) in node.told)
    assert [(1, "configuration", 78, False)] == causes(node)
    assert ("a group of 1", True) == (node.failures[0].detail, ranks.separate)
    node.end(ranks)


@apart
def test_a_script_that_fails_ends_its_ranks_itself(tmp_path: Path) -> None:
    """Python sends daemons SIGTERM when it leaves: the script's exception is what happened."""
    body = """
import multiprocessing
def work():
    tell(event="start", pid=os.getpid(), rank=1)
    wait_for("never")
if __name__ == "__main__":
    multiprocessing.get_context("fork").Process(target=work, daemon=True).start()
    wait_for("fail")
    raise ValueError("the script's own")
"""
    node = make_node(tmp_path, body)
    ranks = node.start()
    node.run_until(lambda: len(ranks._reports._ranks) == 1)
    (tmp_path / "attempt-0" / "fail").touch()
    node.run_until(lambda: ("over", None) in node.told)
    (failure,) = node.failures
    assert (None, "ValueError: the script's own") == (failure.rank, failure.exception)
    node.end(ranks)


@apart
def test_a_number_that_is_given_again_is_another_rank(tmp_path: Path) -> None:
    """The pids of a long job come round: what the first owner did is forgotten."""
    body = """
pid = rank(0, "os._exit(3)")
os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
wait_for("again")
os.waitpid(pid, 0)
tell(event="start", pid=pid, rank=1)
tell(event="exception", pid=pid, rank=1, exception="KeyError: 'again'")
time.sleep(100)
"""
    node = make_node(tmp_path, body)
    ranks = node.start()
    node.run_until(lambda: bool(node.failures))
    (tmp_path / "attempt-0" / "again").touch()
    node.run_until(lambda: len(node.failures) == 2)
    assert [(0, "exit", 3, False), (1, "exception", 1, False)] == causes(node)
    node.end(ranks)
