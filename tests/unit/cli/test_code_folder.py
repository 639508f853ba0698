"""The code folder: what travels, what is ignored, and every reason why it cannot, at once."""

import os
import socket
import subprocess

import pytest

from k8sddp import errors
from k8sddp.cli import code_folder
from k8sddp.render.bundle import CodeFile


def make_folder(root, files, *, ignore=None):
    """Return `root` filled with `files` (name -> text), and its ignore file."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    if ignore is not None:
        (root / code_folder.IGNORE_FILE).write_text(ignore)
    return root


def names(folder):
    """Return the names that travel."""
    return [file.name for file in code_folder.read(folder)]


def refusal(folder, **options):
    """Return the message of the refusal."""
    with pytest.raises(errors.CodeError) as caught:
        code_folder.read(folder, **options)
    return str(caught.value)


def test_files_travel_with_name_content_and_executable_bit(tmp_path):
    """Names are relative with forward slashes, sorted; contents are bytes."""
    make_folder(tmp_path, {"train.py": "x", "a/b/run.sh": "y", "\u00fc \U0001f600": ""})
    (tmp_path / "a/b/run.sh").chmod(0o755)
    expected = (
        CodeFile("a/b/run.sh", b"y", True),
        CodeFile("train.py", b"x", False),
        CodeFile("\u00fc \U0001f600", b"", False),
    )
    assert expected == code_folder.read(tmp_path)


@pytest.mark.parametrize(
    ("command", "travels"),
    [
        pytest.param(["train.py"], ["other.yaml", "train.py"], id="not named"),
        pytest.param(["train.py", "./job.yaml"], ["job.yaml", "other.yaml", "train.py"], id="an argument"),
        pytest.param(["train.py", "--spec=job.yaml"], ["job.yaml", "other.yaml", "train.py"], id="behind ="),
    ],
)
def test_job_file_stays_unless_the_command_names_it(tmp_path, command, travels):
    """A comment in job.yaml changes nothing that a rank can see; other files of its kind are the user's."""
    make_folder(tmp_path, {"train.py": "x", "job.yaml": "# a comment", "other.yaml": "y"})
    files = code_folder.read(tmp_path, command=command, job_file=tmp_path / "job.yaml")
    assert travels == [file.name for file in files]


def test_job_file_stays_under_every_name(tmp_path):
    """The file may be named through a link; one elsewhere, or a pipe that is gone, is nobody's."""
    make_folder(tmp_path / "code", {"train.py": "x", "job.yaml": "y"})
    (tmp_path / "link.yaml").symlink_to("code/job.yaml")
    files = code_folder.read(tmp_path / "code", job_file=tmp_path / "link.yaml")
    assert ["train.py"] == [file.name for file in files]
    files = code_folder.read(tmp_path / "code", job_file=tmp_path / "gone")
    assert ["job.yaml", "train.py"] == [file.name for file in files]


def test_folders_in_folders_without_end_are_refused(tmp_path):
    """What Python cannot walk is a sentence, not a RecursionError."""
    make_folder(tmp_path, {"a/" * code_folder.MAX_DEPTH + "train.py": "x"})
    assert 1 == len(names(tmp_path))
    make_folder(tmp_path, {"b/" * (code_folder.MAX_DEPTH + 1) + "train.py": "x"})
    assert f": lies in more than {code_folder.MAX_DEPTH} folders" in refusal(tmp_path)


def test_folder_may_be_a_link_or_relative(tmp_path, monkeypatch):
    """The folder itself is named in any way; only what is in it must not lead out."""
    make_folder(tmp_path / "real", {"train.py": "x"})
    (tmp_path / "link").symlink_to("real")
    monkeypatch.chdir(tmp_path)
    assert ["train.py"] == names(tmp_path / "link")
    assert ["train.py"] == names(code_folder.Path("real"))


@pytest.mark.parametrize(
    "name",
    [
        ".git/config",
        "venv/bin/python",
        "a/__pycache__/x.pyc",
        "a/x.pyc",
        "node_modules/x/y.js",
        ".DS_Store",
        ".k8sddp/x",
    ],
)
def test_what_no_training_needs_is_ignored(tmp_path, name):
    """Version control, environments and caches stay at home."""
    assert ["train.py"] == names(make_folder(tmp_path, {"train.py": "", name: ""}))


PATTERNS = {
    "name at any depth": ("*.log", ["a.py", "d/a.py", "d/e/a.py", "logs/x.py"]),
    "from the top": ("/a.py", ["a.log", "d/a.log", "d/a.py", "d/e/a.py", "logs/x.py"]),
    "path is from the top": ("d/a.*", ["a.log", "a.py", "d/e/a.py", "logs/x.py"]),
    "folder": ("e/", ["a.log", "a.py", "d/a.log", "d/a.py", "logs/x.py"]),
    "folder pattern spares a file": ("a.py/", ["a.log", "a.py", "d/a.log", "d/a.py", "d/e/a.py", "logs/x.py"]),
    "star stays within a name": ("d*.py", ["a.log", "a.py", "d/a.log", "d/a.py", "d/e/a.py", "logs/x.py"]),
    "two stars do not": ("d/**/a.py", ["a.log", "a.py", "d/a.log", "logs/x.py"]),
    "everything below": ("d/**", ["a.log", "a.py", "logs/x.py"]),
    "question mark and class": ("?.[k-m]og", ["a.py", "d/a.py", "d/e/a.py", "logs/x.py"]),
    "class with not": ("a.[!p]*", ["a.py", "d/a.py", "d/e/a.py", "logs/x.py"]),
    "last one decides": ("*.py\n!/a.py", ["a.log", "a.py", "d/a.log"]),
    "order matters": ("!/a.py\n*.py", ["a.log", "d/a.log"]),
    "comments and blanks": ("# *.py\n\n  \n*.log  \r", ["a.py", "d/a.py", "d/e/a.py", "logs/x.py"]),
    "a dot is a dot": ("a?py\na.l.g", ["a.log", "d/a.log", "logs/x.py"]),
}


@pytest.mark.parametrize(("ignore", "expected"), PATTERNS.values(), ids=PATTERNS.keys())
def test_ignore_file_follows_gitignore(tmp_path, ignore, expected):
    """The documented part of .gitignore's rules."""
    files = dict.fromkeys(["a.log", "a.py", "d/a.log", "d/a.py", "d/e/a.py", "logs/x.py"], "")
    assert expected == names(make_folder(tmp_path, files, ignore=ignore))


def test_a_default_can_be_taken_back(tmp_path):
    """`!venv` in the ignore file lets a folder of that name travel."""
    assert ["venv/a.py"] == names(make_folder(tmp_path, {"venv/a.py": ""}, ignore="!venv\n"))


def test_a_pattern_that_is_none_is_named_with_its_line(tmp_path):
    """A range from z to a is nobody's intention."""
    make_folder(tmp_path, {"a.py": ""}, ignore="*.log\n[z-a]\n")
    assert f"{tmp_path}/.k8sddpignore:2: `[z-a]` is not a pattern" in refusal(tmp_path)


def test_links_inside_the_folder_travel_as_what_they_point_to(tmp_path):
    """A file twice, a folder twice; the links of a typical data set."""
    make_folder(tmp_path, {"lib/a.py": "A"})
    (tmp_path / "b.py").symlink_to("lib/a.py")
    (tmp_path / "also").symlink_to("lib")
    assert [("also/a.py", b"A"), ("b.py", b"A"), ("lib/a.py", b"A")] == [
        file[:2] for file in code_folder.read(tmp_path)
    ]


def test_everything_that_cannot_travel_is_named_at_once(tmp_path):
    """Links out, links to nowhere, circles, pipes, sockets, devices: one message, one line each, nothing is read."""
    folder = make_folder(tmp_path / "code", {"train.py": "", "sub/x.py": ""})
    (tmp_path / "secret").write_text("s")
    (folder / "out").symlink_to("../secret")
    (folder / "out-folder").symlink_to(tmp_path)
    (folder / "device").symlink_to("/dev/null")
    (folder / "gone").symlink_to("nowhere")
    (folder / "self").symlink_to("self")
    (folder / "sub/up").symlink_to("..")
    os.mkfifo(folder / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "socket"))
        text = refusal(folder)
    assert text.startswith(f"{folder}: 8 entries cannot travel; mend it, or name it in .k8sddpignore:\n")
    assert [
        "device: the link leads out of the folder (/dev/null)",
        "gone: the link leads nowhere (nowhere)",
        "out-folder: the link leads out of the folder",
        "out: the link leads out of the folder (../secret)",
        "pipe: is a named pipe, not a file",
        "self: the link leads to itself",
        "socket: is a socket, not a file",
        "sub/up: the link leads back to a folder that it lies in (..)",
    ] == [line.strip().removesuffix(f" ({tmp_path})") for line in text.splitlines()[1:]]


def test_circles_of_two_links_are_found(tmp_path):
    """Two folders that contain links to each other would never end."""
    make_folder(tmp_path, {"a/x.py": "", "b/y.py": ""})
    (tmp_path / "a/b").symlink_to("../b")
    (tmp_path / "b/a").symlink_to("../a")
    assert 2 == refusal(tmp_path).count("the link leads back to a folder that it lies in")


def test_what_is_ignored_is_not_checked(tmp_path):
    """A link out that is ignored is nobody's business."""
    make_folder(tmp_path, {"train.py": ""}, ignore="out\n")
    (tmp_path / "out").symlink_to("/etc")
    assert ["train.py"] == names(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file: run the tests as another user")
def test_an_unreadable_file_is_named(tmp_path):
    """The reason is the operating system's."""
    make_folder(tmp_path, {"train.py": "", "locked": ""})
    (tmp_path / "locked").chmod(0)
    assert "\n  locked: cannot be read (Permission denied)" in refusal(tmp_path)


def test_a_name_that_is_not_utf8_is_named(tmp_path):
    """A zip's names are UTF-8."""
    make_folder(tmp_path, {"train.py": ""})
    os.mknod(os.fsencode(tmp_path) + b"/\xff.txt")
    assert "\n  ?.txt: the name is not UTF-8" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda path: None, "no such folder; spec.code.path is relative to job.yaml"),
        (lambda path: path.write_text(""), "is a file; spec.code.path names the folder that travels"),
        (lambda path: path.symlink_to(path), "the folder cannot be read"),
        (lambda path: path.mkdir(), "holds no file that travels"),
        (lambda path: make_folder(path, {".git/x": ""}), "holds no file that travels"),
    ],
    ids=["missing", "file", "link to itself", "empty", "all ignored"],
)
def test_what_is_no_code_folder_is_refused_in_a_sentence(tmp_path, make, expected):
    """Where, and what to do."""
    make(tmp_path / "code")
    text = refusal(tmp_path / "code")
    assert text.startswith(f"{tmp_path}/code: {expected}")
    assert 1 == len(text.splitlines())


def test_a_hopeless_folder_is_refused_before_anything_is_read(tmp_path):
    """Sparse files: reading them would show; the biggest are named."""
    make_folder(tmp_path, {"train.py": ""})
    for number in range(3):
        with (tmp_path / f"data{number}.bin").open("wb") as file:
            file.truncate(30 * 1024**2 + number)
    text = refusal(tmp_path)
    assert "holds more than 64 MiB, the limit is 900 KiB packed; name in .k8sddpignore what need not travel" in text
    assert "\n      30.0 MiB  data2.bin\n" in text


def test_too_many_files_are_refused(tmp_path):
    """A data set of small files is no code either."""
    for number in range(code_folder.MAX_FILES + 1):
        os.mknod(tmp_path / str(number))
    assert "holds more than 10000 files" in refusal(tmp_path)


GIT_PATTERNS = [
    "a b",
    "\\#c",
    "#c",
    "\\!d",
    "e\\ ",
    "f ",
    "*",
    "*\n!*.py\n!*/",
    "d/*\n!d/a.py",
    "**/a.py",
    "d/**/x",
    "/*\n!/d\n/d/*\n!/d/e",
    "[!a]*.py",
    "*.[ch]\nd/**",
    "D/A.PY",
]


@pytest.mark.parametrize("ignore", GIT_PATTERNS)
def test_ignore_file_is_read_as_git_reads_it(tmp_path, ignore):
    """git itself is asked about every file."""
    files = ["a b", "#c", "!d", "e ", "f", "f.c", "a.py", "d/a.py", "d/x", "d/e/x", "d/e/a.py", "d/e/f/x"]
    folder = make_folder(tmp_path, dict.fromkeys([*files, "zz.py"], ""), ignore=ignore)
    (folder / ".gitignore").write_text(ignore)
    subprocess.run(["git", "init", "-q", folder], check=True)
    asked = ["git", "-c", "core.quotePath=off", "-C", folder, "ls-files", "-z", "--others", "--exclude-standard"]
    listed = subprocess.run(asked, check=True, capture_output=True, text=True).stdout.split("\0")
    expected = sorted(set(listed) - {"", ".gitignore", ".k8sddpignore"})
    if expected:
        assert expected == [name for name in names(folder) if name != ".gitignore"]
    else:
        assert "holds no file that travels" in refusal(folder)
