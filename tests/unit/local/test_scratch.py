"""Scratch goes, volumes stay, and one name runs once."""

from __future__ import annotations

from pathlib import Path

import pytest

from k8sddp import errors
from k8sddp.local import pods, scratch
from tests.unit.local.builders import make_job, make_machine

VOLUMES = [
    {"name": "model", "emptyDir": {}},
    {"name": "ckpt", "persistentVolumeClaim": {"claimName": "ckpt"}},
]
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
