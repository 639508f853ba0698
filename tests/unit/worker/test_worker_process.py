"""Real worker processes with a stand-in for torch: what a user sees when ranks end, fail, hang on or are stopped."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from k8sddp.render import bundle
from tests.unit.worker import workers


def test_a_gang_of_two_completes(tmp_path: Path) -> None:
    """Every rank's lines carry its rank, all pods exit 0 and say complete, and nothing is left in their scratch."""
    script = "import os\nprint('rank', os.environ['RANK'], 'of', os.environ['WORLD_SIZE'], os.environ['MASTER_ADDR'])\n"
    with workers.Gang(tmp_path, script, nnodes=2, nproc_per_node="2").start() as gang:
        assert [0, 0] == gang.wait()
    assert "[rank 0] rank 0 of 4 127.0.0.2\n" in gang.pods[0].log
    assert "[rank 3] rank 3 of 4 127.0.0.2\n" in gang.pods[1].log
    assert ["complete", "complete"] == [pod.verdict["outcome"] for pod in gang.pods]
    assert [[], []] == [pod.scratch for pod in gang.pods]


@pytest.mark.parametrize(
    ("ending", "code", "kind", "said"),
    [
        pytest.param("raise ValueError('bad data')", 1, "exception", "raised ValueError: bad data", id="exception"),
        pytest.param("sys.exit(3)", 3, "exit", "exited with code 3", id="sys.exit"),
        pytest.param("os._exit(5)", 5, "exit", "exited with code 5", id="os._exit"),
        pytest.param("os._exit(200)", 64, "exit", "exited with code 200", id="code beyond 63"),
        pytest.param("sys.exit('no data')", 1, "exit", "exited with code 1; its last line: no data", id="exit text"),
        pytest.param(
            "os.kill(os.getpid(), 9)", 64, "signal", "was killed by SIGKILL (perhaps out of memory)", id="kill"
        ),
        pytest.param("os.kill(os.getpid(), 11)", 64, "signal", "was killed by SIGSEGV", id="segv"),
        pytest.param("sys.excepthook = print; 1 / 0", 1, "exception", "raised ZeroDivisionError", id="hook replaced"),
        pytest.param("exec('def f(:')", 1, "exception", "raised SyntaxError: invalid syntax", id="syntax error"),
    ],
)
def test_the_failing_rank_is_named_by_every_pod(tmp_path: Path, ending: str, code: int, kind: str, said: str) -> None:
    """Rank 1 fails while rank 0 waits: pod 0 exits with its code, pod 1 with 79, both record the same cause."""
    script = workers.RANK_1_WAITS_ELSE + ending + "\n"
    with workers.Gang(tmp_path, script, nnodes=2).start() as gang:
        assert [code, 79] == gang.wait()
    assert gang.pods[0].verdict == gang.pods[1].verdict
    cause = gang.pods[0].cause
    assert (1, 1, "digits-1", "node-b", kind) == tuple(
        cause[name] for name in ("rank", "node_rank", "pod", "kube_node", "class")
    )
    assert str(cause["message"]).startswith("rank 1 (pod digits-1, node node-b) " + said)
    assert all(f"job digits failed: {cause['message']}" in pod.log for pod in gang.pods)


def test_a_rank_ended_by_the_launcher_is_not_blamed(tmp_path: Path) -> None:
    """On one pod, rank 1 exits with 3 and the launcher terminates rank 0."""
    with workers.Gang(tmp_path, workers.RANK_1_WAITS_ELSE + "sys.exit(3)", nproc_per_node="2").start() as gang:
        assert [3] == gang.wait()
    assert 1 == gang.pods[0].cause["rank"]


def test_a_subprocess_of_a_rank_names_no_false_cause(tmp_path: Path) -> None:
    """A Python subprocess that raises is the rank's own business."""
    script = "import subprocess, sys\nprint(subprocess.run([sys.executable, '-c', '1/0']).returncode)\n"
    with workers.Gang(tmp_path, script).start() as gang:
        assert [0] == gang.wait()
    assert "[rank 0] ZeroDivisionError: division by zero\n[rank 0] 1\n" in gang.pods[0].log


def test_an_exception_hook_called_by_hand_ends_nothing(tmp_path: Path) -> None:
    """A script that shows an exception through sys.excepthook and goes on has not failed."""
    script = "import sys\ntry:\n    1 / 0\nexcept Exception:\n    sys.excepthook(*sys.exc_info())\nprint('goes on')\n"
    with workers.Gang(tmp_path, script).start() as gang:
        assert [0] == gang.wait()
    assert "[rank 0] ZeroDivisionError: division by zero\n[rank 0] goes on\n" in gang.pods[0].log


def test_a_hook_of_the_script_may_call_ours(tmp_path: Path) -> None:
    """A script's own excepthook that calls the previous one does not hide the exception."""
    script = "import sys\nours = sys.excepthook\nsys.excepthook = lambda *why: ours(*why)\nraise ValueError('bad')\n"
    with workers.Gang(tmp_path, script).start() as gang:
        assert [1] == gang.wait()
    assert "rank 0 (pod digits-0, node node-a) raised ValueError: bad" == gang.pods[0].cause["message"]


def test_sigterm_while_waiting_ends_at_once(tmp_path: Path) -> None:
    """A pod that waits for the others exits 143 and holds nobody up."""
    with workers.Gang(tmp_path, workers.WAIT_FOR_EVER, nnodes=2).start(0) as gang:
        gang.wait_ready(0, "waiting for the other nodes")
        gang.pods[0].send(signal.SIGTERM)
        assert [143] == gang.wait()
    assert "stopped" == gang.pods[0].verdict["outcome"]


def test_a_killed_launcher_is_named(tmp_path: Path) -> None:
    """SIGKILL of torchrun ends the job, its orphaned rank included."""
    script = "import os\nos.kill(os.getppid(), 9)\n" + workers.WAIT_FOR_EVER
    with workers.Gang(tmp_path, script).start() as gang:
        assert [64] == gang.wait()
    expected = "torchrun on node 0 (pod digits-0, node node-a) was killed by SIGKILL (perhaps out of memory)"
    assert expected == gang.pods[0].cause["message"]
    assert [] == workers.alive(str(gang.folder / "pod-0"))


def test_sigterm_ends_everything(tmp_path: Path) -> None:
    """Ranks get SIGTERM and time to save; daemons, stopped ranks and other sessions die; exit 143, stopped."""
    script = """
import os, signal, subprocess, sys, time
def save(*_):
    print("saved", flush=True)
    sys.exit(0)
rank = int(os.environ["RANK"])
subprocess.Popen(["sleep", "1000"], start_new_session=True)
if os.fork() == 0:
    os.setsid()
    time.sleep(1000)
signal.signal(signal.SIGTERM, save if rank == 0 else signal.SIG_IGN)
print("up", flush=True)
if rank == 1:
    os.kill(os.getpid(), signal.SIGSTOP)
time.sleep(1000)
"""
    with workers.Gang(tmp_path, script, nproc_per_node="2", grace_period="4").start() as gang:
        gang.pods[0].wait_for("[rank 0] up")
        gang.pods[0].wait_for("[rank 1] up")
        gang.pods[0].send(signal.SIGTERM)
        assert [143] == gang.wait()
    assert "[rank 0] saved" in gang.pods[0].log
    assert ("stopped", None) == (gang.pods[0].verdict["outcome"], gang.pods[0].verdict["first_failure"])
    assert [] == workers.alive(str(gang.folder / "pod-0"))
    assert [] == gang.pods[0].scratch


def test_pods_may_come_in_any_order(tmp_path: Path) -> None:
    """A follower waits for pod 0, and readiness says so until the ranks run."""
    with workers.Gang(tmp_path, workers.WAIT_FOR_EVER, nnodes=2).start(1) as gang:
        gang.pods[0].wait_for("node 1 of 2")
        assert (503, "looking for node 0") == gang.get("/readyz", 1)
        gang.start(0)
        gang.pods[0].wait_for("] up")
        assert (200, "training") == gang.get("/readyz", 1)
        assert (200, "ok") == gang.get("/healthz", 0)
        assert 404 == gang.get("/secrets", 0)[0]


@pytest.mark.parametrize("late", [0, 1], ids=["node 0", "node 1"])
def test_a_node_that_comes_late_is_waited_for(tmp_path: Path, late: int) -> None:
    """Longer than rendezvous.timeout: who waits says for whom, for how long and why, and trains in attempt 0."""
    script = "import os\nprint('trained in attempt', os.environ['K8SDDP_ATTEMPT'])\n"
    with workers.Gang(tmp_path, script, nnodes=2, join_timeout="1").start(1 - late) as gang:
        gang.pods[0].wait_for(
            " s so far: see whether its pod is scheduled, its image pulled, and what its log says"
            if late
            else f" s so far: 127.0.0.2 port {gang.port}: connection refused"
        )
        gang.start(late)
        assert [0, 0] == gang.wait()
    assert ("waiting for node 1 of 2, " if late else "node 1 looks for node 0, ") in gang.pods[0].log
    assert all("trained in attempt 0" in pod.log for pod in gang.pods)


def test_a_name_that_does_not_resolve_is_named(tmp_path: Path) -> None:
    """DNS may lag behind the pods: the follower says what it looks for, and goes on."""
    options = {"nnodes": 2, "coordinator": "digits-0.digits.invalid"}
    with workers.Gang(tmp_path, workers.WAIT_FOR_EVER, **options).start(1) as gang:
        gang.pods[0].wait_for("so far: digits-0.digits.invalid.team-a.svc.cluster.local does not resolve")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        pytest.param("K8SDDP_CODE_DIGEST", "other", "the code digest is other there but unset on node 0", id="code"),
        pytest.param("K8SDDP_NPROC_PER_NODE", "2", "nprocPerNode is 2 there but 1 on node 0", id="nproc"),
    ],
)
def test_members_that_disagree_do_not_start(tmp_path: Path, name: str, value: str, said: str) -> None:
    """The difference is one sentence and final: pod 0 exits 77."""
    with workers.Gang(tmp_path, workers.WAIT_FOR_EVER, nnodes=2).start(0) as gang:
        gang.start(1, **{name: value})
        assert [77, 79] == gang.wait()
    assert said in str(gang.pods[0].cause["message"])
    assert "[rank" not in gang.pods[0].log


def code_of(folder: Path, name: str, text: bytes) -> dict[str, str]:
    """Return the environment of a pod whose ConfigMap holds a script of that text."""
    packed = bundle.pack([bundle.CodeFile("train.py", text)])
    (folder / f"{name}.zip").write_bytes(packed.zip)
    return {"K8SDDP_CODE_ZIP": str(folder / f"{name}.zip"), "K8SDDP_WORK_DIR": str(folder / name)}


def test_members_that_unpacked_other_code_do_not_start(tmp_path: Path) -> None:
    """Also from a ConfigMap of the user's, of which the manifest knows no digest."""
    with workers.Gang(tmp_path, workers.WAIT_FOR_EVER, nnodes=2).start(0, **code_of(tmp_path, "a", b"0")) as gang:
        gang.start(1, **code_of(tmp_path, "b", b"1"))
        assert [77, 79] == gang.wait()
    said = str(gang.pods[0].cause["message"])
    digests = [bundle.digest([bundle.CodeFile("train.py", text)]) for text in (b"1", b"0")]
    assert f"the code digest is {digests[0]} there but {digests[1]} on node 0" in said


def test_code_that_is_not_the_jobs_is_refused(tmp_path: Path) -> None:
    """Somebody made the ConfigMap anew: a replaced pod must not train something else."""
    changes = {**code_of(tmp_path, "a", b"0"), "K8SDDP_CODE_DIGEST": "f" * 64, "K8SDDP_CODE_CONFIG_MAP": "digits-code"}
    with workers.Gang(tmp_path, workers.WAIT_FOR_EVER).start(**changes) as gang:
        assert [78] == gang.wait()
    said = str(gang.pods[0].cause["message"])
    assert "ConfigMap digits-code holds other code (digest " in said
    assert ") than the job was made with (ffffffffffff)" in said


def test_strangers_do_not_join(tmp_path: Path) -> None:
    """A worker with another job's uid is dropped with a line, and the gang goes on without noticing."""
    with workers.Gang(tmp_path, "print('done')", nnodes=2).start(0) as gang:
        gang.start(1, name="stranger", K8SDDP_JOB_UID="another-uid")
        gang.pods[0].wait_for("dropped a connection")
        gang.start(1, **workers.at("127.0.0.9"))
        assert [0, 0] == [gang.pods[0].wait(), gang.pods[2].wait()]
    assert 1 == gang.pods[0].log.count("dropped a connection from 127.0.0.1: it does not belong to this job")


def test_a_newer_pod_supersedes_an_older_one(tmp_path: Path) -> None:
    """Two pods claim index 1 while the gang gathers: the older leaves with 79, the newer trains."""
    with workers.Gang(tmp_path, "print('done')", nnodes=3).start(0, 1) as gang:
        gang.wait_ready(1, "waiting for the other nodes")
        gang.start(1, name="newer", **workers.at("127.0.0.9"), K8SDDP_POD_NAME="digits-1-new")
        assert 79 == gang.pods[1].wait()
        gang.start(2)
        assert [0, 0, 0] == [gang.pods[index].wait() for index in (0, 2, 3)]
    assert "superseded by pod digits-1-new" in str(gang.pods[1].cause["message"])


@pytest.mark.parametrize(
    ("changes", "code", "said"),
    [
        pytest.param({"K8SDDP_NNODES": "0"}, 78, "K8SDDP_NNODES=0 must be at least 1", id="environment"),
        pytest.param({"PYTHONPATH": str(workers.ROOT)}, 77, "torch is not installed for", id="no torch"),
        pytest.param(
            {"K8SDDP_BACKEND": "nccl", "K8SDDP_NPROC_PER_NODE": "99"}, 77, "nccl needs a GPU per rank", id="gpus"
        ),
        pytest.param({"K8SDDP_BIND_HOST": "192.0.2.1"}, 77, "at 192.0.2.1 for /healthz and /readyz", id="address"),
        pytest.param(
            {"K8SDDP_WORK_DIR": "/proc/nowhere"}, 77, "the working directory /proc/nowhere cannot", id="folder"
        ),
        pytest.param(
            {"K8SDDP_CODE_ZIP": "/nowhere.zip", "K8SDDP_WORK_DIR": "/tmp"}, 78, "has no key nowhere.zip", id="code"
        ),
    ],
)
def test_what_cannot_work_is_refused_in_one_sentence(
    tmp_path: Path, changes: dict[str, str], code: int, said: str
) -> None:
    """Before anything starts: exit 77 or 78, one line, no traceback, the same sentence in the termination log."""
    options = {"python": sys_python_without_torch()} if said.startswith("torch") else {}
    with workers.Gang(tmp_path, "print('ran')", **options).start(0, **changes) as gang:
        assert [code] == gang.wait()
    assert said in str(gang.pods[0].cause["message"])
    assert 1 == len(gang.pods[0].log.splitlines())


def test_a_fault_of_ours_imitates_no_rank(tmp_path: Path) -> None:
    """Exit 75 and a verdict, also before the gang: 1 would be taken for the exit code of a rank."""
    with workers.Gang(tmp_path, "print('ran')").start(0, K8SDDP_PORT="70000") as gang:
        assert [75] == gang.wait()
    assert "the worker itself failed: OverflowError" in str(gang.pods[0].cause["message"])


def test_a_missing_script_is_refused(tmp_path: Path) -> None:
    """The sentence says where the script was looked for."""
    gang = workers.Gang(tmp_path, "")
    gang.words = ("nothere.py",)
    with gang.start():
        assert [77] == gang.wait()
    assert f"the script nothere.py is not in {tmp_path}" in str(gang.pods[0].cause["message"])


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    """The second worker on the same address says which port and what to change."""
    with workers.Gang(tmp_path, workers.WAIT_FOR_EVER).start() as gang:
        gang.pods[0].wait_for("] up")
        gang.start(0, name="second", K8SDDP_PORT=str(gang.port))
        assert 77 == gang.pods[1].wait()
    expected = f"port {gang.port + 1} at 127.0.0.2 for /healthz and /readyz cannot be used (address already in use)"
    assert expected in str(gang.pods[1].cause["message"])


def test_output_is_complete_and_unchanged(tmp_path: Path) -> None:
    """100,000 lines, bytes that are no text, an endless line and one without an end arrive byte for byte."""
    script = r"""
import os, sys
out = sys.stdout.buffer
for i in range(100_000):
    out.write(b"line %d\n" % i)
out.write(b"\xff\x00\xfe binary\n")
out.write(b"x" * 100_000 + b"\n")
out.write(b"no end")
out.flush()
"""
    with workers.Gang(tmp_path, script).start() as gang:
        assert [0] == gang.wait()
    lines = [line[9:] for line in gang.pods[0].log_path.read_bytes().split(b"\n") if line.startswith(b"[rank 0] ")]
    assert [b"line %d" % i for i in range(100_000)] == lines[:100_000]
    assert [b"\xff\x00\xfe binary", b"x" * 65536, b"x" * 34464, b"no end"] == lines[100_000:]


def test_a_line_without_an_end_is_shown_while_the_rank_runs(tmp_path: Path) -> None:
    """A prompt or progress bar appears though no newline follows."""
    script = "import sys, time\nsys.stdout.write('halfway')\nsys.stdout.flush()\ntime.sleep(100)\n"
    with workers.Gang(tmp_path, script).start() as gang:
        gang.pods[0].wait_for("[rank 0] halfway\n")


def test_spawned_children_become_ranks(tmp_path: Path) -> None:
    """With launcher spawn the script runs once per node, with the imagenet convention and no TORCHELASTIC names."""
    script = """
import os
names = ("MASTER_ADDR", "NNODES", "NODE_RANK", "LOCAL_WORLD_SIZE", "RANK", "WORLD_SIZE")
print(*[os.environ[name] for name in names], [n for n in os.environ if n.startswith(("PET_", "TORCHELASTIC_"))])
"""
    with workers.Gang(tmp_path, script, nnodes=2, nproc_per_node="4", launcher="spawn") as gang:
        gang.start(TORCHELASTIC_USE_AGENT_STORE="True", PET_NNODES="7")
        assert [0, 0] == gang.wait()
    assert "[node 1] 127.0.0.2 2 1 4 1 2 []\n" in gang.pods[1].log


@pytest.mark.parametrize(
    ("launcher", "nnodes", "nproc_per_node", "remarks"),
    [("torchrun", 1, 2, 1), ("direct", 1, 2, 1), ("spawn", 1, 2, 1), ("direct", 2, 1, 1), ("direct", 1, 1, 0)],
)
def test_ranks_that_never_joined_earn_a_remark(
    tmp_path: Path, launcher: str, nnodes: int, nproc_per_node: int, remarks: int
) -> None:
    """They may have trained for days, each for itself: said by node 0, in log and verdict; one rank needs no group."""
    options = {"launcher": launcher, "nproc_per_node": str(nproc_per_node)}
    with workers.Gang(tmp_path, "print('done')", nnodes=nnodes, **options).start() as gang:
        assert [0] * nnodes == gang.wait()
    said = "no rank joined a process group (init_process_group was never called): the 2 ranks trained separately"
    assert [said] * remarks == gang.pods[0].verdict["remarks"]
    assert remarks == sum(pod.log.count(f"[k8sddp] {said}\n") for pod in gang.pods)


def test_a_failing_spawn_script_is_its_only_rank(tmp_path: Path) -> None:
    """With one process per node the script is the rank, even before it has joined a process group."""
    script = workers.RANK_1_WAITS_ELSE + "raise KeyError('early')\n"
    with workers.Gang(tmp_path, script, nnodes=2, launcher="spawn").start() as gang:
        assert [1, 79] == gang.wait()
    assert "rank 1 (pod digits-1, node node-b) raised KeyError: 'early'" == gang.pods[0].cause["message"]


def sys_python_without_torch() -> str:
    """Return an interpreter that has no torch of its own: this one, without its site-packages."""
    import sys

    return getattr(sys, "_base_executable", sys.executable)
