"""Which groups are the job's, which processes are ranks of them, and how the others end: with a torch of our own."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from k8sddp.worker.instrument import k8sddp_words
from tests.unit.worker.test_instrument import Ranks, run

C10D = """
import os
group = None
def init_process_group(backend="gloo", init_method=None, timeout=None, world_size=-1, rank=-1, store=None):
    global group
    group = backend, int(os.environ["FORMED_RANK"]), int(os.environ["FORMED_SIZE"])
def destroy_process_group(group=None):
    globals()["group"] = None
def is_initialized():
    return group is not None
def get_backend():
    return group[0]
def get_rank():
    return group[1]
def get_world_size():
    return group[2]
"""
JOIN = "import torch.distributed.distributed_c10d as dist; dist.init_process_group(%s); print('trains', flush=True)"


class Job:
    """Node 1 of 2 with two ranks each: the pipes of rank 3, and processes whose group forms as they are told."""

    def __init__(self, folder: Path, launcher: str = "torchrun", **changes: str) -> None:
        package = folder / "own" / "torch" / "distributed"
        package.mkdir(parents=True)
        for name in (package.parent / "__init__.py", package / "__init__.py"):
            name.write_text("__version__ = '2.15.0'\n")
        (package / "distributed_c10d.py").write_text(C10D)
        self.path = str(folder / "own")
        self.ranks = Ranks(folder / "ranks")
        given = {"K8SDDP_MASTER_ADDR": "digits-0.digits", "MASTER_ADDR": "digits-0.digits", "K8SDDP_POD_IP": "10.0.0.7"}
        self.env = {**self.ranks.spawn_env, **given, "K8SDDP_LAUNCHER": launcher, "K8SDDP_RANK_BASE": "2"}
        if launcher != "spawn":
            self.env.update(RANK="3", LOCAL_RANK="1", WORLD_SIZE="4")
        self.env.update(changes)

    def run(self, rank: int, size: int, words: str = JOIN % "") -> subprocess.CompletedProcess[str]:
        """Run Python code in which init_process_group forms a group of `size` with this process as `rank`."""
        return run(words, {**self.env, "FORMED_RANK": str(rank), "FORMED_SIZE": str(size)}, path=self.path)

    def told(self) -> list[tuple[object, ...]]:
        """Return the events so far: what, and of which rank."""
        return [(event["event"], event["rank"]) if "rank" in event else (event["event"],) for event in self._events()]

    def refusals(self) -> list[object]:
        """Return why processes ended themselves."""
        return [event["detail"] for event in self._events() if event["event"] == "refused"]

    def _events(self) -> list[dict[str, object]]:
        return self.ranks.events()


SIZES = "the ranks formed a group of %d, the job has 4 (2 nodes of 2 ranks): "
ALONE = "so each rank trains alone"


@pytest.mark.parametrize(
    ("launcher", "size", "call", "changes", "reason"),
    [
        pytest.param("torchrun", 1, "'gloo', 'tcp://127.0.0.1:0', None, 1, 0", {}, "world_size=1, " + ALONE, id="1"),
        pytest.param("torchrun", 1, "world_size=1, rank=0", {}, "world_size=1, " + ALONE, id="by name"),
        pytest.param("torchrun", 1, "", {}, "WORLD_SIZE=1, " + ALONE, id="by the environment"),
        pytest.param(
            "spawn",
            2,
            "world_size=2, rank=0",
            {"MASTER_ADDR": "localhost"},
            "the script joins at localhost instead of MASTER_ADDR with world_size=2, so each node trains alone",
            id="localhost",
        ),
        pytest.param("spawn", 2, "init_method='tcp://127.0.0.1:5'", {}, "joins at 127.0.0.1 instead", id="its method"),
        pytest.param("spawn", 2, "init_method='tcp://10.0.0.7:5'", {}, "joins at 10.0.0.7 instead", id="its own host"),
        pytest.param("spawn", 2, "", {}, "it is WORLD_SIZE * LOCAL_WORLD_SIZE", id="nodes under spawn"),
        pytest.param("torchrun", 2, "", {}, "world_size that counts nodes; WORLD_SIZE counts ranks", id="nodes"),
        pytest.param(
            "torchrun",
            2,
            "",
            {"K8SDDP_NNODES": "3"},
            "the ranks formed a group of 2, the job has 6 (3 nodes of 2 ranks): "
            "the script joins with a world_size that counts the ranks of one node",
            id="one node",
        ),
        pytest.param(
            "spawn", 16, "", {}, "the script starts 8 ranks on each node, and spec.nprocPerNode is 2", id="too many"
        ),
        pytest.param("torchrun", 3, "", {}, "the script joins with a world_size of its own", id="anything"),
        pytest.param("direct", 3, "init_method='file:///x'", {}, "a world_size of its own", id="a file"),
    ],
)
def test_a_group_of_another_size_ends_the_process_and_says_why(
    tmp_path: Path, launcher: str, size: int, call: str, changes: dict[str, str], reason: str
) -> None:
    """With exit code 78, before it trains."""
    job = Job(tmp_path, launcher, **changes)
    with job.ranks:
        done = job.run(3 % size, size, JOIN % call)
        (said,) = job.refusals()
        assert (78, "", "") == (done.returncode, done.stdout, job.ranks.output())
    assert str(said).endswith(reason) if "formed" in reason or reason.endswith("2") else reason in str(said)
    assert changes.get("K8SDDP_NNODES") or str(said).startswith(SIZES % size)


def test_no_script_catches_its_end(tmp_path: Path) -> None:
    """Neither handlers nor clean-up run: they could wait for ranks, or train on alone."""
    words = f"""
import atexit
atexit.register(print, "clean-up")
try:
    exec({JOIN % ""!r})
except BaseException:
    print("caught")
finally:
    print("finally")
"""
    job = Job(tmp_path)
    with job.ranks:
        assert 78 == job.run(0, 1, words).returncode
        assert ("", 1) == (job.ranks.output(), len(job.refusals()))


STOPPED = """
import os, signal, time
def stop(*_):
    raise RuntimeError("stopped")
def sleep(seconds):
    os.write(1, b"waits %%g s" %% seconds)
    signal.raise_signal(signal.SIGTERM)
signal.signal(signal.SIGTERM, stop)
time.sleep = sleep
%s
""" % (JOIN % "")


def test_it_waits_for_the_worker_to_end_the_node(tmp_path: Path) -> None:
    """So that no launcher's traceback follows; a SIGTERM meanwhile, whatever the script makes of it, ends it too."""
    job = Job(tmp_path, K8SDDP_WORKER_PID="1")
    with job.ranks:
        assert 78 == job.run(0, 1, STOPPED).returncode
        assert ("waits 5 s", 1) == (job.ranks.output(), len(job.refusals()))


def test_without_a_worker_the_process_says_why_itself(tmp_path: Path) -> None:
    """The pipe is gone: the sentence must not go with it."""
    job = Job(tmp_path, K8SDDP_RANK_DIR="/nowhere")
    done = job.run(0, 1)
    assert (78, "") == (done.returncode, done.stdout)
    assert done.stderr.startswith("k8sddp: the ranks formed a group of 1, the job has 4")


@pytest.mark.parametrize(
    ("launcher", "rank", "own"),
    [("torchrun", 0, "what RANK says"), ("spawn", 1, "NODE_RANK * LOCAL_WORLD_SIZE + its number on the node")],
)
def test_a_rank_of_another_node_is_refused(tmp_path: Path, launcher: str, rank: int, own: str) -> None:
    """A group of the right size in which this node's process has taken a rank of node 0."""
    job = Job(tmp_path, launcher)
    with job.ranks:
        assert 78 == job.run(rank, 4).returncode
        said = f"a process of node 1 joined as rank {rank}, but node 1 has ranks 2-3: a rank is {own}"
        assert [said] == job.refusals()


@pytest.mark.parametrize("launcher", ["torchrun", "direct", "spawn"])
def test_a_group_of_the_job_is_told_and_trains(tmp_path: Path, launcher: str) -> None:
    """Under spawn it makes the process a rank, with the rank that torch gives; what it wrote before is the node's."""
    words = "print('before', flush=True)\n" + JOIN % ""
    job = Job(tmp_path, launcher)
    with job.ranks:
        page = job.ranks.folder / "rank-3.page"
        page.write_bytes(bytes(k8sddp_words.SIZE))
        done = job.run(3, 4, words)
        assert k8sddp_words.JOINED == memoryview(page.read_bytes()).cast("Q")[k8sddp_words.GROUP]
        assert (0, "before\n" if launcher == "spawn" else "") == (done.returncode, done.stdout)
        assert [("start", 3), ("joined", 3)] == job.told()
        assert ("" if launcher == "spawn" else "before\n") + "trains\n" == job.ranks.output()


def test_torchs_fake_group_is_no_group(tmp_path: Path) -> None:
    """Its one process estimates what a larger world would need."""
    job = Job(tmp_path)
    with job.ranks:
        assert 0 == job.run(0, 512, JOIN % "'fake'").returncode
        assert [("start", 3)] == job.told()


HELPER = """
import os, subprocess, sys
import torch.distributed.distributed_c10d as dist
JOIN = sys.argv[1] if len(sys.argv) > 1 else %r
def start(rank, size, words=JOIN, **env):
    env = {**os.environ, "FORMED_RANK": str(rank), "FORMED_SIZE": str(size), **env}
    done = subprocess.run([sys.executable, "-c", words], env=env, capture_output=True, text=True)
    print("helper %%d %%s%%s" %% (done.returncode, done.stdout, done.stderr), end="", flush=True)
""" % (JOIN % "")


@pytest.mark.parametrize("launcher", ["torchrun", "spawn"])
def test_a_ranks_own_subprocess_forms_what_it_likes(tmp_path: Path, launcher: str) -> None:
    """An evaluation alone, a checkpoint writer per rank (torch's has its rank and size): neither ranks nor refused."""
    words = HELPER + "dist.init_process_group(); start(0, 1); start(3, 4); start(0, 8)\n"
    job = Job(tmp_path, launcher)
    with job.ranks:
        job.run(3, 4, words)
        assert "helper 0 trains\n" * 3 == job.ranks.output()
        assert [("start", 3), ("joined", 3)] == [event for event in job.told() if event != ("ended", 3)]


def test_a_forked_helper_forms_what_it_likes(tmp_path: Path) -> None:
    """A DataLoader worker has the rank's memory, hooks and all."""
    words = HELPER + "\n".join(
        (
            "dist.init_process_group()",
            "if os.fork() == 0:",
            "    os.environ.update(FORMED_RANK='0', FORMED_SIZE='1')",
            "    dist.init_process_group()",
            "    print('trains', flush=True)",
            "    raise ValueError('no rank')",
            "os.wait()",
        )
    )
    job = Job(tmp_path, "spawn")
    with job.ranks:
        job.run(3, 4, words)
        assert job.ranks.output().startswith("trains\nTraceback")
        assert [("start", 3), ("joined", 3)] == job.told()


@pytest.mark.parametrize(
    ("setting", "rank", "expected"),
    [
        pytest.param("dist.init_process_group()", 3, [("start", 3), ("joined", 3)], id="another rank"),
        pytest.param("dist.init_process_group()", 2, [], id="the same rank"),
        pytest.param(
            "dist.init_process_group(); dist.destroy_process_group()",
            2,
            [("start", 2), ("joined", 2)],
            id="the same rank, which has left",
        ),
    ],
)
def test_what_a_rank_starts_under_spawn_may_be_a_rank(
    tmp_path: Path, setting: str, rank: int, expected: list[tuple[object, ...]]
) -> None:
    """A script that starts the others when it has joined, or when it has left; not a helper that joins beside it."""
    job = Job(tmp_path, "spawn")
    with job.ranks:
        job.run(2, 4, HELPER + f"{setting}; start({rank}, 4)\n")
        told = job.told()
        assert [("start", 2), ("joined", 2)] == told[:2]
        assert expected == [event for event in told[2:] if event[0] != "ended"]


@pytest.mark.parametrize(
    ("size", "rank", "expected"),
    [
        pytest.param(4, 3, [("joined", None)], id="of the job's size"),
        pytest.param(1, 0, [], id="a helper's own"),
        pytest.param(2, 0, ["a rank starts ranks of its own, which is what launcher: spawn is for"], id="a world"),
    ],
)
def test_ranks_below_torchruns_ranks_are_noticed(tmp_path: Path, size: int, rank: int, expected: list[object]) -> None:
    """A script with mp.spawn that was started by torchrun: its ranks form worlds of their own."""
    job = Job(tmp_path)
    with job.ranks:
        job.run(3, 4, HELPER + f"start({rank}, {size})\n")
        output, events = job.ranks.output(), job.ranks.events()[1:]
    assert f"helper {78 if size == 2 else 0} " in output
    assert expected == [
        str(event["detail"]).partition("): ")[2] if event["event"] == "refused" else (event["event"], event["rank"])
        for event in events
    ]


def test_a_script_that_starts_itself_again_says_which_rank_it_will_be(tmp_path: Path) -> None:
    """The worker watches it from then on; what has LOCAL_RANK=0 may be any helper of the first one."""
    words = HELPER + "\n".join(
        (
            "start(0, 0, 'raise ValueError(7)', LOCAL_RANK='1')",
            "start(0, 0, '1/0', LOCAL_RANK='0')",
            "start(3, 4, LOCAL_RANK='1')",
        )
    )
    job = Job(tmp_path, "spawn")
    with job.ranks:
        job.run(2, 4, words)
        assert [
            ("starting", None),
            ("exception", None),
            ("ended", None),
            ("ended", None),
            ("starting", None),
            ("start", 3),
            ("joined", 3),
            ("ended", None),
        ] == [(name, *rest) if rest else (name, 3) for name, *rest in job.told()]


ENDS = """
import multiprocessing, os, signal, subprocess, sys
def die():
    os.kill(os.getpid(), signal.SIGKILL)
if __name__ == "__main__":
    child = subprocess.Popen([sys.executable, "-S", "-c", "raise SystemExit(3)"])
    child.wait()
    for method in ("fork", "spawn", "forkserver"):
        process = multiprocessing.get_context(method).Process(target=die)
        process.start()
        process.join()
        print(process.pid)
    print(child.pid)
"""


def test_who_reaps_a_child_tells_how_it_ended(tmp_path: Path) -> None:
    """However it was started: the worker may have come too late to see it."""
    script = tmp_path / "ends.py"
    script.write_text(ENDS)
    job = Job(tmp_path, "spawn")
    with job.ranks:
        done = run(f"import runpy; runpy.run_path({str(script)!r}, run_name='__main__')", job.env, path=job.path)
        events = {event["child_pid"]: event["exit_code"] for event in job.ranks.events() if event["event"] == "ended"}
    pids = [int(line) for line in done.stdout.split()]
    assert [-9, -9, -9, 3] == [events.get(pid) for pid in pids], done.stderr
