"""job.yaml at the command line: what cannot be read is one sentence, what can is validated and rendered."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.unit.cli import program

JOB = """\
apiVersion: k8sddp.dev/v1alpha1
kind: DDPJob
metadata: {name: digits}
spec:
  image: example.com/torch
  command: [train.py]
  nnodes: 2
"""


def write(folder: Path, text: str = JOB, *, name: str = "job.yaml") -> Path:
    """Write a job file and return its path."""
    file = folder / name
    file.write_text(text)
    return file


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        pytest.param("job.yaml", None, "job.yaml: there is no such file", id="missing"),
        pytest.param(".", None, ".: is a folder; name the job.yaml in it", id="folder"),
        pytest.param("job.yaml/x", b"", "job.yaml/x: cannot be read (Not a directory)", id="file-as-folder"),
        pytest.param("job.yaml", b"a: \xff\n", "job.yaml:1: is not UTF-8 text (byte 0xff)", id="not-utf-8"),
        pytest.param("job.yaml", b"x" * (1 << 21), "job.yaml: is larger than 1 MiB", id="huge"),
    ],
)
def test_unreadable_file_is_one_sentence_and_exit_2(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    """The path and the reason, never a traceback."""
    if content is not None:
        (tmp_path / "job.yaml").write_bytes(content)
    ended = program.k8sddp("render", name, cwd=tmp_path)
    assert (2, "") == (ended.code, ended.out)
    assert ended.err.startswith(f"error: {message}")
    assert 1 == ended.err.count("\n")


@pytest.mark.parametrize("words", [["job.yaml"], ["-f", "job.yaml"]], ids=["positional", "like-kubectl"])
def test_validate_says_what_would_run(tmp_path: Path, words: list[str]) -> None:
    """One line per valid file, on stdout."""
    write(tmp_path)
    ended = program.k8sddp("validate", *words, cwd=tmp_path)
    expected = "job.yaml is valid: digits, 2 nodes x 1 process = 2 ranks, gloo\n"
    assert (0, expected, "") == ended


def test_validate_goes_on_after_a_bad_file(tmp_path: Path) -> None:
    """Every file gets its answer; one bad file makes the exit code 2."""
    write(tmp_path)
    write(tmp_path, JOB.replace("nnodes", "nodes"), name="bad.yaml")
    ended = program.k8sddp("validate", "bad.yaml", "nope.yaml", "job.yaml", cwd=tmp_path)
    assert 2 == ended.code
    assert ended.err.startswith("error: bad.yaml has 1 problem\n  bad.yaml:7:3")
    assert "error: nope.yaml: there is no such file\n" in ended.err
    assert ended.out.startswith("job.yaml is valid: ")


def test_name_that_the_screen_cannot_show_is_escaped(tmp_path: Path) -> None:
    """A file is valid whatever the encoding of stdout; half a name is no reason for a traceback."""
    write(tmp_path, name="\u00fc.yaml")
    ended = program.k8sddp("validate", "\u00fc.yaml", cwd=tmp_path, env={"PYTHONIOENCODING": "ascii"})
    assert (0, "") == (ended.code, ended.err)
    assert ended.out.startswith("\\xfc.yaml is valid: ")


def test_stdin_is_read_and_named_in_problems() -> None:
    """`-` is stdin for every command that takes a file."""
    assert 0 == program.k8sddp("validate", "-", stdin=JOB.encode()).code
    ended = program.k8sddp("render", "-f", "-", stdin=JOB.replace("nnodes: 2", "nnodes: 0").encode())
    assert 2 == ended.code
    assert "  <stdin>:7:11  spec.nnodes: " in ended.err


def test_byte_order_mark_is_no_problem() -> None:
    """Editors on other systems write one."""
    assert 0 == program.k8sddp("validate", "-", stdin=b"\xef\xbb\xbf" + JOB.encode()).code


def test_render_prints_documents_and_nothing_else(tmp_path: Path) -> None:
    """stdout can be piped into kubectl; JSON is a List of the same objects."""
    write(tmp_path)
    yaml_form, json_form = (program.k8sddp("render", "job.yaml", "-o", form, cwd=tmp_path) for form in ("yaml", "json"))
    assert ("", "") == (yaml_form.err, json_form.err)
    kinds = [item["kind"] for item in json.loads(json_form.out)["items"]]
    assert ["Service", "ConfigMap", "NetworkPolicy", "Job"] == kinds
    assert kinds == [line.split('"')[1] for line in yaml_form.out.splitlines() if line.startswith("kind: ")]


def test_code_folder_is_found_beside_the_job_file(tmp_path: Path) -> None:
    """`code.path` is relative to job.yaml, not to where the command runs."""
    folder = tmp_path / "project"
    folder.mkdir()
    write(folder, JOB + "  code: {path: .}\n")
    (folder / "train.py").write_text("print(1)\n")
    ended = program.k8sddp("render", "project/job.yaml", "-o", "json", cwd=tmp_path)
    assert (0, "") == (ended.code, ended.err)
    assert "digits-code" in [item["metadata"]["name"] for item in json.loads(ended.out)["items"]]


def test_comment_in_the_job_file_is_no_change_of_the_code(tmp_path: Path) -> None:
    """A second apply compares digests; the file that names the folder is not part of it."""
    (tmp_path / "train.py").write_text("print(1)\n")
    text = JOB + "  code: {path: .}\n"
    digests = []
    for comment in ("", "# a comment\n"):
        write(tmp_path, text + comment)
        rendered = json.loads(program.k8sddp("render", "job.yaml", "-o", "json", cwd=tmp_path).out)
        digests.append(rendered["items"][-1]["metadata"]["annotations"]["k8sddp.dev/code-digest"])
    assert digests[0] == digests[1]


def test_code_folder_of_stdin_is_relative_to_the_current_folder(tmp_path: Path) -> None:
    """There is no file that it could be beside of."""
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "train.py").write_text("print(1)\n")
    text = (JOB + "  code: {path: src}\n").encode()
    assert 0 == program.k8sddp("validate", "-", stdin=text, cwd=tmp_path).code
