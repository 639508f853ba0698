"""What travels in ConfigMaps: reproducible bytes, digests over contents, a worker that starts from its zip."""

import io
import random
import subprocess
import sys
import zipfile

import pytest

from k8sddp import constants, errors
from k8sddp.render import bundle
from k8sddp.worker import code_zip
from k8sddp.worker.contract import exit_codes

FILES = (
    bundle.CodeFile("train.py", b"print('hello')\n" * 100),
    bundle.CodeFile("tools/run.sh", b"#!/bin/sh\n", True),
    bundle.CodeFile("data/\u00fcbung \U0001f600.txt", b""),
)


def members(packed):
    """Return the entries of a zip."""
    return zipfile.ZipFile(io.BytesIO(packed)).infolist()


def test_packed_files_come_out_as_they_went_in():
    """Names, contents and the executable bit survive, whatever the names."""
    archive = zipfile.ZipFile(io.BytesIO(bundle.pack(FILES).zip))
    out = [
        bundle.CodeFile(info.filename, archive.read(info), bool(info.external_attr >> 16 & 0o100))
        for info in archive.infolist()
    ]
    assert sorted(FILES) == out


def test_packing_depends_on_the_files_only():
    """Order of the files and time of day change no byte."""
    assert bundle.pack(FILES) == bundle.pack(FILES[::-1])
    assert {(1980, 1, 1, 0, 0, 0)} == {info.date_time for info in members(bundle.pack(FILES).zip)}
    assert {3} == {info.create_system for info in members(bundle.pack(FILES).zip)}


@pytest.mark.parametrize(
    "changed",
    [
        (FILES[0]._replace(name="train2.py"), *FILES[1:]),
        (FILES[0]._replace(data=b""), *FILES[1:]),
        (FILES[0]._replace(executable=True), *FILES[1:]),
        FILES[1:],
    ],
    ids=["name", "content", "mode", "one less"],
)
def test_digest_changes_with_every_part(changed):
    """Name, content, mode and number of files count."""
    assert bundle.digest(FILES) != bundle.digest(changed)


def test_digest_cannot_be_confused_by_moving_bytes():
    """A byte that moves from a name to the content gives another digest."""
    assert bundle.digest([bundle.CodeFile("ab", b"c")]) != bundle.digest([bundle.CodeFile("a", b"bc")])


def test_digest_is_known():
    """A running job's annotation is compared with it after an upgrade, so it never changes."""
    expected = (
        "df0709f1b781d0f0c474cb082ef3144d2509ae3514c107cddc2a1a96d7e26441"  # printf '8 0 5\ntrain.pypass\n' | sha256sum
    )
    assert expected == bundle.digest([bundle.CodeFile("train.py", b"pass\n")])


def test_folder_too_big_names_size_limit_biggest_files_and_remedy():
    """What does not compress and is too much is refused in one message that says what to do."""
    noise = random.Random(0).randbytes(200 * 1024)
    files = [bundle.CodeFile(f"noise{number}.bin", noise[number:]) for number in range(6)]
    with pytest.raises(errors.CodeError) as caught:
        bundle.pack([*files, bundle.CodeFile("train.py", b"pass\n")])
    text = str(caught.value)
    assert text.startswith("the code folder is 1201 KiB packed, the limit is 900 KiB")
    assert ".k8sddpignore" in text
    assert 5 == text.count("200 KiB  noise")
    assert "train.py" not in text


def test_folder_at_the_limit_travels():
    """The limit itself is allowed."""
    noise = random.Random(0).randbytes(constants.MAX_CODE_ZIP - 500)
    assert constants.MAX_CODE_ZIP >= len(bundle.pack([bundle.CodeFile("a", noise)]).zip)


def test_worker_zip_is_small_and_holds_only_the_worker():
    """Sources only, no bytecode, no other part of k8sddp, well below what a ConfigMap holds."""
    names = [info.filename for info in members(bundle.worker_zip())]
    outside = [name for name in names if not name.startswith("k8sddp/worker/")]
    assert constants.MAX_WORKER_ZIP >= len(bundle.worker_zip())
    assert ["__main__.py", "k8sddp/__init__.py"] == outside
    assert [] == [name for name in names if not name.endswith(".py")]
    assert len(set(names)) == len(names)


def test_worker_is_importable_from_its_zip(tmp_path):
    """Without an installed k8sddp the zip alone provides k8sddp.worker and what the ranks import."""
    (tmp_path / "worker.pyz").write_bytes(bundle.worker_zip())
    program = (
        "import sys; zip = sys.argv[1]; sys.path[:0] = [zip, zip + '/k8sddp/worker/instrument'];"
        "import k8sddp.worker.main as main, sitecustomize; print(main.__file__, sitecustomize.__file__)"
    )
    run = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program, str(tmp_path / "worker.pyz")],
        check=False,
        capture_output=True,
        text=True,
    )
    package = tmp_path / "worker.pyz" / "k8sddp" / "worker"
    assert f"{package}/main.py {package}/instrument/sitecustomize.py\n" == run.stdout, run.stderr


def test_worker_starts_from_its_zip(tmp_path):
    """The zip is what the container runs: without an environment it says so and exits as misconfigured."""
    (tmp_path / "worker.pyz").write_bytes(bundle.worker_zip())
    run = subprocess.run(
        [sys.executable, "-I", "worker.pyz", "train.py"],
        check=False,
        cwd=tmp_path,
        env={},
        capture_output=True,
        text=True,
    )
    assert exit_codes.BAD_CONFIGURATION == run.returncode, run.stderr
    assert "K8SDDP_JOB is not set" in run.stdout + run.stderr


def test_worker_unpacks_what_was_packed(tmp_path):
    """The two halves of the code's way, ours and the worker's, agree."""
    (tmp_path / "code.zip").write_bytes(bundle.pack(FILES).zip)
    code_zip.unpack(str(tmp_path / "code.zip"), str(tmp_path / "work"))
    assert len(FILES) == sum(path.is_file() for path in (tmp_path / "work").rglob("*"))
    for file in FILES:
        place = tmp_path / "work" / file.name
        assert (file.data, file.executable) == (place.read_bytes(), bool(place.stat().st_mode & 0o100))


def test_an_old_python_is_told_so_in_one_sentence(tmp_path):
    """An image whose python3 is too old ends with the code for a bad configuration, before ours is parsed."""
    path = tmp_path / "worker.pyz"
    path.write_bytes(bundle.worker_zip())
    code = f"import runpy, sys; sys.version_info = (3, 8, 1); runpy.run_path({str(path)!r}, run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (exit_codes.BAD_CONFIGURATION, "") == (done.returncode, done.stdout)
    assert done.stderr.endswith("is Python 3.8; 3.9 or newer is needed: name another interpreter in spec.python\n")
    assert 1 == done.stderr.count("\n")
