"""/stacks: what it shows people and programs, which ranks it looks at, and that a busy gang is seen in moments."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest

from k8sddp.worker import stacks_page
from k8sddp.worker.contract import stacks
from k8sddp.worker.contract.stacks import Frame, RankStack
from tests.unit.worker import workers
from tests.unit.worker.test_status import FACTS

NODE = FACTS._replace(job="digits", node_rank=1, nnodes=3, nproc_per_node=8, pod="digits-1-x")
SEEN = (
    RankStack(
        8,
        4711,
        "S",
        frames=(Frame("/app/train.py", 12, "step"), Frame("/app/train.py", 40, "<module>")),
        cut=True,
        user_frame=Frame("/app/train.py", 12, "step"),
        waits=True,
        signature="0badcafe",
        phase="forward",
        step=12,
    ),
    RankStack(9, 4712, "T", "is stopped", phase="between", step=11),
    RankStack(10, None, None, "has not started yet"),
)
TEXT = """\
node 1 of 3, pod digits-1-x, attempt 1: what its ranks do, the most recent call last

rank 8 (pid 4711, sleeping, forward, step 12)
  ...
  /app/train.py:40 in <module>
  /app/train.py:12 in step

rank 9 (pid 4712, stopped, between, step 11)
  is stopped

rank 10 (not there)
  has not started yet"""

TRAIN = """
import ctypes, os, signal, time
rank = int(os.environ["RANK"])
def asleep():
    print("up", rank, flush=True)
    while True:
        time.sleep(100)
def holding_the_gil():
    sleep = ctypes.PyDLL(None).sleep
    print("up", rank, flush=True)
    while True:
        sleep(100)
def stopped():
    print("up", rank, flush=True)
    os.kill(os.getpid(), signal.SIGSTOP)
{1: holding_the_gil, 2: stopped}.get(rank, asleep)()
"""


def test_people_read_the_most_recent_call_last() -> None:
    """As in a traceback; who cannot answer says why in its place."""
    assert TEXT == stacks_page.to_text(NODE, SEEN)
    waiting = NODE._replace(state="waiting")
    assert "node 1 of 3, pod digits-1-x: no ranks run (waiting)" == stacks_page.to_text(waiting, ())


def test_programs_read_the_same_values() -> None:
    """What is written is read back by any version that knows less or more."""
    record = json.loads(stacks_page.to_json(NODE, SEEN))
    assert list(SEEN) == [stacks.from_record(one) for one in record["stacks"]]
    assert ("digits", 1, 3, 8, 1) == tuple(
        record[name] for name in ("job", "node_rank", "nnodes", "nproc_per_node", "attempt")
    )
    assert {"file": "/app/train.py", "line": 12, "function": "step"} == record["stacks"][0]["frames"][0]


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"rank": "8"},
        {"rank": True},
        {"rank": 8, "frames": 3, "pid": "x", "user_frame": [], "step": {}, "state": 1},
        {"rank": 8, "frames": [1, None, {}, {"file": 1, "line": "x"}]},
    ],
)
def test_what_is_no_stack_is_none_or_says_nothing(record: dict[str, object]) -> None:
    """A pod of another version, or a script on its port, cannot break who reads."""
    found = stacks.from_record(record)
    assert found is None or ("", "", None) == (found.problem, found.phase, found.step)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(None, None, id="all"),
        pytest.param("8", range(8, 9), id="the first"),
        pytest.param("15", range(15, 16), id="the last"),
        pytest.param(
            "16", (404, "rank 16 is on node 2, with ranks 16-23; this is node 1, with ranks 8-15"), id="there"
        ),
        pytest.param("24", (404, "there is no rank 24: the job has ranks 0 to 23"), id="nowhere"),
        pytest.param("-1", (400, "rank=-1 is no rank"), id="negative"),
        pytest.param("1" * 10, (400, "rank=1111111111 is no rank"), id="too long"),
    ],
)
def test_a_rank_of_another_node_is_answered_with_that_node(text: str | None, expected: object) -> None:
    """A worker can look at its own processes only."""
    assert expected == stacks_page.chosen(text, NODE)


def test_a_gang_is_seen_in_moments_whatever_its_ranks_do(tmp_path: Path) -> None:
    """In Python, with the GIL held, stopped: each node answers within seconds, and nothing happens to the ranks."""
    with workers.Gang(tmp_path, TRAIN, nnodes=2, nproc_per_node="2", launcher="direct").start() as gang:
        for rank in range(4):
            gang.pods[rank // 2].wait_for(f"[rank {rank}] up")
        workers.wait_until(
            lambda: "(pid" in gang.get("/stacks?rank=2", 1)[1] and "stopped" in gang.get("/stacks", 1)[1]
        )
        started = time.monotonic()
        (first, of_0), (second, of_1) = gang.get("/stacks", 0), gang.get("/stacks", 1)
        assert time.monotonic() - started < 20
        assert (200, 200) == (first, second)
        assert [" in asleep\n", " in holding_the_gil"] == [
            found for found in (" in asleep\n", " in holding_the_gil") if found in of_0
        ]
        assert "node 1 of 2, pod digits-1, attempt 0: what its ranks do" in of_1
        assert "stopped, starting, step 0)\n  is stopped" in of_1
        assert (404, "rank 3 is on node 1, with ranks 2-3; this is node 0, with ranks 0-1") == gang.get(
            "/stacks?rank=3", 0
        )
        assert (400, "format=xml is neither text nor json") == gang.get("/stacks?format=xml", 0)
        record = json.loads(gang.get("/stacks?format=json&rank=1", 0)[1])
        assert [(1, "holding_the_gil")] == [(one["rank"], one["user_frame"]["function"]) for one in record["stacks"]]
        for pod in gang.pods:
            pod.send(signal.SIGTERM)
        assert [143, 143] == gang.wait()


def test_a_worker_that_gets_sigquit_prints_what_its_ranks_do_and_goes_on(tmp_path: Path) -> None:
    """As often as it is asked; the line of the program stands below the frame."""
    with workers.Gang(tmp_path, TRAIN, nproc_per_node="3", launcher="direct").start() as gang:
        pod = gang.pods[0]
        for rank in range(3):
            pod.wait_for(f"[rank {rank}] up")
        workers.wait_until(lambda: "stopped" in gang.get("/stacks", 0)[1])
        for count in (1, 2):
            pod.send(signal.SIGQUIT)
            workers.wait_until(lambda count=count: count == pod.log.count("is stopped"), lambda: pod.log)  # type: ignore[misc]
        assert 2 == pod.log.count("[k8sddp] SIGQUIT: what the ranks of this node do")
        assert f"[k8sddp]   {tmp_path}/train.py:12 in holding_the_gil\n[k8sddp]       sleep(100)\n" in pod.log
        assert (200, "training") == gang.get("/readyz", 0)
        pod.send(signal.SIGTERM)
        assert [143] == gang.wait()


def test_ranks_that_save_are_seen_until_they_have_ended(tmp_path: Path) -> None:
    """A save that hangs is when a person asks: the pod is being stopped, and its rank lives on in its grace."""
    script = (
        "import signal, sys, time\n"
        "def save(*_):\n    print('saving', flush=True)\n    time.sleep(100)\n"
        "signal.signal(signal.SIGTERM, save)\nprint('up', flush=True)\ntime.sleep(100)\n"
    )
    with workers.Gang(tmp_path, script, launcher="direct", grace_period="60").start() as gang:
        pod = gang.pods[0]
        pod.wait_for("[rank 0] up")
        pod.send(signal.SIGTERM)
        pod.wait_for("[rank 0] saving")
        workers.wait_until(lambda: gang.get("/stacks")[1].endswith(" in save"), lambda: gang.get("/stacks")[1])
        pod.send(signal.SIGKILL)


def test_a_node_without_ranks_says_so(tmp_path: Path) -> None:
    """It waits for the others, and no one is looked at."""
    with workers.Gang(tmp_path, workers.WAIT_FOR_EVER, nnodes=2).start(1) as gang:
        gang.wait_ready(1, "looking for node 0")
        assert (200, "node 1 of 2, pod digits-1: no ranks run (joining)") == gang.get("/stacks", 1)
        assert [] == json.loads(gang.get("/stacks?format=json", 1)[1])["stacks"]
        gang.pods[0].send(signal.SIGQUIT)
        gang.pods[0].wait_for("SIGQUIT: no ranks run on this node")


def test_the_worker_and_what_it_starts_ignore_the_signals_until_a_rank_is_ready(tmp_path: Path) -> None:
    """The launcher never answers, and a signal that comes too early harms nobody."""
    told = "print(next(line for line in open('/proc/self/status') if line.startswith('SigIgn')))"
    script = f"import subprocess, sys\nsubprocess.run([sys.executable, '-I', '-c', {told!r}])\n"
    with workers.Gang(tmp_path, script, launcher="spawn").start() as gang:
        assert [0] == gang.wait()
        mask = int(gang.pods[0].log.partition("SigIgn:")[2].split()[0], 16)
    assert [1, 1] == [mask >> (number - 1) & 1 for number in (signal.SIGRTMIN + 5, signal.SIGRTMIN + 6)]
