"""What is found of torch, the script and the driver, each in one sentence with its remedy."""

from __future__ import annotations

import importlib.machinery
import sys
from pathlib import Path

import pytest

from k8sddp.worker.contract import finding
from k8sddp.worker.preflight import software

# As the kernel module prints it: the proprietary one, and the open one
CLOSED = (
    "NVRM version: NVIDIA UNIX x86_64 Kernel Module  470.256.02  Thu May  2 14:37:44 UTC 2024\nGCC version:  gcc 11\n"
)
OPEN = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release Build  (dvs-builder@U16)\n"


def make_torch(folder: Path, version: str = "2.9.1+cpu", extension: str = "", cuda: str = "None") -> Path:
    """Make a folder that looks like an installed torch and return its parent."""
    (folder / "torch").mkdir(parents=True)
    (folder / "torch" / "__init__.py").touch()
    (folder / "torch" / "version.py").write_text(
        f"from typing import Optional\n__version__ = '{version}'\ncuda: Optional[str] = {cuda}\nhip = None\n"
    )
    if extension:
        (folder / "torch" / f"_C{extension}").touch()
    return folder


def found_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> software.Torch:
    """Return what is found of the torch in a folder."""
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    found = software.find_torch()
    assert found is not None
    return found


@pytest.mark.parametrize(
    "extension",
    [pytest.param("", id="no extension"), pytest.param(importlib.machinery.EXTENSION_SUFFIXES[0], id="ours")],
)
def test_torch_is_known_without_importing_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, extension: str) -> None:
    """Version with its build tag, and CUDA, from version.py."""
    found = found_in(make_torch(tmp_path, "2.9.1+cu128", extension, "'12.8'"), monkeypatch)
    assert (str(tmp_path / "torch"), "2.9.1+cu128", "12.8", software.NONE) == found
    assert "torch" not in sys.modules
    assert [] == list(software.torch(found))


@pytest.mark.parametrize(
    ("version", "extension", "said"),
    [
        pytest.param(
            "2.9.1", ".cpython-27-x86_64-linux-gnu.so", "is built for cpython-27-x86_64-linux-gnu, but", id="python"
        ),
        pytest.param("1.13.1", "", "is too old: k8sddp needs 2.4 or newer", id="old"),
    ],
)
def test_a_torch_that_cannot_work_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, extension: str, said: str
) -> None:
    """With its folder and what to change."""
    found = found_in(make_torch(tmp_path, version, extension), monkeypatch)
    (problem,) = software.torch(found)
    assert finding.PROBLEM == problem.level
    assert said in problem.text
    assert str(tmp_path) in problem.text


def test_a_missing_torch_is_named() -> None:
    """With the interpreter that was asked."""
    (problem,) = software.torch(None, python="/opt/python3")
    assert finding.PROBLEM == problem.level
    assert problem.text.startswith("torch is not installed for /opt/python3: use an image with PyTorch, or")


@pytest.mark.parametrize(
    ("words", "fits"),
    [
        pytest.param(("train.py",), True, id="there"),
        pytest.param(("-m", "train"), True, id="module"),
        pytest.param(("-m", "package.train"), True, id="namespace package"),
        pytest.param(("-m", "json.tool"), True, id="module of the image"),
        pytest.param(("package",), True, id="a folder with __main__.py"),
        pytest.param(("other.py",), False, id="missing"),
        pytest.param(("folder",), False, id="a folder"),
    ],
)
def test_the_script_must_be_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], fits: bool
) -> None:
    """Seen from the working directory."""
    (tmp_path / "train.py").touch()
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__main__.py").touch()
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    remedy = "spec.command begins with a script of the code or image, or with -m"
    text = f"the script {words[0]} is not in {tmp_path}: {remedy}"
    assert ([] if fits else [("script", finding.PROBLEM, text)]) == list(software.script(words))


def test_a_module_that_is_nowhere_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the gang waits for all nodes, instead of in every attempt."""
    monkeypatch.chdir(tmp_path)
    (problem,) = software.script(("-m", "pkg.train"))
    assert problem.text.startswith(f"there is no module pkg.train, neither in {tmp_path} nor in this Python")


@pytest.mark.parametrize(
    ("text", "version"),
    [
        pytest.param(CLOSED, "470.256.02", id="proprietary"),
        pytest.param(OPEN, "570.86.15", id="open"),
        pytest.param("something else\n", None, id="other"),
        pytest.param(None, None, id="no NVIDIA"),
    ],
)
def test_the_drivers_version_is_the_kernel_modules(tmp_path: Path, text: str | None, version: str | None) -> None:
    """As /proc/driver/nvidia/version has it, in a container too."""
    if text is not None:
        (tmp_path / "driver" / "nvidia").mkdir(parents=True)
        (tmp_path / "driver" / "nvidia" / "version").write_text(text)
    assert version == software.driver_version(str(tmp_path))


@pytest.mark.parametrize(
    ("running", "cuda", "level"),
    [
        pytest.param("525.60.13", "12.8", "", id="minor version compatibility"),
        pytest.param("470.256.02", "12.8", finding.PROBLEM, id="older than CUDA 12"),
        pytest.param("470.256.02", "11.8", "", id="CUDA 11"),
        pytest.param("570.86.15", "13.2", finding.PROBLEM, id="older than CUDA 13"),
        pytest.param("580.65.06", "13.2", "", id="CUDA 13"),
        pytest.param("470.256.02", "99.0", "", id="a CUDA that is not known"),
        pytest.param("", "12.8", "", id="a driver that is not known"),
    ],
)
def test_the_driver_must_know_torchs_cuda(tmp_path: Path, running: str, cuda: str, level: str) -> None:
    """By CUDA's major: within it every minor runs on the oldest driver of the major."""
    (tmp_path / "driver" / "nvidia").mkdir(parents=True)
    (tmp_path / "driver" / "nvidia" / "version").write_text(CLOSED.replace("470.256.02", running))
    torch = software.Torch("/torch", "2.15.0", cuda)
    found = list(software.driver(torch, backend="nccl", environ={}, proc=str(tmp_path)))
    assert ([level] if level else []) == [one.level for one in found]
    if found:
        assert f"built for CUDA {cuda}" in found[0].text
        assert f"this node's is {running}: use an image with an older CUDA, or nodes with a newer" in found[0].text
    assert [] == list(software.driver(torch, backend="gloo", environ={}, proc=str(tmp_path)))


def test_an_old_driver_may_do_with_the_compatibility_package(tmp_path: Path) -> None:
    """Where the image brings a libcuda of its own it is not sure that it fails."""
    (tmp_path / "driver" / "nvidia").mkdir(parents=True)
    (tmp_path / "driver" / "nvidia" / "version").write_text(CLOSED)
    (tmp_path / "compat").mkdir()
    (tmp_path / "compat" / "libcuda.so.1").touch()
    environ = {"LD_LIBRARY_PATH": f":/usr/lib:{tmp_path}/compat"}
    torch = software.Torch("/torch", "2.15.0", "12.8")
    (found,) = software.driver(torch, backend="nccl", environ=environ, proc=str(tmp_path))
    assert (finding.WARNING, True) == (found.level, "compatibility package" in found.text)


@pytest.mark.parametrize(
    ("torch", "fits"),
    [
        pytest.param(software.Torch("/torch", "2.9.1+cpu", software.NONE, software.NONE), False, id="cpu"),
        pytest.param(software.Torch("/torch", "2.9.1+rocm6", software.NONE, "6.4"), True, id="rocm"),
        pytest.param(software.Torch("/torch"), True, id="unknown"),
    ],
)
def test_nccl_needs_a_torch_with_cuda(torch: software.Torch, fits: bool) -> None:
    """One for the CPU has no NCCL; of one whose version.py cannot be read nothing is said."""
    found = list(software.driver(torch, backend="nccl", environ={}, proc="/none"))
    assert ([] if fits else [finding.PROBLEM]) == [one.level for one in found]
