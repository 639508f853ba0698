"""What a script writes in a local run, and the paths that it sees and that the user reads."""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path

import pytest

from tests.local import pods
from tests.local.test_local_readers import Started
from tests.unit.cli import program

needs_torch = [
    pytest.mark.torch,
    pytest.mark.skipif(
        importlib.util.find_spec("torch") is None, reason="torch is not installed: pip install 'k8sddp[torch]'"
    ),
]
pytestmark = pytest.mark.usefixtures("nothing_left")

# What multiprocessing does for a manager and a DataLoader: 32 bytes below TMPDIR. And the longest that /tmp allows, all
# but what keeps two pods apart.
SOCKETS = """
import multiprocessing, os, socket, tempfile
manager = multiprocessing.Manager()
with socket.socket(socket.AF_UNIX) as server:
    server.bind(os.path.join(tempfile.gettempdir(), "x" * 92))
print(multiprocessing.Value("i", 7).value, manager.dict(a=1)["a"], os.environ["TMPDIR"])
manager.shutdown()
"""
WRITES = """
import os, pathlib, tempfile
if os.environ["RANK"] == "0":
    pathlib.Path("out").mkdir()
    pathlib.Path("out/model.pt").write_bytes(b"x" * 2048)
    pathlib.Path(tempfile.gettempdir(), "metrics.json").write_text("{}")
"""


def test_unix_sockets_in_a_pods_tmp_have_room(tmp_path: Path) -> None:
    """Also where the user's own TMPDIR leaves little."""
    run = pods.Run(tmp_path)
    assert len(os.environ["TMPDIR"]) > 50

    result = run(SOCKETS)

    assert ("complete", True) == (result.state, run.printed.startswith(b"7 1 ")), run.printed


class TestWithTheWorker:
    """Code that is unpacked by it."""

    pytestmark = needs_torch

    def test_new_files_are_kept_and_named(self, tmp_path: Path) -> None:
        """Under .k8sddp/NAME, those of one run before too; the next run does not pack them."""
        run = Started(tmp_path, WRITES)
        for _ in range(2):
            ended = program.k8sddp("run", "--local", "job.yaml", cwd=run.folder)
            assert 0 == ended.code, ended.err
            assert "kept: .k8sddp/small/files/small-0: out/model.pt (2.0 KiB)\n" in ended.err
            assert "kept: .k8sddp/small/files/small-0.tmp: metrics.json (2 bytes)\n" in ended.err
            assert "read-1" not in ended.err
        kept = {str(path.relative_to(run.folder)) for path in run.folder.rglob("*") if path.is_file()}
        assert {"train.py", "job.yaml", ".k8sddp/small/.gitignore"} == {path for path in kept if "/files" not in path}
        assert {
            f".k8sddp/small/{of}/small-0{name}"
            for of in ("files", "files.old")
            for name in ("/out/model.pt", ".tmp/metrics.json")
        } == {path for path in kept if "/files" in path}

    def test_a_run_that_writes_nothing_leaves_nothing(self, tmp_path: Path) -> None:
        """No folder for its own sake."""
        run = Started(tmp_path, "print(1)")
        assert 0 == program.k8sddp("run", "--local", "job.yaml", cwd=run.folder).code
        assert ["job.yaml", "train.py"] == sorted(path.name for path in run.folder.iterdir())

    @pytest.mark.parametrize("terminal", [False, True], ids=["piped", "on a terminal"])
    def test_a_remark_is_said_once_for_each_reader(self, tmp_path: Path, *, terminal: bool) -> None:
        """Node 0's line is in its log, and where that is not on the screen the warning at the end is."""
        run = Started(tmp_path, "print(1)")
        if terminal:
            master, slave = os.openpty()
            with run.process(slave, stderr=slave) as process:
                os.close(slave)
                assert 0 == process.wait(60)
            with open(master, "rb", buffering=0) as screen:  # noqa: PTH123
                assert 1 == screen.read(65536).count(b"no rank joined a process group")
        else:
            ended = program.k8sddp("run", "--local", "job.yaml", cwd=run.folder)
            assert (1, 1) == tuple(text.count("no rank joined a process group") for text in (ended.out, ended.err))

    def test_files_of_a_run_without_a_reader_are_kept_and_named(self, tmp_path: Path) -> None:
        """A pager that was left takes no model with it."""
        run = Started(tmp_path, WRITES + "import time\nprint('tick', flush=True)\ntime.sleep(600)")
        read, write = os.pipe()
        with run.process(write) as process:
            os.close(write)
            with open(read, "rb") as lines:  # noqa: PTH123
                while b"[rank 0] tick" not in lines.readline():
                    pass
            said = run.assert_ended(process, 141)
        assert "kept: .k8sddp/small/files/small-0: out/model.pt (2.0 KiB)\n" in said

    def test_an_error_names_the_users_file(self, tmp_path: Path) -> None:
        """In the rank's traceback and in the sentence at the end; the copy in the pod's folder is nobody's to mend."""
        run = Started(tmp_path, "import helper\nhelper.fail()", lines="restart: {maxAttempts: 1}")
        (run.folder / "helper.py").write_text("def fail():\n    raise ValueError(__file__)\n")
        ended = program.k8sddp("run", "--local", "job.yaml", cwd=run.folder)
        assert 1 == ended.code
        helper = json.dumps(str(run.folder / "helper.py"))
        assert f"]   File {helper}, line 2, in fail\n" in ended.out
        assert f"raised ValueError: {run.folder / 'helper.py'}" in ended.err.splitlines()[-1]
        assert ".k8sddp" not in ended.out + ended.err
