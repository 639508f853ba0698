"""Real worker processes with a stand-in for torch: gangs that lose a rank or a pod, and go on."""

from __future__ import annotations

import os
import signal
import socket
import time
from pathlib import Path

import pytest

from k8sddp.worker import leaving
from tests.unit.worker import workers


def test_a_killed_rank_restarts_the_gang(tmp_path: Path) -> None:
    """Both pods stay; attempt 1 has another port; every pod says who ended attempt 0, and the job completes."""
    script = """
import os, sys, time
attempt, rank = os.environ["K8SDDP_ATTEMPT"], os.environ["RANK"]
print("attempt", attempt, "port", os.environ["MASTER_PORT"], flush=True)
if attempt == "0":
    if rank == "1":
        os.kill(os.getpid(), 9)
    time.sleep(100)
"""
    with workers.Gang(tmp_path, script, nnodes=2, max_attempts="2").start() as gang:
        assert [0, 0] == gang.wait()
    cause = "rank 1 (pod digits-1, node node-b) was killed by SIGKILL (perhaps out of memory)"
    for pod in gang.pods:
        assert f"[k8sddp] attempt 0 ended: {cause}; 1 of 2 attempts used\n" in pod.log
        assert ("complete", 1, 1) == tuple(pod.verdict[name] for name in ("outcome", "attempt", "spent"))
        assert [{"attempt": 0, "counted": True, "message": cause}] == pod.verdict["history"]
        assert "was killed" not in pod.log.replace(cause, "")  # ranks that we end ourselves are no failures
    ports = {line.rpartition("port ")[2] for line in gang.pods[0].log.splitlines() if "] attempt " in line}
    assert {str(gang.port + 10), str(gang.port + 11)} == {port for port in ports if port.isdigit()}
    assert [[], []] == [pod.scratch for pod in gang.pods]


def test_node_0_leaves_when_the_kubelets_have_seen_the_others_go(tmp_path: Path) -> None:
    """They look once a second; pods that seem to run when node 0 has ended the Job deletes, with their logs."""
    with (
        workers.Gang(tmp_path, "pass", nnodes=2, preflight="skip").start(1).start(0, K8SDDP_POD_IP="192.0.2.1") as gang
    ):
        follower, node_0 = gang.pods
        assert 0 == follower.wait()
        gone = time.monotonic()
        assert 0 == node_0.wait()
        assert time.monotonic() - gone > 0.9 * leaving.KUBELET_LIMIT


def test_the_budget_is_spent_exactly(tmp_path: Path) -> None:
    """Three attempts, then the job fails with the rank's own code and what happened before."""
    with workers.Gang(tmp_path, workers.RANK_1_WAITS_ELSE + "sys.exit(3)", nnodes=2, max_attempts="3").start() as gang:
        assert [3, 79] == gang.wait()
    assert [1, 1, 1, 0] == [gang.pods[0].log.count(f"attempt {number} starts") for number in range(4)]
    verdict = gang.pods[0].verdict
    assert (2, 3, 3) == (verdict["attempt"], verdict["spent"], verdict["max_attempts"])
    assert [0, 1] == [entry["attempt"] for entry in verdict["history"]]
    assert "; 3 of 3 attempts used (exit 3)" in gang.pods[1].log.splitlines()[-1].replace("(exit 79)", "(exit 3)")


@pytest.mark.parametrize(
    ("script", "args", "attempts", "code", "said"),
    [
        pytest.param(
            "import argparse\nparser = argparse.ArgumentParser()\nparser.add_argument('--epochs', type=int)\n"
            "parser.parse_args()\n",
            ["--epochs", "two"],
            1,
            2,
            "argument --epochs: invalid int value: 'two'; not tried again: the arguments stay as they are",
            id="argparse",
        ),
        pytest.param(
            "def main(:\n    pass\n", [], 1, 1, "not tried again: Python cannot read this code", id="syntax error"
        ),
        pytest.param(
            "import no_such_module\n",
            [],
            1,
            1,
            "raised ModuleNotFoundError: No module named 'no_such_module'; not tried again: the image and the code "
            "stay as they are",
            id="missing module",
        ),
        pytest.param(
            "open('/no/such/data')\n",
            [],
            2,
            1,
            "No such file or directory: '/no/such/data'; not tried again: the same failure came twice before any step",
            id="the same twice",
        ),
        pytest.param(
            "import os\nraise ValueError('of attempt ' + os.environ['K8SDDP_ATTEMPT'])\n",
            [],
            4,
            1,
            "raised ValueError: of attempt 3",
            id="another each time",
        ),
    ],
)
def test_no_attempt_is_made_that_cannot_help(
    tmp_path: Path, script: str, args: list[str], attempts: int, code: int, said: str
) -> None:
    """What the script itself refuses ends the job at once, the same failure before any step the second time."""
    with workers.Gang(tmp_path, script, *args, max_attempts="4", launcher="direct").start() as gang:
        assert [code] == gang.wait()
    assert attempts == sum(f"attempt {number} starts" in gang.pods[0].log for number in range(5))
    assert str(gang.pods[0].cause["message"]).endswith(said)
    assert attempts == gang.pods[0].verdict["spent"]


def test_an_exit_code_may_be_final(tmp_path: Path) -> None:
    """failOn: the first attempt is the last."""
    with workers.Gang(
        tmp_path, workers.RANK_1_WAITS_ELSE + "sys.exit(3)", nnodes=2, max_attempts="3", fail_on="3"
    ) as gang:
        assert [3, 79] == gang.start().wait()
    assert 0 == gang.pods[0].log.count("attempt 1 starts")


def test_nothing_of_an_attempt_outlives_it(tmp_path: Path) -> None:
    """A stopped rank, a helper in a session of its own and an orphan are gone before attempt 1 starts."""
    script = """
import os, signal, subprocess, sys, time
if os.environ["K8SDDP_ATTEMPT"] == "1":
    sys.exit(0)
subprocess.Popen(["sleep", "1000"], start_new_session=True, env={**os.environ, "OF_ATTEMPT": "zero"})
if os.environ["RANK"] == "0":
    os.kill(os.getpid(), signal.SIGSTOP)
while len(os.listdir(os.environ["MARKS"])) < 2:
    open(os.path.join(os.environ["MARKS"], os.environ["RANK"]), "w").close()
    open(os.path.join(os.environ["MARKS"], "x"), "w").close()
sys.exit(3)
"""
    marks = tmp_path / "marks"
    marks.mkdir()
    with workers.Gang(tmp_path, script, nproc_per_node="2", max_attempts="2") as gang:
        gang.start(MARKS=str(marks))
        gang.pods[0].wait_for("attempt 1 starts")
        assert [] == workers.alive("OF_ATTEMPT=zero")
        assert [0] == gang.wait()


def await_up(gang: workers.Gang) -> None:
    """Wait until every pod's rank has said that it runs."""
    for pod in gang.pods:
        pod.wait_for("] up")


def end_with(pod: workers.Pod) -> None:
    """Kill a pod's worker and then what it leaves, as a container's end does."""
    pod.send(signal.SIGKILL)
    pod.wait()
    for pid in workers.alive(str(pod.folder)):
        os.kill(pid, signal.SIGKILL)


UP_THEN_DONE = (
    "import os, time\nprint('up', flush=True)\nif os.environ['K8SDDP_ATTEMPT'] == '0':\n    time.sleep(100)\n"
)


@pytest.mark.parametrize("index", [0, 1], ids=["node 0", "node 1"])
def test_a_stopped_member_leaves_alone_and_free(tmp_path: Path, index: int) -> None:
    """It exits 143; the other pod stays and trains on with the replacement, although the budget is one attempt."""
    with workers.Gang(tmp_path, UP_THEN_DONE, nnodes=2).start() as gang:
        await_up(gang)
        gang.pods[index].send(signal.SIGTERM)
        assert 143 == gang.pods[index].wait()
        gang.start(index, name="new", K8SDDP_POD_NAME="digits-new", K8SDDP_IGNORED_COUNT="1")
        assert [0, 0] == [gang.pods[1 - index].wait(), gang.pods[2].wait()]
    said = f"attempt 0 ended: node {index} (pod digits-{index}) was asked to stop (SIGTERM); a disruption, not counted"
    assert said in gang.pods[1 - index].log
    assert (1, 0) == (gang.pods[2].verdict["attempt"], gang.pods[2].verdict["spent"])


@pytest.mark.parametrize("index", [0, 1], ids=["node 0", "node 1"])
@pytest.mark.parametrize(
    ("count", "outcome"),
    [
        pytest.param("K8SDDP_FAILURE_COUNT", "failed", id="counted"),
        pytest.param("K8SDDP_IGNORED_COUNT", "complete", id="ignored"),
    ],
)
def test_a_pod_lost_without_a_word(tmp_path: Path, index: int, count: str, outcome: str) -> None:
    """The replacement's counts tell whether the one attempt of the budget is used up; the lost pod is named."""
    with workers.Gang(tmp_path, UP_THEN_DONE, nnodes=2).start() as gang:
        await_up(gang)
        end_with(gang.pods[index])
        gang.start(index, name="new", K8SDDP_POD_NAME="digits-new", **{count: "1"})
        codes = {index: gang.pods[2].wait(), 1 - index: gang.pods[1 - index].wait()}
    assert {0: 64, 1: 79} if outcome == "failed" else {0: 0, 1: 0} == codes
    verdict = gang.pods[2].verdict
    assert outcome == verdict["outcome"]
    lost = (
        f"node {index} (pod digits-{index}, node node-{'ab'[index]}): its pod was lost without a word, or its network"
    )
    told = verdict["first_failure"]["message"] if outcome == "failed" else verdict["history"][0]["message"]
    assert lost == told


def test_the_others_wait_for_the_replacement_of_node_0(tmp_path: Path) -> None:
    """However long it takes, rendezvous.timeout or more: they say for how long, and train on with it."""
    with workers.Gang(tmp_path, UP_THEN_DONE, nnodes=3, join_timeout="1").start() as gang:
        await_up(gang)
        end_with(gang.pods[0])
        for pod in gang.pods[1:]:
            pod.wait_for("looks for node 0, ")
        gang.start(0, name="new", K8SDDP_POD_NAME="digits-new", K8SDDP_IGNORED_COUNT="1")
        assert [0, 0, 0] == [pod.wait() for pod in gang.pods[1:]]
    assert (1, 0) == (gang.pods[3].verdict["attempt"], gang.pods[3].verdict["spent"])


def test_an_old_pod_does_not_get_in(tmp_path: Path) -> None:
    """A pod that Kubernetes has replaced joins again and leaves with 79; the gang does not notice."""
    with workers.Gang(tmp_path, workers.WAIT_FOR_EVER, nnodes=2).start(0) as gang:
        gang.start(1, K8SDDP_IGNORED_COUNT="1", K8SDDP_POD_NAME="digits-1-new")
        await_up(gang)
        gang.start(1, name="old", **workers.at("127.0.0.9"))
        assert 79 == gang.pods[2].wait()
        assert 200 == gang.get("/readyz", 0)[0]
        assert "attempt 0 ended" not in gang.pods[0].log
    assert "superseded by pod digits-1-new" in str(gang.pods[2].cause["message"])


def test_a_master_port_in_use_is_passed_over(tmp_path: Path) -> None:
    """Something else listens where attempt 0 would: it gets the next port."""
    script = "import os\nprint('port', os.environ['MASTER_PORT'])\n"
    gang = workers.Gang(tmp_path, script)
    with socket.create_server(("", gang.port + 10)), gang.start():
        assert [0] == gang.wait()
    assert f"[rank 0] port {gang.port + 11}\n" in gang.pods[0].log


@pytest.mark.parametrize("launcher", ["torchrun", "direct"])
def test_a_rank_that_leaves_early_is_named(tmp_path: Path, launcher: str) -> None:
    """Rank 1 exits with 0; rank 0 then fails like one that has lost its peer: rank 1 is the cause, in one pod too."""
    script = """
import os, sys, time
if os.environ["RANK"] == "1":
    os._exit(0)
time.sleep(0.5)
raise type("DistNetworkError", (RuntimeError,), {"__module__": "torch.distributed"})("the others have gone")
"""
    with workers.Gang(tmp_path, script, nproc_per_node="2", launcher=launcher).start() as gang:
        assert [64] == gang.wait()
    expected = "rank 1 (pod digits-0, node node-a) exited with code 0 while other ranks still trained"
    assert (expected, [0]) == (gang.pods[0].cause["message"], gang.pods[0].verdict["victims"])


def test_a_scripts_own_network_error_is_a_cause(tmp_path: Path) -> None:
    """Rank 1 uploads its metrics to a server that is down, when rank 0 has nothing more to do."""
    script = """
import os, socket, time, urllib.request
if os.environ["RANK"] == "0":
    raise SystemExit(0)
time.sleep(0.5)
with socket.socket() as one:
    one.bind(("127.0.0.1", 0))
    urllib.request.urlopen("http://127.0.0.1:%d/upload" % one.getsockname()[1])
"""
    with workers.Gang(tmp_path, script, nproc_per_node="2", launcher="direct").start() as gang:
        assert [1] == gang.wait()
    said = "rank 1 (pod digits-0, node node-a) raised URLError: <urlopen error [Errno 111] Connection refused>"
    assert (said, []) == (gang.pods[0].cause["message"], gang.pods[0].verdict["victims"])


@pytest.mark.parametrize(
    ("ending", "code", "said"),
    [
        pytest.param("sys.exit(3)", 3, "exited with code 3", id="exit"),
        pytest.param("raise ValueError('bad data')", 1, "raised ValueError: bad data", id="exception"),
        pytest.param("os.kill(os.getpid(), 9)", 64, "was killed by SIGKILL (perhaps out of memory)", id="kill"),
    ],
)
def test_direct_names_the_rank(tmp_path: Path, ending: str, code: int, said: str) -> None:
    """Without an agent the exit status of each rank is read by the worker itself; its siblings are ended."""
    script = workers.RANK_1_WAITS_ELSE + ending + "\n"
    options = {"nproc_per_node": "2", "launcher": "direct"}
    with workers.Gang(tmp_path, script, **options).start() as gang:
        assert [code] == gang.wait()
    assert f"rank 1 (pod digits-0, node node-a) {said}" == gang.pods[0].cause["message"]
    assert [] == workers.alive(str(gang.folder / "pod-0"))


def test_direct_completes_and_restarts(tmp_path: Path) -> None:
    """Two nodes of two ranks: rank 3 fails once, then all four finish, each with its own lines."""
    script = """
import os, sys
if os.environ["K8SDDP_ATTEMPT"] == "0" and os.environ["RANK"] == "3":
    sys.exit(9)
print("finished" if os.environ["K8SDDP_ATTEMPT"] == "1" else "early", flush=True)
"""
    options = {"nnodes": 2, "nproc_per_node": "2", "launcher": "direct", "max_attempts": "2"}
    with workers.Gang(tmp_path, script, **options).start() as gang:
        assert [0, 0] == gang.wait()
    log = gang.pods[0].log + gang.pods[1].log
    assert [1] * 4 == [log.count(f"[rank {rank}] finished\n") for rank in range(4)]
    assert "attempt 0 ended: rank 3 (pod digits-1, node node-b) exited with code 9" in gang.pods[0].log
