"""The cluster's programs, built from Go modules whose versions and sums are committed beside this package.

One cache entry per module, named by a digest of its go.mod, go.sum, build flags and Go's version: changing one module
rebuilds one. No binary is ever downloaded. A cold build of all takes about ten minutes on two cores, nearly all of it
Kubernetes; with Go's own build cache warm it takes seconds.
"""

import functools
import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.cluster import cache
from tests.cluster.errors import ClusterError

GO_MODULES = Path(__file__).resolve().parent.parent / "go"
KUBERNETES_VERSION = "1.37.2"

# Without these a Node reports v0.0.0-master and version checks of clients go wrong.
KUBERNETES_LDFLAGS = " ".join(
    f"-X {package}.{name}={value}"
    for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    for name, value in (
        ("gitVersion", f"v{KUBERNETES_VERSION}"),
        ("gitMajor", KUBERNETES_VERSION.split(".", maxsplit=1)[0]),
        ("gitMinor", KUBERNETES_VERSION.split(".")[1]),
        ("gitTreeState", "clean"),
    )
)


@dataclass(frozen=True)
class Module:
    """One go.mod and how its tools are built; separate modules because their dependencies disagree."""

    name: str
    tags: str = ""
    ldflags: str = ""
    cgo: bool = False
    renames: Mapping[str, str] = field(default_factory=dict)  # Go names a binary after its package's last element

    @property
    def folder(self) -> Path:
        """Where go.mod is."""
        return GO_MODULES / self.name


MODULES = (
    Module("etcd", renames={"server": "etcd"}),
    Module("containerd", tags="no_btrfs,no_zfs,no_devmapper"),  # those snapshotters need C libraries that we never use
    Module("cni"),
    Module(
        "runc", tags="seccomp", cgo=True
    ),  # RuntimeDefault, which restricted pods must ask for, is a seccomp profile
    Module("coredns"),
    Module("kubernetes", ldflags=KUBERNETES_LDFLAGS),
)


def entry_name(module: Module, go_version: str) -> str:
    """Return the cache entry's name: all that decides the binaries is in it."""
    sources = [(module.folder / name).read_bytes() for name in ("go.mod", "go.sum")]
    flags = (module.tags, module.ldflags, str(module.cgo), *(f"{a}={b}" for a, b in sorted(module.renames.items())))
    return f"{module.name}-{cache.digest(go_version, *sources, *flags)}"


def go_version() -> str:
    """Ask Go for its version."""
    return _run(("go", "env", "GOVERSION"), cwd=GO_MODULES / "cni", env={}).strip()


def folders(base: Path, version: str) -> tuple[Path, ...]:
    """Return the folders in which the binaries are, or will be."""
    return tuple(base / "bin" / entry_name(module, version) for module in MODULES)


def build(base: Path, say: Callable[[str], None]) -> tuple[Path, ...]:
    """Build what the cache lacks and return the folders, one per module."""
    return tuple(build_one(base, module, say) for module in MODULES)


def build_one(base: Path, module: Module, say: Callable[[str], None]) -> Path:
    """Build one module where the cache lacks it and return the folder; it need not be one of MODULES."""
    version = go_version()
    folder = base / "bin" / entry_name(module, version)
    if not folder.is_dir():
        say(f"building {module.name} with {version}" + (" (about 8 minutes)" if module.name == "kubernetes" else ""))
    return cache.entry(folder, functools.partial(_build, module))


def _build(module: Module, out: Path) -> None:
    argv = ["go", "build", "-trimpath", "-ldflags", f"-s -w {module.ldflags}", "-o", f"{out}/"]
    if module.tags:
        argv += ["-tags", module.tags]
    _run((*argv, "tool"), cwd=module.folder, env={"CGO_ENABLED": "1" if module.cgo else "0"})
    for made, wanted in module.renames.items():
        (out / made).rename(out / wanted)


def _run(argv: Sequence[str], *, cwd: Path, env: Mapping[str, str]) -> str:
    done = subprocess.run(argv, cwd=cwd, env={**os.environ, **env}, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ClusterError(f"{' '.join(argv[:2])} in {cwd.name}: exit {done.returncode}: {done.stderr.strip()[-2000:]}")
    return done.stdout
