"""What is known to be wrong before anything starts, each in one sentence with its remedy."""

from __future__ import annotations

import importlib.machinery
import socket
from pathlib import Path

import pytest

from k8sddp.worker import preflight
from k8sddp.worker.contract import node_env
from tests.unit.worker import workers


def make_torch(folder: Path, version: str = "2.9.1+cpu", extension: str = "") -> Path:
    """Make a folder that looks like an installed torch and return its parent."""
    (folder / "torch").mkdir(parents=True)
    (folder / "torch" / "__init__.py").touch()
    (folder / "torch" / "version.py").write_text(
        f"from typing import Optional\n__version__ = '{version}'\ncuda = None\n"
    )
    if extension:
        (folder / "torch" / f"_C{extension}").touch()
    return folder


@pytest.mark.parametrize(
    "extension",
    [pytest.param("", id="no extension"), pytest.param(importlib.machinery.EXTENSION_SUFFIXES[0], id="ours")],
)
def test_the_version_is_read_without_importing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, extension: str) -> None:
    """Build tag included, from version.py."""
    monkeypatch.syspath_prepend(make_torch(tmp_path, extension=extension))
    monkeypatch.delitem(__import__("sys").modules, "torch", raising=False)
    assert "2.9.1+cpu" == preflight.torch_version()


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
    monkeypatch.syspath_prepend(make_torch(tmp_path, version, extension))
    monkeypatch.delitem(__import__("sys").modules, "torch", raising=False)
    with pytest.raises(preflight.PreflightError, match=said):
        preflight.torch_version()


@pytest.mark.parametrize(
    ("devices", "fits"),
    [
        pytest.param(["nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"], True, id="two"),
        pytest.param(["nvidia0", "nvidiactl"], False, id="one"),
        pytest.param(["null"], False, id="none"),
        pytest.param(["kfd"], True, id="ROCm"),
    ],
)
def test_nccl_needs_a_gpu_per_rank(tmp_path: Path, devices: list[str], fits: bool) -> None:
    """Counted as device files; other vendors' are left to torch."""
    for name in devices:
        (tmp_path / name).touch()
    env = workers.make_env(0, tmp_path, 29400, K8SDDP_BACKEND="nccl", K8SDDP_NPROC_PER_NODE="2")
    node = node_env.parse(env)
    if fits:
        preflight.check_gpus(node, str(tmp_path))
    else:
        with pytest.raises(preflight.PreflightError, match=r"nprocPerNode is 2 but .* has [01]: ask for resources.gpu"):
            preflight.check_gpus(node, str(tmp_path))


def test_a_taken_port_is_named() -> None:
    """With address, purpose and remedy; the same port on every address is seen too."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(preflight.PreflightError, match=f"port {port} at 127.0.0.1 for tests cannot be used"):
            preflight.listen("127.0.0.1", port, "tests")
        with pytest.raises(preflight.PreflightError, match=f"port {port} at every address"):
            preflight.listen("", port, "tests")


def test_an_empty_host_listens_on_every_address() -> None:
    """IPv4 at least, IPv6 where there is any."""
    with preflight.listen("", 0, "tests") as listener:
        port = listener.getsockname()[1]
        socket.create_connection(("127.0.0.7", port), timeout=1).close()


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
    if fits:
        preflight.check_words(words)
    else:
        with pytest.raises(preflight.PreflightError, match=f"the script {words[0]} is not in {tmp_path}"):
            preflight.check_words(words)


def test_a_module_that_is_nowhere_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the gang waits for all nodes, instead of in every attempt."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(preflight.PreflightError, match=f"there is no module pkg.train, neither in {tmp_path} nor in"):
        preflight.check_words(("-m", "pkg.train"))
