"""Who is asked to stop, who ends whom while ranks save, and when nothing is waited for any more."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from k8sddp.worker.ranks import process_tree, stopping
from tests.unit.worker.attempts import Node, apart
from tests.unit.worker.test_attempt_reports import make_torchrun

# A script that starts two ranks as torch.multiprocessing.spawn does: it ends the other when one leaves with a code.
PARENT = """
import multiprocessing, os, signal, sys
from multiprocessing import connection
class ProcessExitedException(Exception):
    pass
def run(body, after=lambda: None):
    ranks = [multiprocessing.get_context("fork").Process(target=body, args=(rank,)) for rank in range(2)]
    for rank in ranks:
        rank.start()
    signal.signal(15, lambda *_: print("parent asked", flush=True))
    left = {rank.sentinel: rank for rank in ranks}
    while left:
        for sentinel in connection.wait(left):
            gone = left.pop(sentinel)
            gone.join()
            if gone.exitcode:
                for rank in ranks:
                    rank.terminate()
                for rank in ranks:
                    rank.join(0.1)
                    rank.kill()
                    rank.join()
                raise ProcessExitedException(gone.exitcode)
    after()
"""
# What a rank does, whoever started it; `starts` is what the script of each launcher adds.
RANK = """
import os, signal, subprocess, sys, time
def start(rank):
    if "LOCAL_RANK" not in os.environ:
        import k8sddp_rank
        k8sddp_rank.become_rank(rank)
"""
STARTS = {
    "torchrun": "body(int(os.environ['RANK']))",
    "direct": "body(int(os.environ['RANK']))",
    "spawn": "run(body)",
}


def script(launcher: str, body: str) -> str:
    """Return a script whose two ranks run the function `body`, started as `launcher` has it."""
    return (PARENT if launcher == "spawn" else "") + RANK + body + STARTS[launcher]


def state_of(pid: int) -> str:
    """Return the letter that /proc has for the state of a process, nothing for one that is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


every_launcher = pytest.mark.parametrize("launcher", ["torchrun", "direct", "spawn"])


@every_launcher
@apart
def test_ranks_are_asked_and_nobody_else(tmp_path: Path, launcher: str) -> None:
    """Not the launcher, and not a rank's helper, which shares its session as a DataLoader worker does."""
    body = """
HELPER = '''
import os, signal, time
signal.signal(15, lambda *_: print("helper asked", flush=True))
print("helper up", flush=True)
while os.getppid() == %d:
    time.sleep(0.01)
'''
def body(rank):
    start(rank)
    def save(*_):
        time.sleep(0.2)
        print("saved", helper.poll(), flush=True)
        os._exit(0)
    signal.signal(15, save)
    helper = subprocess.Popen([sys.executable, "-S", "-c", HELPER % os.getpid()])
    time.sleep(100)
"""
    node = Node(tmp_path, script(launcher, body), launcher=launcher, nproc_per_node="2")
    ranks = node.start()
    node.run_until(lambda: node.text().count("helper up") == 2)
    node.end(ranks, grace=True)
    told = [node.text().count(words) for words in ("saved None", "asked", "death signal", "Exception")]
    assert [2, 0, 0, 0] == told


@pytest.mark.parametrize("code", [3, 0, -15], ids=["a code", "0", "the signal"])
@every_launcher
@apart
def test_a_rank_that_leaves_first_ends_no_other(tmp_path: Path, launcher: str, code: int) -> None:
    """Rank 1 leaves at once, as its script has it; rank 0 saves for long enough for any launcher to notice."""
    body = f"""
def body(rank):
    start(rank)
    def save(*_):
        signal.signal(15, signal.SIG_DFL)
        if rank == 1:
            os._exit({code}) if {code} >= 0 else os.kill(os.getpid(), 15)
        time.sleep(0.3)
        print("saved", flush=True)
        os._exit(0)
    signal.signal(15, save)
    print("up", flush=True)
    time.sleep(100)
"""
    node = Node(tmp_path, script(launcher, body), launcher=launcher, nproc_per_node="2")
    ranks = node.start()
    node.run_until(lambda: node.text().count("up") == 2)
    node.end(ranks, grace=True)
    assert 1 == node.text().count("saved")
    assert "Traceback" not in node.text()


@every_launcher
@apart
def test_the_grace_ends_with_the_last_rank(tmp_path: Path, launcher: str) -> None:
    """A helper that outlives its rank, and an agent that waits for other nodes, are waited for by nobody."""
    body = """
def body(rank):
    start(rank)
    subprocess.Popen(["sleep", "100"], start_new_session=True)
    signal.signal(15, lambda *_: os._exit(0))
    print("up", flush=True)
    time.sleep(100)
"""
    node = Node(tmp_path, script(launcher, body), launcher=launcher, nproc_per_node="2", grace_period="600")
    ranks = node.start()
    node.run_until(lambda: node.text().count("up") == 2)
    node.end(ranks, grace=True)
    assert () == process_tree.descendants(os.getpid())


@apart
def test_a_script_may_end_its_helper_after_its_ranks(tmp_path: Path) -> None:
    """Its signals wait while ranks save, and no longer: what it does after that, an upload say, must not be lost."""
    body = """
def body(rank):
    start(rank)
    signal.signal(15, lambda *_: os._exit(0))
    print("up", flush=True)
    time.sleep(100)
helper = subprocess.Popen(["sleep", "100"])
def after():
    helper.terminate()
    print("ended", helper.wait(), flush=True)
"""
    spawn = PARENT + RANK + body + "run(body, after)"
    node = Node(tmp_path, spawn, launcher="spawn", nproc_per_node="2", grace_period="600")
    ranks = node.start()
    node.run_until(lambda: node.text().count("up") == 2)
    node.end(ranks, grace=True)
    assert "ended -15" in node.text()


@apart
def test_a_script_may_go_on_after_its_ranks(tmp_path: Path) -> None:
    """What it does when they have ended is its own; it is asked when it takes long, and may save too."""
    body = """
def body(rank):
    start(rank)
    signal.signal(15, lambda *_: os._exit(0))
    print("up", flush=True)
    time.sleep(100)
def after():
    def save(*_):
        time.sleep(0.2)
        print("the script saved", flush=True)
        os._exit(0)
    signal.signal(15, save)
    print("ranks ended", flush=True)
    time.sleep(100)
"""
    stopping.SETTLE = 0.1
    text = script("spawn", body).replace("run(body)", "run(body, after)")
    node = Node(tmp_path, text, launcher="spawn", nproc_per_node="2", grace_period="600")
    ranks = node.start()
    node.run_until(lambda: node.text().count("up") == 2)
    node.end(ranks, grace=True)
    assert node.text().index("ranks ended") < node.text().index("the script saved")


@apart
def test_the_launcher_is_asked_while_no_rank_is_known(tmp_path: Path) -> None:
    """Its ranks may have none of our hooks; one that says only then that it is a rank is asked as well."""
    body = """
import signal
def late(*_):
    child = os.fork()
    if child == 0:
        signal.signal(15, lambda *_: os.write(1, b"rank asked\\n") and os._exit(0))
        tell(event="start", pid=os.getpid(), rank=0)
        time.sleep(100)
    os.wait()
    print("agent asked", flush=True)
    os._exit(1)
signal.signal(15, late)
print("up", flush=True)
time.sleep(100)
"""
    node = Node(tmp_path, "", grace_period="600")
    node.environ["PYTHONPATH"] = make_torchrun(tmp_path / "own", body)
    ranks = node.start()
    node.run_until(node.says("up"))
    node.end(ranks, grace=True)
    assert ["rank asked", "agent asked"] == [
        line.partition("] ")[2] for line in node.text().splitlines() if "asked" in line
    ]


@apart
def test_a_stopped_rank_is_woken(tmp_path: Path) -> None:
    """A process in the state that SIGSTOP leaves it in answers SIGTERM only when it goes on."""
    body = """
def body(rank):
    start(rank)
    signal.signal(15, lambda *_: print("saved", flush=True) or os._exit(0))
    print("up", flush=True)
    os.kill(os.getpid(), signal.SIGSTOP)
    time.sleep(100)
"""
    node = Node(tmp_path, script("torchrun", body), nproc_per_node="2", grace_period="600")
    ranks = node.start()
    # "up" comes before: who is asked between the two has not been stopped yet, and is then for good
    node.run_until(lambda: [state_of(pid) for pid in process_tree.descendants(os.getpid())].count("T") == 2)
    node.end(ranks, grace=True)
    assert 2 == node.text().count("saved")


@apart
def test_an_agent_that_is_asked_by_others_asks_ranks_only(tmp_path: Path) -> None:
    """torch signals a rank's whole session, and with it the DataLoader workers that it needs to go on."""
    body = """
def body(rank):
    start(rank)
    helper = subprocess.Popen(["sleep", "100"])
    def save(*_):
        time.sleep(0.2)
        print("saved", helper.poll(), flush=True)
        os._exit(0)
    signal.signal(15, save)
    print("up", flush=True)
    time.sleep(100)
"""
    node = Node(tmp_path, script("torchrun", body), nproc_per_node="2")
    ranks = node.start()
    node.run_until(lambda: node.text().count("up") == 2)
    os.kill(next(iter(ranks._pids)), signal.SIGTERM)
    node.run_until(lambda: node.text().count("saved None") == 2)
    node.end(ranks)


@apart
def test_a_rank_that_nobody_reaps_does_not_live(tmp_path: Path) -> None:
    """Where the kernel has no pidfds; torchrun's agent reaps nothing while it is held."""
    body = """
def body(rank):
    start(rank)
    signal.signal(15, lambda *_: time.sleep(0.3 * rank) or os._exit(3))  # rank 1 when the agent is held
    print("up", flush=True)
    time.sleep(100)
"""
    del os.pidfd_open
    node = Node(tmp_path, script("torchrun", body), nproc_per_node="2", grace_period="600")
    ranks = node.start()
    node.run_until(lambda: node.text().count("up") == 2)
    node.end(ranks, grace=True)
    assert () == process_tree.descendants(os.getpid())
