"""Two local runs at once on one machine: nothing of one is in the way of the other."""

from __future__ import annotations

import contextlib
import importlib.util
import subprocess
from pathlib import Path

import pytest

from tests import ports
from tests.local import jobs
from tests.unit.cli import program

pytestmark = [
    pytest.mark.torch,
    pytest.mark.skipif(
        importlib.util.find_spec("torch") is None, reason="torch is not installed: pip install 'k8sddp[torch]'"
    ),
    pytest.mark.usefixtures("nothing_left"),
]
# Each rank says that its group has formed, and goes on when the other run's ranks have said so too.
SCRIPT = """
import os, pathlib, time
import torch.distributed as dist
dist.init_process_group("gloo")
dist.barrier()
marks = pathlib.Path(MARKS)
(marks / (os.environ["NAME"] + os.environ["RANK"])).touch()
while len(list(marks.iterdir())) < 4: time.sleep(0.02)
dist.barrier()
dist.destroy_process_group()
"""


def test_two_runs_with_the_same_port_both_complete(tmp_path: Path) -> None:
    """The second one takes addresses and a MASTER_PORT that are free."""
    port = ports.free_for_a_job()
    marks = tmp_path / "marks"
    marks.mkdir()
    with contextlib.ExitStack() as stack:
        runs = []
        for name in ("one", "two"):
            lines = f"activeDeadlineSeconds: 200\n  env: {{NAME: {name}}}"
            folder = jobs.write(tmp_path / name, f"MARKS = {str(marks)!r}\n{SCRIPT}", port=port, lines=lines)
            command = [program.SCRIPTS / "k8sddp", "run", "--local", "job.yaml"]
            pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
            runs.append(stack.enter_context(subprocess.Popen(command, cwd=folder, **pipes)))  # type: ignore[call-overload]
        printed = [run.communicate(timeout=240)[0] for run in runs]
    assert [0, 0] == [run.returncode for run in runs], printed
