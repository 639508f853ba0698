"""A test bed leaves nothing, however it ends.

Looked at: processes whose environment or command line names its state folder, every mount and network link of the
machine, our cgroup in every hierarchy, the state folder, the kernel settings that a kubelet would change, and the
network, PID and mount namespaces in which any process lives, those of other test beds left out. A namespace that no
process holds could only be held by a mount, and the mounts are looked at.

A start costs ten seconds or, on a busy machine, fifty. So the default run takes the plain cycle once and of each way to
die the most telling one; K8SDDP_TEST_CYCLES=20 takes all.
"""

import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.cluster import cache, lifecycle, pods
from tests.cluster.clusters import Cluster
from tests.cluster.testbed import bed, cgroups, layout, namespaces, processes

NAME = "leak"
CYCLES = int(os.environ.get("K8SDDP_TEST_CYCLES", "1"))  # how often the plain cycle runs; 20 before a release
# The starter is killed once this component's process runs; the kubelets come last.
STAGES = ("etcd", "apiserver", "kube-proxy", "kubelet-node-b") if CYCLES > 1 else ("kube-proxy",)
SIGNALS = (signal.SIGINT, signal.SIGKILL, signal.SIGTERM)
ENDINGS = SIGNALS if CYCLES > 1 else (signal.SIGKILL,)
# A command with a child that nobody waits for; it says when it runs, and by which pid.
COMMAND = ("sh", "-c", "sleep 600 & echo $$; exec sleep 600")

START_SECONDS = 450  # generous: ten on an idle machine

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(START_SECONDS + 150 + 60 * CYCLES)]


@pytest.fixture(autouse=True)
def _test_bed_only(cluster_session: Cluster) -> Iterator[None]:
    if cluster_session.backend != "testbed":
        pytest.skip(f"only the test bed is ours to end, and this is {cluster_session.backend}")
    base = lifecycle.folder("testbed")
    with cache.locked(base / "clusters" / "leak-tests.lock"):  # two runs on one machine take turns
        yield
        bed.stop(base, NAME)


def state() -> Path:
    """Return the state folder of this test's own test bed."""
    return layout.state_path(lifecycle.folder("testbed"), NAME)


def machine() -> Mapping[str, object]:
    """Return what must be the same before and after."""
    ours = [process.argv for process in processes.every() if is_ours(process)]
    settings = {name: (Path("/proc/sys") / name).read_text() for name in namespaces.SHADOWED}
    return {
        "processes": ours,
        "mounts": sorted(line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()),
        "links": links(),
        "namespaces": held_namespaces(),
        "cgroups": cgroups.leftovers(layout.cgroup(NAME)),
        "state": state().exists(),
        "settings": settings,
    }


def links() -> list[str]:
    """Return the machine's network links, not those of the test bed in which pytest may run, whose pods come and go."""
    return sorted(line.partition(":")[0].strip() for line in Path("/proc/1/net/dev").read_text().splitlines()[2:])


def held_namespaces() -> set[str]:
    """Return the kernel's names of the namespaces that processes live in, without those of other test beds."""
    found = {process.pid: process for process in processes.every()}

    def in_other_bed(process: processes.Process) -> bool:
        is_first = process.program == "pause" and len(process.argv) == 3 and process.argv[1] != str(state())
        parent = found.get(process.parent)
        return is_first or (parent is not None and in_other_bed(parent))

    ours: set[str] = set()
    others: set[str] = set()
    for process in found.values():
        (others if in_other_bed(process) else ours).update(namespaces_of(process))
    return ours - others


def namespaces_of(process: processes.Process) -> set[str]:
    """Return the kernel's names of a process's namespaces; none when it is gone."""
    try:
        return {os.readlink(f"/proc/{process.pid}/ns/{kind}") for kind in ("net", "pid", "mnt")}  # noqa: PTH115
    except OSError:
        return set()


def is_ours(process: processes.Process) -> bool:
    """Tell a component, the first process, the guard or a user of this test's test bed."""
    variables = [processes.variable(process, name) for name in ("HOME", namespaces.USER_MARK)]
    named = str(state()) in (*variables, *process.argv)
    return named or ("guard" in process.argv and NAME in process.argv)


def command(*words: str) -> tuple[str, ...]:
    """Return a command line of the cluster's own program for this test's test bed."""
    return (sys.executable, "-m", "tests.cluster", words[0], "--name", NAME, *words[1:])


def settled(before: Mapping[str, object], seconds: float = 60) -> Mapping[str, object]:
    """Return the machine once it is as before, or as it still is after that time."""
    deadline = time.monotonic() + seconds
    while (now := machine()) != before and time.monotonic() < deadline:
        time.sleep(0.1)
    return now


def test_start_and_end_leave_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """Up, used, down: the machine is as before, and no start takes longer than a cold one may."""
    before = machine()
    seconds = []
    for _ in range(CYCLES):
        began = time.monotonic()
        subprocess.run(command("up"), check=True, capture_output=True)
        seconds.append(time.monotonic() - began)
        assert 1 < len(list(processes.in_namespace(found().first)))
        subprocess.run(command("down"), check=True, capture_output=True)
        assert before == machine()
    with capsys.disabled():
        print(f"\n{CYCLES} starts: median {statistics.median(seconds):.1f} s, worst {max(seconds):.1f} s")
    assert max(seconds) < START_SECONDS


@pytest.mark.parametrize("stage", STAGES)
def test_a_killed_starter_leaves_nothing(stage: str) -> None:
    """SIGKILL in the middle of a start: the guard ends what was there."""
    before = machine()
    with subprocess.Popen(command("up"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as starter:
        wait_component(stage)
        starter.kill()
    assert before == settled(before)


@pytest.mark.parametrize("number", ENDINGS, ids=lambda number: number.name)
def test_a_user_of_the_cluster_who_dies_leaves_nothing(number: signal.Signals) -> None:
    """`exec` started it, so its death ends it, and all that runs in it."""
    before = machine()
    argv = command("exec", "--", *COMMAND)
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as user:
        assert user.stdout is not None
        running = processes.find(int(user.stdout.readline()))
        assert running is not None
        assert namespaces_of(running) <= held_namespaces()
        user.send_signal(number)
    assert before == settled(before)


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_a_command_ends_with_exec(cluster_session: Cluster, number: signal.Signals) -> None:
    """In a cluster that goes on running, too: no guard of its own helps there."""
    argv = (sys.executable, "-m", "tests.cluster", "exec", "--name", cluster_session.name, "--")
    program = ("sh", "-c", "echo $$; exec sleep 600")
    with subprocess.Popen((*argv, *program), stdout=subprocess.PIPE, text=True, start_new_session=True) as user:
        assert user.stdout is not None
        running = processes.find(int(user.stdout.readline()))
        assert running is not None
        if number == signal.SIGINT:
            os.killpg(user.pid, number)  # as a terminal does
        else:
            user.send_signal(number)
        assert processes.wait_gone(running, 10)
    assert {signal.SIGINT: 130, signal.SIGKILL: -9, signal.SIGTERM: 143}[number] == user.returncode


def test_a_start_cleans_up_after_a_crash_without_a_guard() -> None:
    """Starter and guard are both killed half-way; the next start works, and its end leaves nothing.

    Not even of a pod that is frozen then: it does not die before it is thawed.
    """
    before = machine()
    with subprocess.Popen(command("up"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as starter:
        wait_component("etcd")
        for process in processes.every():
            if "guard" in process.argv and NAME in process.argv:
                processes.send(process, signal.SIGKILL)
        starter.kill()
    abandoned = found().run_id
    subprocess.run(command("up"), check=True, capture_output=True)
    assert abandoned != found().run_id
    run_frozen_pod()
    subprocess.run(command("down"), check=True, capture_output=True)
    assert before == machine()


def run_frozen_pod() -> None:
    """Run a pod, and freeze its Node with all that is on it."""
    cluster = bed.running(lifecycle.folder("testbed"), NAME)
    assert cluster is not None
    pods.create(cluster, "default", [pods.make_pod("main", pods.SLEEP, image=cluster.image, kube_node="node-a")])
    pods.wait(cluster, "default", "condition=Ready", "main")
    for folder in (folder for folder in cgroups.leftovers(layout.cgroup(NAME)) if folder.name == "node-a"):
        for file, word in ((folder / "freezer.state", "FROZEN"), (folder / "cgroup.freeze", "1")):
            if file.exists():
                file.write_text(word)


def found() -> namespaces.Namespaces:
    """Return the running test bed."""
    there = namespaces.find(state())
    assert there is not None
    return there


def wait_component(name: str) -> None:
    """Wait until a component's process is there."""
    deadline = time.monotonic() + START_SECONDS
    while not any(is_ours(process) for process in processes.with_variable(namespaces.MARK, name)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
