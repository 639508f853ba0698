"""What can be known to be wrong before anything starts: in milliseconds, without importing torch.

Each problem is one sentence with what was found, the rule and the remedy. Only checks that cannot be mistaken are
here: what might work is tried.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import re
import socket
import sys

from .contract import node_env
from .net import server

MIN_TORCH = (2, 4)


class PreflightError(Exception):
    """The job cannot run on this node; the message says why and what to do."""


def torch_version(python: str = sys.executable) -> str:
    """Return the version of the torch that this interpreter would import.

    Raises PreflightError when there is none, or one that cannot work here.
    """
    try:
        spec = importlib.util.find_spec("torch")
    except (ImportError, ValueError):
        spec = None
    if spec is None or not spec.origin:
        raise PreflightError(
            "torch is not installed for %s: use an image with PyTorch, or name its interpreter in spec.python" % python
        )
    folder = os.path.dirname(spec.origin)
    version = _read_version(os.path.join(folder, "version.py"))
    built = _other_python(folder)
    if built:
        raise PreflightError(
            "torch in %s is built for %s, but %s is Python %d.%d: name the interpreter it belongs to in spec.python"
            % (folder, built, python, *sys.version_info[:2])
        )
    numbers = re.match(r"(\d+)\.(\d+)", version)
    if numbers and (int(numbers[1]), int(numbers[2])) < MIN_TORCH:
        raise PreflightError("torch %s in %s is too old: k8sddp needs %d.%d or newer" % (version, folder, *MIN_TORCH))
    return version


def check_words(words: tuple[str, ...]) -> None:
    """Check that the script is there, seen from the working directory.

    Raises PreflightError.
    """
    script = words[0]
    if script == "-m" and len(words) > 1 and not _is_importable(words[1].partition(".")[0]):
        raise PreflightError(
            "there is no module %s, neither in %s nor in this Python: spec.command begins with a script of the code or "
            "image, or with -m and a module" % (words[1], os.getcwd())
        )
    if not script.startswith("-") and not any(map(os.path.isfile, (script, os.path.join(script, "__main__.py")))):
        raise PreflightError(
            "the script %s is not in %s: spec.command begins with a script of the code or image, or with -m"
            % (script, os.getcwd())
        )


def _is_importable(name: str) -> bool:
    """Return whether a top-level module is there, without importing anything."""
    if name in sys.builtin_module_names:
        return True
    try:
        return importlib.machinery.PathFinder.find_spec(name, [os.getcwd(), *sys.path]) is not None
    except (ImportError, ValueError):
        return True  # an entry of sys.path that needs more than a look


def check_gpus(node: node_env.NodeEnv, devices: str = "/dev") -> None:
    """Check that there is a GPU for each rank when NCCL is asked for.

    Raises PreflightError.
    """
    if node.backend != "nccl":
        return
    names = os.listdir(devices)
    if "kfd" in names or "dxg" in names:
        return  # AMD's ROCm and WSL have devices of other names
    count = sum(1 for name in names if re.fullmatch(r"nvidia[0-9]+", name))
    if count < node.nproc_per_node:
        raise PreflightError(
            "nccl needs a GPU per rank, nprocPerNode is %d but %s has %d: ask for resources.gpu, or backend: gloo"
            % (node.nproc_per_node, devices, count)
        )


def listen(host: str, port: int, purpose: str) -> socket.socket:
    """Return a listening socket for one of the worker's ports.

    Raises PreflightError when it cannot be had.
    """
    try:
        return server.listen(host, port)
    except OSError as error:
        raise PreflightError(
            "port %d at %s for %s cannot be used (%s): choose another rendezvous.port"
            % (port, host or "every address", purpose, os.strerror(error.errno or 0).lower())
        ) from None


def _read_version(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            found = re.search(r"^__version__\s*(?::[^=]*)?=\s*['\"]([^'\"]+)", file.read(), re.MULTILINE)
    except OSError:
        found = None
    return found[1] if found else "unknown"


def _other_python(folder: str) -> str:
    """Return what torch's extension module was built for when this interpreter cannot load it."""
    names = [name for name in os.listdir(folder) if name.startswith("_C.") and name.endswith((".so", ".pyd"))]
    if not names or any(name[2:] in importlib.machinery.EXTENSION_SUFFIXES for name in names):
        return ""
    return names[0].split(".")[1]
