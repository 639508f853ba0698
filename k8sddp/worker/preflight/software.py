"""Is the software there that the ranks need: torch for this Python, the script, a driver that torch's CUDA can use.

torch's version is read from torch/version.py (27 ms); importing it takes seconds.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import re
import sys
from collections.abc import Iterator, Mapping
from typing import NamedTuple, Optional

from k8sddp.worker.contract.finding import PROBLEM, WARNING, Finding

MIN_TORCH = (2, 4)
NONE = "None"  # as version.py says it
NVIDIA_VERSION = "driver/nvidia/version"  # in /proc, also of a container: the kernel module's

# CUDA major -> the oldest driver that runs every minor version of it
# (https://docs.nvidia.com/deploy/cuda-compatibility/minor-version-compatibility.html, table 1)
MIN_DRIVER: Mapping[int, int] = {11: 450, 12: 525, 13: 580}
# Where NVIDIA's forward-compatibility package puts its libcuda, which lets older drivers of data-centre GPUs do
# (https://docs.nvidia.com/deploy/cuda-compatibility/forward-compatibility.html)
COMPAT = "/usr/local/cuda/compat"


class Torch(NamedTuple):
    """The torch that this interpreter would import; the CUDA or HIP that it is built for, NONE or empty if unknown."""

    folder: str
    version: str = ""
    cuda: str = ""
    hip: str = ""


def find_torch() -> Optional[Torch]:
    """Return what is known of torch without importing it, None where there is none."""
    try:
        spec = importlib.util.find_spec("torch")
    except (ImportError, ValueError):
        spec = None
    if spec is None or not spec.origin:
        return None
    folder = os.path.dirname(spec.origin)
    try:
        with open(os.path.join(folder, "version.py"), encoding="utf-8") as file:
            text = file.read()
    except (OSError, UnicodeDecodeError):
        return Torch(folder)
    words = ("__version__", "cuda", "hip")
    version, cuda, hip = (
        re.search(r"^%s\s*(?::[^=]*)?=\s*(None|['\"][^'\"]+)" % word, text, re.MULTILINE) for word in words
    )
    return Torch(folder, *(found[1].lstrip("'\"") if found else "" for found in (version, cuda, hip)))


def torch(found: Optional[Torch], *, python: str = sys.executable) -> Iterator[Finding]:
    """Find a torch that is missing, for another Python, or too old."""
    if found is None:
        yield Finding(
            "torch",
            PROBLEM,
            "torch is not installed for %s: use an image with PyTorch, or name its interpreter in spec.python" % python,
        )
        return
    built = _other_python(found.folder)
    if built:
        yield Finding(
            "torch",
            PROBLEM,
            "torch in %s is built for %s, but %s is Python %d.%d: name the interpreter it belongs to in spec.python"
            % (found.folder, built, python, *sys.version_info[:2]),
        )
    numbers = re.match(r"(\d+)\.(\d+)", found.version)
    if numbers and (int(numbers[1]), int(numbers[2])) < MIN_TORCH:
        text = "torch %s in %s is too old: k8sddp needs %d.%d or newer"
        yield Finding("torch", PROBLEM, text % (found.version, found.folder, *MIN_TORCH))


def script(words: tuple[str, ...]) -> Iterator[Finding]:
    """Find a script, or a module, that is not there, seen from the working directory."""
    first = words[0]
    if first == "-m" and len(words) > 1 and not _is_importable(words[1].partition(".")[0]):
        yield Finding(
            "script",
            PROBLEM,
            "there is no module %s, neither in %s nor in this Python: spec.command begins with a script of the code or "
            "image, or with -m and a module" % (words[1], os.getcwd()),
        )
    if not first.startswith("-") and not any(map(os.path.isfile, (first, os.path.join(first, "__main__.py")))):
        yield Finding(
            "script",
            PROBLEM,
            "the script %s is not in %s: spec.command begins with a script of the code or image, or with -m"
            % (first, os.getcwd()),
        )


def driver(
    found: Optional[Torch], *, backend: str, environ: Mapping[str, str], proc: str = "/proc"
) -> Iterator[Finding]:
    """Find a torch without CUDA, or a driver that is too old for its CUDA, where NCCL is asked for."""
    if backend != "nccl" or found is None or found.hip not in ("", NONE):
        return
    if found.cuda == NONE:
        text = "torch %s in %s is built without CUDA and backend is nccl: use an image with CUDA, or backend: gloo"
        yield Finding("driver", PROBLEM, text % (found.version, found.folder))
        return
    running = driver_version(proc)
    needed = MIN_DRIVER.get(int(found.cuda.partition(".")[0])) if found.cuda[:1].isdigit() else None
    if running is None or needed is None or int(running.partition(".")[0]) >= needed:
        return
    text = "torch %s is built for CUDA %s, which needs an NVIDIA driver of %d or newer, and this node's is %s" % (
        found.version,
        found.cuda,
        needed,
        running,
    )
    if _has_compat(environ):
        yield Finding("driver", WARNING, text + ": it works only if the image's CUDA compatibility package covers it")
    else:
        yield Finding("driver", PROBLEM, text + ": use an image with an older CUDA, or nodes with a newer driver")


def driver_version(proc: str = "/proc") -> Optional[str]:
    """Return the version of NVIDIA's kernel module as `570.86.15`, None where it is not known."""
    try:
        with open(os.path.join(proc, NVIDIA_VERSION), encoding="utf-8", errors="replace") as file:
            # "Kernel Module  570.86.15  Tue ..."; the open one: "Kernel Module for x86_64  570.86.15  Release ..."
            match = re.search(r"Kernel Module(?: for \S+)?\s+(\d+(?:\.\d+)*)", file.read(4096))
    except OSError:
        return None
    return match[1] if match else None


def _has_compat(environ: Mapping[str, str]) -> bool:
    """Return whether another libcuda than the driver's own may be found first."""
    folders = [COMPAT, *filter(None, environ.get("LD_LIBRARY_PATH", "").split(":"))]
    return any(os.path.exists(os.path.join(folder, "libcuda.so.1")) for folder in folders)


def _is_importable(name: str) -> bool:
    """Return whether a top-level module is there, without importing anything."""
    if name in sys.builtin_module_names:
        return True
    try:
        return importlib.machinery.PathFinder.find_spec(name, [os.getcwd(), *sys.path]) is not None
    except (ImportError, ValueError):
        return True  # an entry of sys.path that needs more than a look


def _other_python(folder: str) -> str:
    """Return what torch's extension module was built for when this interpreter cannot load it."""
    names = [name for name in os.listdir(folder) if name.startswith("_C.") and name.endswith((".so", ".pyd"))]
    if not names or any(name[2:] in importlib.machinery.EXTENSION_SUFFIXES for name in names):
        return ""
    return names[0].split(".")[1]
