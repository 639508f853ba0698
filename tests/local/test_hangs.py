"""Hangs of real ranks: every kind on the right rank, with its place, and nothing that only takes long.

K8SDDP_TEST_REPEATS=10 does everything ten times. The seconds that are printed (`-s`) are from the rank's own last word
to node 0's verdict; restart.hangTimeout is 5 s here.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.local import hanging
from tests.unit.worker import workers

pytest.importorskip("torch", reason="torch is not installed: pip install 'k8sddp[torch]'")
pytestmark = [pytest.mark.torch, pytest.mark.timeout(240)]

again = pytest.mark.parametrize("run", range(hanging.REPEATS))
LONG = 60.0  # seconds; ten times what it takes

# kind -> what is said of rank 1
PLACES = {
    "stop": "its process is stopped (SIGSTOP), for ",
    "loop": f"train.py:{hanging.line_of('while True: pass')} in loop (`while True: pass`)",
    "sleep": f"train.py:{hanging.line_of('time.sleep(1e6)')} in sleep (`time.sleep(1e6)`)",
    "gil": f"train.py:{hanging.line_of('ctypes.PyDLL')} in gil (`ctypes.PyDLL(None).read(ends[0], bytes(1), 1)",
    "loader": f"train.py:{hanging.line_of('for step, batch')} in train (`for step, batch in enumerate(",
    "mismatch": "it has been inside barrier, in train.py:",
}


@again
@pytest.mark.parametrize("kind", PLACES)
def test_a_hang_is_found_on_the_right_rank_and_at_its_place(tmp_path: Path, kind: str, run: int) -> None:
    """Rank, pod, node, line and waiters; the stacks of both nodes are in their logs; exit code 76."""
    with hanging.start(tmp_path, kind, nnodes=3 if kind == "mismatch" else 2) as gang:
        found = hanging.told(gang, " hangs: ")
        assert 76 == gang.wait()[0]
    print(f"{kind}: {found.seconds:.1f} s: {found.text}")
    message = str(gang.pods[0].cause["message"])
    assert message.startswith("rank 1 (pod digits-1, node node-b) hangs: "), message
    assert PLACES[kind] in message, message
    assert " in backward" in message, message
    assert ("hang", 1, 1, 2) == tuple(gang.pods[0].cause[name] for name in ("class", "rank", "node_rank", "last_step"))
    for rank, pod in enumerate(gang.pods):
        assert f"[k8sddp] stack of rank {rank}: " in pod.log, pod.log
    assert found.seconds < LONG


@pytest.mark.parametrize("launcher", ["torchrun", "spawn"])
def test_a_hang_is_found_however_the_ranks_were_started(tmp_path: Path, launcher: str) -> None:
    """torchrun's agent and mp.spawn's parent stand between."""
    with hanging.start(tmp_path, "sleep", launcher=launcher) as gang:
        hanging.told(gang, " hangs: ")
        assert 76 == gang.wait()[0]
    assert PLACES["sleep"] in str(gang.pods[0].cause["message"])


def test_a_gang_that_hung_trains_on_in_the_next_attempt(tmp_path: Path) -> None:
    """It costs one attempt, and the history says why."""
    with hanging.start(tmp_path, "stop", on_hang="restart", max_attempts="2") as gang:
        hanging.told(gang, "attempt 0 ended: rank 1 (pod digits-1, node node-b) hangs: its process is stopped")
        assert [0, 0] == gang.wait()
    assert "; 1 of 2 attempts used" in gang.pods[0].log
    assert [] == workers.alive(str(tmp_path / "pod-1"))


def test_the_last_attempt_that_hangs_ends_the_job_with_76(tmp_path: Path) -> None:
    """The budget is used up."""
    with hanging.start(tmp_path, "sleep", on_hang="restart") as gang:
        assert [76, 79] == gang.wait()
    assert "hang" == gang.pods[0].cause["class"]


def test_a_hang_that_is_only_reported_ends_nothing(tmp_path: Path) -> None:
    """It is said, with the stacks; the gang goes on when the rank does."""
    with hanging.start(tmp_path, "stop", on_hang="report") as gang:
        told = hanging.told(gang, " hangs: ")
        assert told.text.endswith("; nothing is ended, because restart.onHang is report")
        for pid in hanging.processes_of(gang.pods[1])[1:]:
            os.kill(pid, signal.SIGCONT)
        hanging.told(gang, "nobody waits for rank 1 any more")
        (tmp_path / "seen").touch()
        assert [0, 0] == gang.wait()


@again
def test_a_rank_that_still_works_is_reported_and_ended_at_twice_the_limit(tmp_path: Path, run: int) -> None:
    """It evaluates for ever while the other waits."""
    with hanging.start(tmp_path, "work", "1e6") as gang:
        told = hanging.told(gang, " still works, and the others wait for it: ")
        assert "ended when they have waited for 10 s" in told.text
        assert 76 == gang.wait()[0]
    assert str(gang.pods[0].cause["message"]).startswith("rank 1 (pod digits-1, node node-b) hangs: for 1")


LONG_WORK = [
    pytest.param("work", "8", id="one rank evaluates, the others wait"),
    pytest.param("save", "8", id="one rank saves, the others wait"),
    pytest.param("evaluation", "", id="rank 0 evaluates and nobody waits in a collective"),
    pytest.param("pauses", "", id="rank 0 evaluates twice for less than the limit"),
    pytest.param("first-batch", "", id="slow first batch"),
    pytest.param("compile", "", id="torch.compile"),
    pytest.param("join", "", id="uneven data"),
    pytest.param("loader-of-all", "", id="a DataLoader that blocks all ranks"),
]


@again
@pytest.mark.parametrize(("kind", "seconds"), LONG_WORK)
def test_what_only_takes_long_is_no_hang(tmp_path: Path, kind: str, seconds: str, run: int) -> None:
    """Longer than restart.hangTimeout; at most it is said that a rank still works."""
    with hanging.start(tmp_path, kind, seconds) as gang:
        assert [0, 0] == gang.wait(), gang.pods[0].log
    log = gang.pods[0].log
    assert " hangs: " not in log, log
    assert kind in ("work", "save") or " still works" not in log, log  # said only if the looks come before its end


@again
def test_a_paused_pod_is_no_hang(tmp_path: Path, run: int) -> None:
    """Every process of it stands still for twice the limit, as in a frozen cgroup, and then goes on."""
    with hanging.start(tmp_path, "pause") as gang:
        hanging.until(lambda: "hangs now" in gang.pods[1].log, gang)
        paused = hanging.processes_of(gang.pods[1])
        for pid in paused:
            os.kill(pid, signal.SIGSTOP)
        time.sleep(2 * hanging.LIMIT)  # the pause itself
        for pid in reversed(paused):
            os.kill(pid, signal.SIGCONT)
        assert [0, 0] == gang.wait(), gang.pods[0].log
    assert not any(" hangs: " in pod.log for pod in gang.pods)
