"""One cgroup per kubelet, in every hierarchy of the machine.

Two kubelets on one machine kill each other's pods within a second unless each has a cgroup root of its own. In the old
hierarchies (v1) that root must exist beforehand in each of them, with cpuset filled in; in the unified one (v2) the
controllers must be switched on for the children. Everything lies below one cgroup that bears our name, and only that
is ever removed.
"""

import contextlib
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.errors import ClusterError


@dataclass(frozen=True)
class Hierarchy:
    """One mounted cgroup file system; `unified` is v2."""

    path: Path
    unified: bool


def mounted(mountinfo: str) -> tuple[Hierarchy, ...]:
    """Read the hierarchies from the text of /proc/self/mountinfo (proc(5): fields, a lone dash, the type)."""
    found = {}
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        kind = after.split(" ", 1)[0]
        if kind in ("cgroup", "cgroup2"):
            path = Path(before.split()[4])
            found[path] = Hierarchy(path, kind == "cgroup2")
    return tuple(found.values())


def hierarchies() -> tuple[Hierarchy, ...]:
    """Return the hierarchies of this machine."""
    return mounted(Path("/proc/self/mountinfo").read_text())


def create(cgroup: str, nodes: Iterable[str]) -> None:
    """Make the cgroup of each Node below ours; on a hybrid machine runc uses v1 only, so v2 is left alone there."""
    all_mounted = hierarchies()
    hybrid = any(not hierarchy.unified for hierarchy in all_mounted)
    for hierarchy in all_mounted:
        if hierarchy.unified and hybrid:
            continue
        top = hierarchy.path / cgroup
        for folder in (top, *(top / node for node in nodes)):
            folder.mkdir(exist_ok=True)
            if hierarchy.unified:
                _delegate(folder.parent)
            else:
                _fill_cpuset(folder)


def thaw(cgroup: str) -> None:
    """Thaw every frozen cgroup below ours."""
    for hierarchy in hierarchies():
        for folder in _tree(hierarchy.path / cgroup):
            for name, word in (("freezer.state", "THAWED"), ("cgroup.freeze", "0")):
                if (folder / name).exists():
                    with contextlib.suppress(OSError):
                        (folder / name).write_text(word)


def remove(cgroup: str, seconds: float = 10) -> None:
    """Remove our cgroup everywhere, deepest first; the kernel refuses while a process of it is still being reaped."""
    deadline = time.monotonic() + seconds
    while left := leftovers(cgroup):
        for folder in left:
            with contextlib.suppress(OSError):
                folder.rmdir()
        if time.monotonic() > deadline and (left := leftovers(cgroup)):
            raise ClusterError(f"{left[0]}: still in use after {seconds:.0f} s: its file cgroup.procs says by what")
        time.sleep(0.02)


def leftovers(cgroup: str) -> tuple[Path, ...]:
    """Return every existing cgroup folder of ours, deepest first."""
    return tuple(folder for hierarchy in hierarchies() for folder in _tree(hierarchy.path / cgroup))


def _tree(top: Path) -> list[Path]:
    # os.walk passes over what vanishes meanwhile; Path.rglob raises.
    folders = [Path(folder) for folder, _, _ in os.walk(top)]
    return sorted(folders, key=lambda folder: len(folder.parts), reverse=True)


def _fill_cpuset(folder: Path) -> None:
    for name in ("cpuset.cpus", "cpuset.mems"):
        if (folder / name).exists():
            (folder / name).write_text((folder.parent / name).read_text())


def _delegate(folder: Path) -> None:
    wanted = (folder / "cgroup.controllers").read_text().split()
    switched_on = (folder / "cgroup.subtree_control").read_text().split()
    for controller in wanted:
        if controller not in switched_on:
            with contextlib.suppress(OSError):  # some cannot be delegated; the kubelet names the one it misses
                (folder / "cgroup.subtree_control").write_text(f"+{controller}")
