"""Programs of the machine that the test bed needs, and how they get there.

On a Debian-like machine what is missing is installed with apt-get, which root may do and which is said in one
sentence; elsewhere the sentence names what to install. Kernel features are not probed: the step that needs one fails
with its own words.
"""

import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.cluster.errors import ClusterUnavailableError

# Program -> Debian package.
PROGRAMS: Mapping[str, str] = {
    "cc": "gcc",  # pause
    "ip": "iproute2",
    "mmdebstrap": "mmdebstrap",  # the trainer image
    "nft": "nftables",  # kube-proxy, cutting pods off
    "nsenter": "util-linux",
    "openssl": "openssl",
    "pkg-config": "pkg-config",  # runc's seccomp
}

# What pkg-config must know -> Debian package.
LIBRARIES: Mapping[str, str] = {"libseccomp": "libseccomp-dev"}

# Folders that the cluster covers with its own in its mount namespace: the cache must not be below one.
COVERED = (Path("/run"), Path("/var/run"), Path("/var/lib"), Path("/var/log"))


def ensure(say: Callable[[str], None]) -> None:
    """Install what is missing; ClusterUnavailableError where that fails."""
    packages = missing()
    if not packages:
        return
    names = " ".join(packages)
    if shutil.which("apt-get") is None:
        raise ClusterUnavailableError(f"the test bed needs these Debian packages or your system's like: {names}")
    say(f"installing {names} with apt-get")
    install = ("apt-get", "install", "--yes", "--quiet", "--no-install-recommends", *packages)
    if subprocess.run(install, capture_output=True, check=False).returncode != 0:
        subprocess.run(("apt-get", "update", "--quiet"), capture_output=True, check=False)
        done = subprocess.run(install, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise ClusterUnavailableError(
                f"apt-get install {names}: exit {done.returncode}: {done.stderr.strip()[-500:]}"
            )


def missing() -> tuple[str, ...]:
    """Return the Debian packages that are not there."""
    packages = [package for program, package in PROGRAMS.items() if shutil.which(program) is None]
    packages += [package for library, package in LIBRARIES.items() if not _known(library)]
    return tuple(packages)


def check_cache(base: Path) -> None:
    """Refuse a cache that the cluster could not see from inside."""
    for covered in COVERED:
        if base.resolve().is_relative_to(covered):
            raise ClusterUnavailableError(f"{base}: the test bed covers {covered}: point K8SDDP_CACHE somewhere else")


def _known(library: str) -> bool:
    if shutil.which("pkg-config") is None:
        return False
    return subprocess.run(("pkg-config", "--exists", library), check=False).returncode == 0
