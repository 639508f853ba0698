"""What spec.command starts must be in the code folder, and Python."""

from pathlib import Path

import pytest

from k8sddp import errors
from k8sddp.cli import code_folder, scripts

FILES = {
    "main.py": b"print()",
    "src/deep/job.py": b"",
    "pkg/__init__.py": b"",
    "pkg/train.py": b"",
    "app/__main__.py": b"",
    "app/sub/x.py": b"",
    "run": b"#!/usr/bin/env python3\nprint()",
    "go": b"#!/bin/bash\npython main.py",
    "bin": b"\x7fELF\x02\x01",
}


def refusal(command, folder=Path("code")):
    """Return why `command` cannot be started from FILES, the empty string where it can."""
    try:
        scripts.check(folder, command, FILES, ignore_file=".k8sddpignore")
    except errors.CodeError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["main.py"],
        ["./main.py"],
        ["src/../main.py"],
        ["/app/train.py"],
        ["app"],
        ["run"],
        ["-m", "main"],
        ["-m", "pkg.train"],
        ["-m", "app"],
        ["-m", "src.deep.job"],
        ["-m", "cProfile", "main.py"],
        ["-m", "torch.utils.bottleneck", "main.py"],
        ["-m", "debugpy", "main.py"],
    ],
    ids=" ".join,
)
def test_what_is_there_or_is_the_images_is_taken(command):
    """Scripts, folders with __main__.py, modules with and without __init__.py; the standard library and its like."""
    assert "" == refusal(command)


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (
            ["train.py"],
            "train.py, which does not travel with code (the code folder lacks it); did you mean [pkg/train.py]?",
        ),
        (
            ["pkg/trian.py"],
            "pkg/trian.py, which does not travel with code (the code folder lacks it); did you mean [pkg/train.py]?",
        ),
        (
            ["job.py"],
            "job.py, which does not travel with code (the code folder lacks it); did you mean [src/deep/job.py]?",
        ),
        (
            ["../other.py"],
            "../other.py, which does not travel with code (the code folder lacks it); "
            "correct spec.command or spec.code.path",
        ),
        (
            ["train"],
            "train, which does not travel with code (the code folder lacks it); correct spec.command or spec.code.path",
        ),
        (
            ["-m", "pkg.eval"],
            "the module pkg.eval, which does not travel with code (the code folder lacks it); "
            "correct spec.command or spec.code.path",
        ),
        (
            ["-m", "deep.job"],
            "the module deep.job, which does not travel with code (the code folder lacks it); "
            "did you mean [src/deep/job.py]?",
        ),
        (["-m", "pkg"], "the package pkg, which has no __main__.py; name one of its modules"),
        (["-m", "app.sub"], "the package app.sub, which has no __main__.py; name one of its modules"),
        (["go"], "go, which is a script for /bin/bash, not Python; name the Python script that it starts"),
        (["./bin"], "./bin, which is a program, not Python; name the Python script that it starts"),
    ],
    ids=lambda value: " ".join(value)[:30] if isinstance(value, list) else "",
)
def test_what_cannot_be_started_is_named_with_a_remedy(command, expected):
    """Before anything starts, instead of in every attempt."""
    assert f"spec.command names {expected}" == refusal(command)


@pytest.mark.parametrize("command", [["old.py"], ["-m", "old"]], ids=" ".join)
def test_what_is_ignored_is_told_from_what_is_missing(tmp_path, command):
    """The file is there for the eye."""
    for name in ("main.py", "old.py"):
        (tmp_path / name).touch()
    (tmp_path / ".k8sddpignore").write_text("old.py\n")
    with pytest.raises(errors.CodeError, match=r"it is there, but ignored: see \.k8sddpignore"):
        code_folder.read(tmp_path, command=command)
