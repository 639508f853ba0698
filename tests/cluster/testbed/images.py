"""The two images of the test bed, made without a registry.

`pause` is a static C program. `trainer` is a Debian with python3 and nothing else: torch is gigabytes, so
`site_packages` binds the running environment's torch into every container instead, which is why the image's Python and
the environment's must have the same minor version. k8sddp is in neither: what a pod needs of it must come through the
API.
"""

import hashlib
import io
import json
import subprocess
import sys
import tarfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.cluster import cache
from tests.cluster.errors import ClusterError, ClusterUnavailableError
from tests.cluster.testbed import layout

PACKAGES = ("python3",)
RECIPE = "1"  # count up when a change below must make new images
PAUSE_SOURCE = Path(__file__).with_name("pause.c")

# Debian release whose python3 has this minor version.
SUITES: Mapping[tuple[int, int], str] = {(3, 11): "bookworm", (3, 13): "trixie"}

MACHINES: Mapping[str, str] = {"x86_64": "amd64", "aarch64": "arm64"}  # uname -> the image format's word


def suite(python: tuple[int, int]) -> str:
    """Return the Debian release for a Python version; ClusterUnavailableError where there is none."""
    if python not in SUITES:
        known = " or ".join(f"{major}.{minor}" for major, minor in SUITES)
        raise ClusterUnavailableError(
            f"the test bed's image has Debian's python3, so tests must run with Python {known}, not "
            f"{python[0]}.{python[1]}: make the virtual environment with one of them"
        )
    return SUITES[python]


def folder(base: Path, python: tuple[int, int]) -> Path:
    """Return the folder in which `pause`, `pause.tar` and `trainer.tar` are, or will be."""
    name = f"images-{suite(python)}-{cache.digest(PAUSE_SOURCE.read_bytes(), *PACKAGES, RECIPE)}"
    return base / "images" / name


def build(base: Path, machine: str, say: Callable[[str], None]) -> Path:
    """Make the images that the cache lacks and return their folder."""
    python = sys.version_info[:2]
    path = folder(base, python)
    if not path.is_dir():
        say(f"making the trainer image from Debian {suite(python)} (about half a minute)")
    return cache.entry(path, lambda out: _build(out, suite(python), MACHINES[machine]))


def _build(out: Path, release: str, architecture: str) -> None:
    _run(("cc", "-static", "-Os", "-o", str(out / "pause"), str(PAUSE_SOURCE)))
    with tarfile.open(out / "pause-layer.tar", "w") as tar:
        tar.add(out / "pause", "pause")
    _run(
        (
            "mmdebstrap",
            "--quiet",
            "--variant=minbase",
            f"--include={','.join(PACKAGES)}",
            release,
            str(out / "trainer-layer.tar"),
        )
    )
    archive(out / "pause.tar", layout.PAUSE_IMAGE, out / "pause-layer.tar", architecture, command=("/pause",))
    archive(out / "trainer.tar", layout.TRAINER_IMAGE, out / "trainer-layer.tar", architecture, command=("python3",))
    for layer in out.glob("*-layer.tar"):
        layer.unlink()


def archive(out: Path, image: str, layer: Path, architecture: str, *, command: Sequence[str]) -> None:
    """Write a one-layer image in the format of `docker save`, which containerd imports."""
    with layer.open("rb") as handle:
        sha = hashlib.sha256()
        while block := handle.read(1 << 22):
            sha.update(block)
    config = {
        "architecture": architecture,
        "os": "linux",
        "config": {"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"], "Cmd": list(command)},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{sha.hexdigest()}"]},
    }
    encoded = json.dumps(config).encode()
    config_name = f"{hashlib.sha256(encoded).hexdigest()}.json"
    layer_name = f"{sha.hexdigest()}/layer.tar"
    manifest = [{"Config": config_name, "RepoTags": [image], "Layers": [layer_name]}]
    with tarfile.open(out, "w") as tar:
        for name, content in ((config_name, encoded), ("manifest.json", json.dumps(manifest).encode())):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        tar.add(layer, layer_name)


def _run(argv: Sequence[str]) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ClusterError(f"{argv[0]}: exit {done.returncode}: {done.stderr.strip()[-2000:]}")
