"""What a script leaves behind stays; what travelled, caches and libraries' own files do not."""

from __future__ import annotations

import base64
import os
import socket
from pathlib import Path

import pytest

from k8sddp.local import leftovers, pods, scratch
from k8sddp.render import bundle
from k8sddp.worker.contract import node_env
from tests.unit.local.builders import make_job, make_machine

CODE = {"train.py": b"print(1)", "conf/base.json": b"{}"}


def make_pod(tmp_path: Path) -> pods.LocalPod:
    """Return a pod with code and a /tmp, its folders made and its code unpacked."""
    code = bundle.pack([bundle.CodeFile(name, data) for name, data in CODE.items()])
    config = {
        "kind": "ConfigMap",
        "metadata": {"name": "code"},
        "binaryData": {"code.zip": base64.b64encode(code.zip).decode()},
    }
    volumes = [
        {"name": "c", "configMap": {"name": "code"}},
        {"name": "w", "emptyDir": {}},
        {"name": "t", "emptyDir": {}},
    ]
    paths = {"c": "/k8sddp/code", "w": "/k8sddp/work", "t": "/tmp"}
    env = {
        node_env.CODE_ZIP: "/k8sddp/code/code.zip",
        node_env.WORK_DIR: "/k8sddp/work",
        node_env.SCRATCH_DIR: "/tmp",
    }
    mounts = [{"name": name, "mountPath": path} for name, path in paths.items()]
    job = make_job(env=env, volumes=volumes, mounts=mounts)
    places = pods.Places(tmp_path / "s", tmp_path / "m", tmp_path / "wd/digits", tmp_path / "wd/digits/files")
    machine = make_machine(temporary=tmp_path)
    (pod,) = pods.template([config, job], machine=machine, places=places, job_uid="uid").first()
    scratch.prepare([pod])
    for name, data in CODE.items():
        (pod.cwd / name).parent.mkdir(exist_ok=True)
        (pod.cwd / name).write_bytes(data)
    return pod


def write(folder: Path, *names: str) -> None:
    """Make files of four bytes."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("data")


def left(pod: pods.LocalPod) -> list[tuple[Path, tuple[str, ...], int, int]]:
    """Return what is found after a pod's end."""
    return [(one.folder, one.names, one.count, one.size) for one in leftovers.of_pod(pod, leftovers.code_of(pod))]


def test_nothing_new_leaves_nothing(tmp_path: Path) -> None:
    """Code as it came and its caches are no work of the script's."""
    pod = make_pod(tmp_path)
    write(pod.cwd, "__pycache__/train.cpython-311.pyc", "conf/__pycache__/x.pyc")

    assert [] == left(pod)
    assert not pod.cwd.exists()


def test_new_and_changed_files_stay_where_they_are(tmp_path: Path) -> None:
    """A changed file of the code is the script's work too, also one of the same length."""
    pod = make_pod(tmp_path)
    write(pod.cwd, "out/model.pt", "log.txt", "a/b/c/d", "z")
    (pod.cwd / "conf/base.json").write_bytes(b"[]")

    assert [(pod.cwd, ("log.txt", "z", "a/b/c/d"), 5, 18)] == left(pod)
    assert not (pod.cwd / "train.py").exists()
    assert b"[]" == (pod.cwd / "conf/base.json").read_bytes()


def test_files_of_the_pods_tmp_are_moved(tmp_path: Path) -> None:
    """With their folders, beside the working folder; what libraries keep there, sockets and links are not."""
    pod = make_pod(tmp_path)
    folder = pod.folders.temporary
    write(
        folder, "metrics.json", "run/model.pt", "pymp-abc/x", "k8sddp-digits-0-ff/rank-0.out", "tmpabcdefgh/x", ".nv/y"
    )
    (folder / "link").symlink_to(folder / "metrics.json")
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(folder)  # the path of a socket is short
        try:
            server.bind("socket")
        finally:
            os.chdir(here)

    target = pod.folders.work.with_name("digits-0.tmp")
    assert [(target, ("metrics.json", "run/model.pt"), 2, 8)] == left(pod)
    assert "data" == (target / "run/model.pt").read_text()


def test_what_is_too_big_to_be_copied_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """/tmp on another file system: a sentence says which files are lost."""
    pod = make_pod(tmp_path)
    write(pod.folders.temporary, "a", "b")
    monkeypatch.setattr(leftovers, "MAX_COPIED", 4)
    monkeypatch.setattr(leftovers, "_same_system", lambda *_: False)

    (found,) = leftovers.of_pod(pod, leftovers.code_of(pod))

    assert (("a",), 1) == (found.names, found.count)
    assert str(found).endswith("digits-0.tmp: a (4 bytes); not kept, 4 bytes at most are copied from /tmp: b")


def test_a_line_names_the_first_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative to where the user stands, and of a thousand checkpoints three."""
    monkeypatch.chdir(tmp_path)
    names = tuple(f"{number}.pt" for number in range(3))
    found = leftovers.Leftovers(tmp_path / ".k8sddp/digits/files/digits-0", names, 1000, 3 * 2**30)

    assert ".k8sddp/digits/files/digits-0: 0.pt, 1.pt, 2.pt and 997 more (3.0 GiB)" == str(found)
