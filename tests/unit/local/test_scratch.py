"""Scratch goes, volumes stay, and one name runs once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from k8sddp import errors
from k8sddp.local import pods, scratch
from tests.unit.local.builders import make_job, make_machine

VOLUMES = [
    {"name": "model", "emptyDir": {}},
    {"name": "ckpt", "persistentVolumeClaim": {"claimName": "ckpt"}},
]
TMP: dict[str, Any] = {"volumes": [{"name": "t", "emptyDir": {}}], "mounts": [{"name": "t", "mountPath": "/tmp"}]}
MOUNTS = [{"name": "model", "mountPath": "/model"}, {"name": "ckpt", "mountPath": "/ckpt"}]


def prepared(tmp_path: Path) -> tuple[pods.LocalPod, ...]:
    """Make the folders of a run below `tmp_path`, and end it; return its pods."""
    machine = make_machine(temporary=tmp_path, shared_memory=None, directory=tmp_path)
    with scratch.places(machine=machine, work_dir=tmp_path / "wd", job="digits") as places:
        job = make_job(volumes=VOLUMES, mounts=MOUNTS)
        layout = pods.template([job], machine=machine, places=places, job_uid="uid").first()
        scratch.prepare(layout)
        assert places.scratch.is_dir()
    return layout


def test_only_volumes_are_left(tmp_path: Path) -> None:
    """After a run the work folder has the user's volumes, and the temporary folder has nothing."""
    layout = prepared(tmp_path)

    assert ["wd"] == [path.name for path in tmp_path.iterdir()]
    assert {
        "digits-0/model": tmp_path / "wd/digits/digits-0/volumes/model",
        "ckpt": tmp_path / "wd/digits/volumes/ckpt",
    } == scratch.kept(layout)
    assert all(folder.is_dir() for folder in scratch.kept(layout).values())


def test_a_claim_keeps_its_files_and_an_empty_dir_starts_empty(tmp_path: Path) -> None:
    """The next run finds what a claim holds, and a fresh emptyDir, as on a cluster."""
    for folder in scratch.kept(prepared(tmp_path)).values():
        (folder / "file").write_text("from the first run")

    kept = scratch.kept(prepared(tmp_path))

    assert ["file"] == [path.name for path in kept["ckpt"].iterdir()]
    assert [] == list(kept["digits-0/model"].iterdir())


def test_a_replacement_starts_with_fresh_folders_and_keeps_what_the_user_keeps(tmp_path: Path) -> None:
    """Nothing of the old pod is left but what a claim holds; its emptyDir is found under the same name as before."""
    machine = make_machine(temporary=tmp_path, shared_memory=None, directory=tmp_path)
    with scratch.places(machine=machine, work_dir=tmp_path / "wd", job="digits") as places:
        template = pods.template(
            [make_job(volumes=VOLUMES, mounts=MOUNTS)], machine=machine, places=places, job_uid="uid"
        )
        first, second = template.pod(0), template.pod(0, ordinal=2)
        scratch.prepare([first])
        for folder in (first.folders.scratch, *scratch.kept([first]).values()):
            (folder / "file").write_text("of the first pod")

        scratch.discard(first)
        scratch.prepare([second])

        assert not first.folders.scratch.exists()
        assert [] == list(second.folders.scratch.iterdir())
        kept = scratch.kept([second])
        assert scratch.kept([first]) == kept
        assert (["file"], []) == tuple(
            [path.name for path in kept[name].iterdir()] for name in ("ckpt", "digits-0/model")
        )


def test_one_name_runs_once_in_a_work_folder(tmp_path: Path) -> None:
    """A second run of the same job is refused, one of another job is not, and the name is free afterwards."""
    machine = make_machine(temporary=tmp_path, shared_memory=None)
    with scratch.places(machine=machine, work_dir=tmp_path, job="digits"):
        with scratch.places(machine=machine, work_dir=tmp_path, job="other"):
            pass
        with (
            pytest.raises(errors.LocalError, match="digits: the job runs here already"),
            scratch.places(machine=machine, work_dir=tmp_path, job="digits"),
        ):
            pass
    with scratch.places(machine=machine, work_dir=tmp_path, job="digits"):
        pass


def test_a_work_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    """The refusal names the path and the flag."""
    (tmp_path / "wd").write_text("a file")

    with pytest.raises(errors.LocalError, match=r"wd.*cannot be written \(Not a directory\).*--work-dir"):
        prepared(tmp_path)
    assert ["wd"] == [path.name for path in tmp_path.iterdir()]


def test_a_temporary_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    """A disk that has become full is no bug of k8sddp; here a file is in the way."""
    machine = make_machine(temporary=tmp_path, shared_memory=tmp_path / "gone", directory=tmp_path)
    with (
        pytest.raises(errors.LocalError, match=r"gone.*cannot be written \(No such file or directory\)"),
        scratch.places(machine=machine, work_dir=tmp_path / "wd", job="digits"),
    ):
        pass
    machine = make_machine(temporary=tmp_path, shared_memory=None, directory=tmp_path)
    with scratch.places(machine=machine, work_dir=tmp_path / "wd", job="digits") as places:
        layout = pods.template([make_job()], machine=machine, places=places, job_uid="uid").first()
        layout[0].folders.scratch.parent.mkdir(parents=True, exist_ok=True)
        layout[0].folders.scratch.write_text("a file")
        with pytest.raises(errors.LocalError, match=r"cannot be written \(.*\).*TMPDIR"):
            scratch.prepare(layout)
    assert [] == [path.name for path in tmp_path.iterdir()]


def test_a_pods_tmp_has_a_short_path(tmp_path: Path) -> None:
    """A Unix socket's path must stay below 108 bytes, wherever the user's TMPDIR is; nothing of it is left."""
    deep = tmp_path / "deep/deeper/deepest"
    short = tmp_path / "s"
    deep.mkdir(parents=True)
    short.mkdir()
    machine = make_machine(temporary=deep, short_temporary=short, shared_memory=None)
    with scratch.places(machine=machine, work_dir=tmp_path / "wd", job="digits") as places:
        job = make_job(nnodes=253, env={"K8SDDP_SCRATCH_DIR": "/tmp"}, **TMP)
        pod = pods.template([job], machine=machine, places=places, job_uid="uid").pod(252)
        scratch.prepare([pod])
        assert len(str(short)) + len("/k8ab/252") == len(pod.env["TMPDIR"])
        assert Path(pod.env["TMPDIR"]).resolve().is_relative_to(deep.resolve())
    assert ([], []) == (list(short.iterdir()), list(deep.iterdir()))


def test_a_short_tmp_needs_no_link(tmp_path: Path) -> None:
    """The user's TMPDIR is as short as it gets."""
    machine = make_machine(temporary=tmp_path, short_temporary=tmp_path, shared_memory=None)
    with scratch.places(machine=machine, work_dir=tmp_path / "wd", job="digits") as places:
        assert places.link is None
        assert len(str(tmp_path)) + len("/k8ab") == len(str(places.scratch))


def test_files_of_a_run_stay_until_the_run_after_the_next(tmp_path: Path) -> None:
    """The newest and the one before; git does not see them."""
    for number in (1, 2, 3):
        scratch.begin(tmp_path / "digits")
        (tmp_path / "digits/files").mkdir()
        (tmp_path / f"digits/files/{number}").touch()
    assert {"files/3", "files.old/2", ".gitignore"} == {
        str(path.relative_to(tmp_path / "digits")) for path in (tmp_path / "digits").rglob("*") if path.is_file()
    }
    assert "*\n" == (tmp_path / "digits/.gitignore").read_text()


def test_a_job_without_volumes_runs_twice_at_once(tmp_path: Path) -> None:
    """Each run in a folder of its own, the second with a number; with volumes they would write the same files."""
    machine = make_machine(temporary=tmp_path, shared_memory=None)
    with (
        scratch.places(machine=machine, work_dir=tmp_path, job="digits", alone=False) as first,
        scratch.places(machine=machine, work_dir=tmp_path, job="digits", alone=False) as second,
    ):
        assert ["digits", "digits.2"] == [first.volumes.name, second.volumes.name]
    assert not pods.keeps_volumes(make_job(env={"K8SDDP_SCRATCH_DIR": "/tmp"}, **TMP))
    assert pods.keeps_volumes(make_job(volumes=VOLUMES, mounts=MOUNTS))
