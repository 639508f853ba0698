"""Start, use and end one test bed.

`start` ends whatever a broken start of the same name left, so it works after any crash; one that was started to the end
is used as it is, or refused when its API server stays silent: somebody may be breaking it on purpose. A guard process
ends the test bed when the starter dies before it said "keep": Ctrl-C, a crash and kill -9 all close its pipe. `stop`
may be called at any time and as often as one likes. One lock per name keeps starters, enders and guards out of each
other's way; the kernel releases it when its holder dies.
"""

import datetime
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.cluster import cache
from tests.cluster.clusters import Cluster
from tests.cluster.errors import ClusterError
from tests.cluster.testbed import bringup, builds, components, images, layout, namespaces, requirements, site_packages

REPOSITORY = Path(__file__).resolve().parents[3]

Guard = subprocess.Popen[bytes]


@dataclass(frozen=True)
class Started:
    """A test bed in use; the one who started it has its guard and so decides its end."""

    cluster: Cluster
    guard: Guard | None = None

    def keep(self) -> None:
        """Let the test bed outlive this process."""
        if self.guard is not None:
            _release(self.guard)

    def stop(self) -> None:
        """End the test bed if this process started it; the guard does it, as it would for a starter that died."""
        if self.guard is not None:
            assert self.guard.stdin is not None
            self.guard.stdin.close()
            if self.guard.wait() != 0:
                raise ClusterError("the guard could not end the test bed: `python -m tests.cluster down` says why")


def prepare(base: Path, say: Callable[[str], None]) -> None:
    """Make everything that outlives a cluster: programs and images."""
    requirements.check_cache(base)
    requirements.ensure(say)
    site_packages.entries()
    images.build(base, platform.machine(), say)
    builds.build(base, say)


def prepared(base: Path) -> bool:
    """Tell whether `prepare` has nothing left to build."""
    folders = (images.folder(base, sys.version_info[:2]), *builds.folders(base, builds.go_version()))
    return all(folder.is_dir() for folder in folders)


def start(base: Path, name: str, options: layout.Options, say: Callable[[str], None]) -> Started:
    """Return when both Nodes are Ready; a start that fails leaves nothing but its logs."""
    if already := running(base, name):
        return Started(already)
    asked = time.monotonic()
    prepare(base, say)
    prepared_after = time.monotonic() - asked
    run_id = datetime.datetime.now().strftime("%Y%m%d-%H%M%S-%f")
    programs = builds.folders(base, builds.go_version())
    lay = layout.Layout(name, run_id, base, programs, images.folder(base, sys.version_info[:2]), options)
    with cache.locked(_lock(base, name)):
        if already := running(base, name):  # another starter was quicker
            return Started(already)
        guard_process = _start_guard(base, name, run_id)
        try:
            _end(base, name)
            bringup.bring_up(lay)
        except BaseException as error:
            _end(base, name)
            _release(guard_process)  # it would wait for the lock that this process holds
            if isinstance(error, ClusterError):
                raise type(error)(f"{error}; logs: {lay.logs}") from error
            raise
    say(f"test bed {name}: ready in {time.monotonic() - asked:.0f} s, {prepared_after:.0f} s of them for building")
    return Started(describe(lay), guard_process)


def stop(base: Path, name: str) -> bool:
    """End the test bed of that name; tell whether there was anything to end."""
    with cache.locked(_lock(base, name)):
        state = layout.state_path(base, name)
        was_there = state.exists() or namespaces.find(state) is not None
        _end(base, name)
    return was_there


def running(base: Path, name: str, seconds: float = 60) -> Cluster | None:
    """Return the test bed of that name, None where none was started to the end.

    ClusterError where its API server does not answer within the time: a test may have taken it down, or a busy machine
    may need that long. It is in use, so nobody but its user may end it.
    """
    state = layout.state_path(base, name)
    if namespaces.find(state) is None:
        return None
    try:
        lay = layout.load(base, name)
    except (OSError, ValueError, KeyError):
        return None
    if not bringup.finished(lay):
        return None
    try:
        bringup.wait_ready(lay, components.apiserver(lay), seconds)
        return describe(lay)
    except ClusterError as error:
        if namespaces.find(state) is None:  # it ended meanwhile
            return None
        remedy = f"wait for the test that broke it, or run `python -m tests.cluster down --name {name}`"
        raise ClusterError(f"the test bed {name} runs, but {error}: {remedy}") from error


def guard(base: Path, name: str, run_id: str) -> None:
    """Wait for the starter's word or death; after the latter end that very run, and no later one of the same name."""
    if sys.stdin.buffer.read() == b"keep":
        return
    with cache.locked(_lock(base, name)):
        found = namespaces.find(layout.state_path(base, name))
        if found is None or found.run_id == run_id:
            _end(base, name)


def describe(lay: layout.Layout) -> Cluster:
    """Return a running test bed as tests see it."""
    return Cluster(
        backend="testbed",
        name=lay.name,
        admin_kubeconfig=lay.kubeconfig("admin"),
        image=layout.TRAINER_IMAGE,
        nodes=tuple(layout.NODE_ADDRESSES),
        logs_dir=lay.logs,
        work_dir=lay.state / "work",
        kubectl_path=lay.program("kubectl"),
        network_namespace=bringup.found(lay).network,
        environment={namespaces.USER_MARK: str(lay.state)},
    )


def _end(base: Path, name: str) -> None:
    """End all that any start of this name left; the caller holds the lock."""
    state = layout.state_path(base, name)
    namespaces.collapse(state, layout.cgroup(name))
    if state.exists():
        if f" {state}/" in Path("/proc/self/mountinfo").read_text():  # ours are in a mount namespace that is gone
            raise ClusterError(f"{state}: something is mounted below it: unmount it by hand")
        shutil.rmtree(state)


def _start_guard(base: Path, name: str, run_id: str) -> Guard:
    return subprocess.Popen(
        (sys.executable, "-m", "tests.cluster", "guard", str(base), name, run_id),
        cwd=REPOSITORY,
        env=namespaces.unmarked(),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # out of reach of the starter's terminal and its Ctrl-C
    )


def _release(guard_process: Guard) -> None:
    guard_process.communicate(b"keep")


def _lock(base: Path, name: str) -> Path:
    return layout.state_path(base, name).with_name(f"{name}.lock")
