"""Volumes become folders, container paths become paths in them, and what only a cluster has is refused by name."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from k8sddp import errors
from tests.unit.local.builders import make_job, make_layout

CONFIG = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "digits-worker"},
    "data": {"notes.txt": "hé"},
    "binaryData": {"worker.pyz": base64.b64encode(b"\x00zip").decode()},
}
WORKER = {"name": "w", "configMap": {"name": "digits-worker"}}
WORKER_MOUNT = {"name": "w", "mountPath": "/k8sddp/worker"}


def mounted(source: dict[str, Any], path: str = "/data", **mount: Any) -> dict[str, Any]:
    """Return a job with one volume named v."""
    return make_job(volumes=[{"name": "v"} | source], mounts=[{"name": "v", "mountPath": path} | mount])


def test_config_map_keys_become_files() -> None:
    """Text is UTF-8, binary data is decoded, and both lie in the pod's own scratch folder."""
    (pod,) = make_layout(make_job(volumes=[WORKER], mounts=[WORKER_MOUNT]), CONFIG)

    folder = Path("/scratch/pods/0/volumes/w")
    assert {folder / "notes.txt": "hé".encode(), folder / "worker.pyz": b"\x00zip"} == pod.mounts[0].files


def test_items_choose_and_rename_keys() -> None:
    """Only the keys of `items` become files, at their paths."""
    volume = {"name": "w", "configMap": {"name": "digits-worker", "items": [{"key": "notes.txt", "path": "a/b"}]}}

    (pod,) = make_layout(make_job(volumes=[volume], mounts=[WORKER_MOUNT]), CONFIG)

    assert {Path("/scratch/pods/0/volumes/w/a/b"): "hé".encode()} == pod.mounts[0].files


def test_a_claim_is_one_folder_for_all_pods() -> None:
    """A PersistentVolumeClaim is shared, as a ReadWriteMany volume is."""
    claim = {"persistentVolumeClaim": {"claimName": "ckpt"}}
    job = make_job(nnodes=2, volumes=[{"name": "v"} | claim], mounts=[{"name": "v", "mountPath": "/data"}])

    assert {Path("/kept/digits/volumes/ckpt")} == {pod.mounts[0].folder for pod in make_layout(job)}


def test_an_empty_dir_is_each_pods_own() -> None:
    """A user's emptyDir is kept under the pod's name."""
    job = make_job(nnodes=2, volumes=[{"name": "v", "emptyDir": {}}], mounts=[{"name": "v", "mountPath": "/model"}])

    folders = [pod.mounts[0].folder for pod in make_layout(job)]

    assert [Path("/kept/digits/digits-0/volumes/v"), Path("/kept/digits/digits-1/volumes/v")] == folders


@pytest.mark.parametrize(
    ("empty_dir", "path", "variable", "expected"),
    [
        pytest.param({}, "/tmp", "K8SDDP_SCRATCH_DIR", "/scratch/0", id="scratch"),
        pytest.param({}, "/k8sddp/work", "K8SDDP_WORK_DIR", "/kept/digits/files/digits-0", id="work"),
        pytest.param({"medium": "Memory"}, "/dev/shm", "K8SDDP_SHM_DIR", "/memory/0/shm", id="memory"),
    ],
)
def test_our_own_folders_are_no_volumes(empty_dir: dict[str, str], path: str, variable: str, expected: str) -> None:
    """An emptyDir at a path of the worker's contract is no volume of the user's, and the variable follows it."""
    job = mounted({"emptyDir": empty_dir}, path)
    job["spec"]["template"]["spec"]["containers"][0]["env"].append({"name": variable, "value": path})

    (pod,) = make_layout(job)

    assert ("", expected, expected) == (pod.mounts[0].kept, str(pod.mounts[0].folder), pod.env[variable])


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        pytest.param("/data", "/kept/digits/volumes/c", id="the mount itself"),
        pytest.param("/data/a b/c", "/kept/digits/volumes/c/a b/c", id="below it"),
        pytest.param("--out=/data/x", "--out=/kept/digits/volumes/c/x", id="after the first ="),
        pytest.param("/data/deep/x", "/kept/digits/volumes/d/x", id="the deepest mount wins"),
        pytest.param("/database", "/database", id="a longer name is another path"),
        pytest.param("a=b=/data", "a=b=/data", id="not after the second ="),
        pytest.param("see /data", "see /data", id="inside a sentence"),
        pytest.param("", "", id="empty"),
    ],
)
def test_paths_that_stand_alone_are_rewritten(word: str, expected: str) -> None:
    """Arguments and environment values that are container paths become paths of this machine."""
    volumes = [
        {"name": "one", "persistentVolumeClaim": {"claimName": "c"}},
        {"name": "two", "persistentVolumeClaim": {"claimName": "d"}},
    ]
    mounts = [{"name": "one", "mountPath": "/data"}, {"name": "two", "mountPath": "/data/deep"}]

    (pod,) = make_layout(make_job(args=[word], env={"X": word}, volumes=volumes, mounts=mounts))

    assert (expected, expected) == (pod.argv[-1], pod.env["X"])


def test_sub_path_is_a_folder_of_the_volume() -> None:
    """`subPath` mounts a folder below the volume's root."""
    (pod,) = make_layout(mounted({"persistentVolumeClaim": {"claimName": "c"}}, subPath="runs/1"))

    assert Path("/kept/digits/volumes/c/runs/1") == pod.mounts[0].folder


@pytest.mark.parametrize(
    ("source", "mount", "words"),
    [
        pytest.param({"secret": {"secretName": "s"}}, {}, "volume v: secret", id="secret"),
        pytest.param({"hostPath": {"path": "/"}}, {}, "volume v: hostPath", id="hostPath"),
        pytest.param({"nfs": {"server": "x", "path": "/"}}, {}, "volume v: nfs", id="nfs"),
        pytest.param(
            {"configMap": {"name": "mine"}}, {}, "volume v: ConfigMap 'mine'", id="a ConfigMap of the cluster"
        ),
        pytest.param({"persistentVolumeClaim": {"claimName": "../x"}}, {}, "'../x' leads out", id="claim name"),
        pytest.param({"emptyDir": {}}, {"subPath": "a/../../b"}, "'a/../../b' leads out", id="subPath"),
    ],
)
def test_what_only_a_cluster_has_is_refused(source: dict[str, Any], mount: dict[str, str], words: str) -> None:
    """The refusal names the volume and what is wrong with it."""
    with pytest.raises(errors.LocalError, match=words):
        make_layout(mounted(source, **mount))
