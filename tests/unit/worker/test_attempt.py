"""Attempts one after another in one process: nothing of one outlives its end, and ranks that are asked to end may."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from pathlib import Path

import pytest

from k8sddp.worker.ranks import process_tree, shm
from tests.unit.worker.attempts import TELLS, Node, apart


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
def test_a_rank_that_the_script_spawned_is_asked_too(tmp_path: Path) -> None:
    """The script itself does not hand SIGTERM on, and it may take its time as long as a rank saves."""
    body = """
import shutil
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


@pytest.mark.parametrize("shared", [True, False], ids=["run --local", "pod"])
@apart
def test_torchs_cleaner_outlives_an_attempt_on_a_shared_machine_only(tmp_path: Path, shared: bool) -> None:
    """It knows makers that nobody else knows; when nothing comes after it, its time is bounded."""
    cleaner = tmp_path / "torch_shm_manager"
    shutil.copy("/bin/sleep", cleaner)
    script = f"""
import subprocess, time
subprocess.Popen([{str(cleaner)!r}, "100"], start_new_session=True)
print("up", flush=True)
time.sleep(100)
"""
    node = Node(tmp_path, script, launcher="direct")
    if shared:
        node.memory = shm.SharedMemory(str(tmp_path / "memory"), machine=str(tmp_path))
    ranks = node.start()
    node.run_until(node.says("up"))
    node.end(ranks)
    assert (1 if shared else 0) == len(process_tree.descendants(os.getpid()))
    process_tree.PATIENCE = 0.1
    left: list[process_tree.Sweep] = []
    process_tree.end_last(node.events, left.append)
    node.run_until(lambda: bool(left))
    assert ((), ()) == (left[0].left, process_tree.descendants(os.getpid()))
