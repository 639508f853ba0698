"""Whatever a user gets wrong: one clear answer, the right exit code, no traceback of ours, nothing left behind.

Each case goes through the installed program. `run --local` is used where the fault shows only when something starts;
the traceback of a user's own script, in its `[rank N]` lines, is the user's and is meant to be seen.
"""

from __future__ import annotations

import importlib.util
import random
import socket
import sys
from pathlib import Path

import pytest

from tests import ports
from tests.unit.cli import program

needs_torch = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="torch is not installed: pip install 'k8sddp[torch]'"
)
JOB = """\
apiVersion: k8sddp.dev/v1alpha1
kind: DDPJob
metadata: {name: digits}
spec:
  image: example.com/torch
  command: [train.py]
  nnodes: 2
"""


def edited(old: str, new: str) -> str:
    """Return the good job file with one thing made wrong."""
    assert old in JOB
    return JOB.replace(old, new)


def assert_clean(ended: program.Ended, *, code: int, message: str) -> None:
    """Check what every bad input is answered with."""
    assert code == ended.code
    assert message in ended.err
    assert "Traceback" not in ended.err
    assert "this is a bug" not in ended.err


@pytest.mark.parametrize("verb", [["validate"], ["render"], ["run", "--local"]], ids=" ".join)
@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("", "<stdin>  is empty", id="empty"),
        pytest.param("{a: [}", "<stdin>:1:6  not YAML: ", id="not-yaml"),
        pytest.param("- a", "<stdin>  is no mapping", id="not-a-mapping"),
        pytest.param(edited("DDPJob", "PyTorchJob"), ":2:7  kind: `PyTorchJob`", id="wrong-kind"),
        pytest.param(edited("v1alpha1", "v1"), ":1:13  apiVersion: `k8sddp.dev/v1`", id="wrong-version"),
        pytest.param(edited("nnodes", "nnode"), "did you mean `nnodes`?", id="unknown-field"),
        pytest.param(edited("nnodes: 2", "nnodes: two"), ":7:11  spec.nnodes: `two` is a text", id="wrong-type"),
        pytest.param(JOB + "  nnodes: 3\n", ":8:3  spec.nnodes: `nnodes` is given twice", id="duplicate-key"),
        pytest.param(JOB + "  env: {A: on}\n", ":8:12  spec.env.A: `on` is true to kubectl", id="yaml-trap"),
        pytest.param(edited("digits", "d" * 64), ":3:18  metadata.name: has 64 characters", id="long-name"),
        pytest.param(edited("nnodes: 2", "nnodes: 0"), ":7:11  spec.nnodes: `0` is too small", id="no-nodes"),
        pytest.param(edited("[train.py]", "[]"), ":6:3  spec.command: is empty", id="empty-command"),
        pytest.param(JOB + "  env: {RANK: '1'}\n", ":8:9  spec.env.RANK: `RANK` is reserved", id="reserved-env"),
        pytest.param(JOB + "  suspend: true\n", "not supported yet", id="not-yet"),
    ],
)
def test_bad_spec_is_named_with_its_place(tmp_path: Path, verb: list[str], text: str, message: str) -> None:
    """Exit code 2, the place, the rule; nothing on stdout and no file."""
    ended = program.k8sddp(*verb, "-", stdin=text.encode(), cwd=tmp_path)
    assert_clean(ended, code=2, message=message)
    assert ended.err.startswith("error: <stdin> has 1 problem\n")
    assert ("", []) == (ended.out, list(tmp_path.iterdir()))


def test_missing_file_is_named(tmp_path: Path) -> None:
    """The commonest mistake of all."""
    ended = program.k8sddp("run", "--local", "job.yaml", cwd=tmp_path)
    assert (2, "", "error: job.yaml: there is no such file\n") == ended
    assert [] == list(tmp_path.iterdir())


def with_code(folder: Path, script: str = "print(1)\n") -> None:
    """Make a folder that holds a good job and its code."""
    (folder / "job.yaml").write_text(JOB + "  code: {path: code}\n")
    (folder / "code").mkdir()
    (folder / "code" / "train.py").write_text(script)


def test_code_folder_too_big_names_the_limit_and_the_biggest_file(tmp_path: Path) -> None:
    """The user learns what to leave out."""
    with_code(tmp_path)
    (tmp_path / "code" / "weights.bin").write_bytes(random.Random(0).randbytes(1 << 20))
    ended = program.k8sddp("run", "--local", "job.yaml", cwd=tmp_path)
    assert_clean(ended, code=2, message="the limit is 900 KiB")
    assert "weights.bin" in ended.err
    assert ["code", "job.yaml"] == sorted(entry.name for entry in tmp_path.iterdir())


def test_link_out_of_the_code_folder_is_refused(tmp_path: Path) -> None:
    """What a link leads to outside would travel without anybody having said so."""
    with_code(tmp_path)
    (tmp_path / "code" / "secret").symlink_to("/etc/passwd")
    ended = program.k8sddp("validate", "job.yaml", cwd=tmp_path)
    assert_clean(ended, code=2, message="secret: the link leads out of the folder (/etc/passwd)")


def test_script_that_does_not_travel_is_refused(tmp_path: Path) -> None:
    """A missing script is found before anything starts."""
    with_code(tmp_path)
    (tmp_path / "code" / "train.py").rename(tmp_path / "code" / "main.py")
    ended = program.k8sddp("run", "--local", "job.yaml", cwd=tmp_path)
    assert_clean(ended, code=2, message="spec.command names train.py, which does not travel with code")


def write_python(folder: Path, *, torch_built_for: str) -> Path:
    """Write an interpreter that has what looks like torch built for another Python; return its path."""
    (folder / "torch").mkdir(parents=True)
    (folder / "torch" / "__init__.py").write_text("raise ImportError('not for this Python')\n")
    (folder / "torch" / "version.py").write_text("__version__ = '2.9.1'\n")
    (folder / "torch" / f"_C.{torch_built_for}-x86_64-linux-gnu.so").write_bytes(b"")
    (folder / "python").write_text(f'#!/bin/sh\nPYTHONPATH={folder} exec {sys.executable} "$@"\n')
    (folder / "python").chmod(0o755)
    return folder / "python"


def run_locally(folder: Path, lines: str) -> program.Ended:
    """Run a one-node job with these further lines in its spec, and check that nothing but volumes is left."""
    port = ports.free_for_a_job()
    one = f"nnodes: 1\n  rendezvous: {{port: {port}}}\n  restart: {{maxAttempts: 1}}\n  {lines}"
    (folder / "job.yaml").write_text(JOB.replace("nnodes: 2", one))
    temporary = folder / "tmp"
    temporary.mkdir()
    ended = program.k8sddp("run", "--local", "job.yaml", cwd=folder, env={"TMPDIR": str(temporary)})
    assert [] == list(temporary.iterdir())
    return ended


def test_torch_of_another_python_is_named(tmp_path: Path) -> None:
    """Which torch, for which Python, and what to set; not an ImportError from inside of torch."""
    python = write_python(tmp_path / "other", torch_built_for="cpython-27")
    ended = run_locally(tmp_path, f"python: {python}")
    assert_clean(ended, code=77, message="is built for cpython-27-x86_64-linux-gnu, but")
    assert "spec.python" in ended.err


@pytest.mark.parametrize(
    ("fault", "problem"),
    [
        pytest.param("kil rank=1 step=20", "there is no fault `kil`", id="unknown"),
        pytest.param("kill step=20", "rank= is missing", id="no-rank"),
        pytest.param("kill rank=2 step=20", "the job has 2 ranks, 0 to 1", id="no-such-rank"),
        pytest.param("lose-node 2", "the job has 2 nodes, 0 to 1", id="no-such-node"),
    ],
)
def test_fault_that_cannot_be_is_named_with_the_accepted_forms(tmp_path: Path, fault: str, problem: str) -> None:
    """Exit code 2 before anything starts."""
    (tmp_path / "job.yaml").write_text(JOB)
    ended = program.k8sddp("run", "--local", "job.yaml", "--fault", fault, cwd=tmp_path)
    assert_clean(
        ended, code=2, message=f"error: --fault '{fault}': {problem}; write \"kill rank=1 step=20\" (also stop,"
    )
    assert 1 == len(ended.err.splitlines())


@pytest.mark.torch
@needs_torch
def test_script_that_is_not_in_the_image_is_named(tmp_path: Path) -> None:
    """Without a code folder the script is the image's; its absence is found before torchrun starts."""
    ended = run_locally(tmp_path, "env: {A: b}")
    assert_clean(ended, code=77, message="the script train.py is not in ")


@pytest.mark.torch
@needs_torch
def test_script_that_raises_is_the_first_failure(tmp_path: Path) -> None:
    """The user's traceback stands in the rank's lines, our last line repeats the exception, the code is the rank's."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "train.py").write_text("import no_such_module\n")
    ended = run_locally(tmp_path, "code: {path: code}")
    message = "raised ModuleNotFoundError: No module named 'no_such_module'"
    assert_clean(ended, code=1, message=message)
    assert message in ended.err.splitlines()[-1]
    assert "[rank 0] Traceback (most recent call last)" in ended.out


def test_program_that_this_machine_lacks_is_named(tmp_path: Path) -> None:
    """The image has its Python somewhere else."""
    ended = run_locally(tmp_path, "python: /opt/conda/bin/python-of-the-image")
    assert_clean(ended, code=1, message="'/opt/conda/bin/python-of-the-image' of the image does not exist")


def test_taken_port_is_named_before_anything_starts(tmp_path: Path) -> None:
    """Which port, what for, and how to find who holds it."""
    port = ports.free_for_a_job()
    with socket.socket() as holder:
        holder.bind(("", port))
        holder.listen()
        (tmp_path / "job.yaml").write_text(JOB + f"  rendezvous: {{port: {port}}}\n")
        ended = program.k8sddp("run", "--local", "job.yaml", cwd=tmp_path)
    assert_clean(ended, code=1, message=f"port {port} on 127.0.")
    assert "(gang) cannot be used: it is in use" in ended.err
    assert "" == ended.out


def test_secret_volume_cannot_be_had_here(tmp_path: Path) -> None:
    """A volume that only a cluster has is refused by its name."""
    lines = "volumes: [{name: keys, mountPath: /keys, secret: {secretName: keys}}]"
    assert_clean(run_locally(tmp_path, lines), code=1, message="keys")
