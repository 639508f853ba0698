"""What the container's environment wants of Python is for the ranks: the worker ends with the code that it has decided.

The worker is an ordinary Python program and PID 1, so it gets every PYTHON variable that the job gives to its ranks.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from k8sddp.render import bundle
from tests import ports
from tests.unit.worker import workers

INSPECT = {"PYTHONINSPECT": "1"}  # sys.exit does not exit
WARNINGS = {"PYTHONWARNINGS": "error"}  # every warning is raised
OTHERS = {
    "PYTHONDEVMODE": "1",
    "PYTHONOPTIMIZE": "2",  # no assert
    "PYTHONSAFEPATH": "1",
    "PYTHONNOUSERSITE": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONUNBUFFERED": "1",
    "PYTHONFAULTHANDLER": "1",
    "PYTHONTRACEMALLOC": "1",
    "PYTHONMALLOC": "malloc",
    "PYTHONHASHSEED": "0",
    "PYTHONIOENCODING": "ascii:strict",
    "PYTHONUTF8": "1",
    "PYTHONBREAKPOINT": "0",
    "PYTHONSTARTUP": "/nowhere",
    "PYTHONPROFILEIMPORTTIME": "1",
    "PYTHONASYNCIODEBUG": "1",
}


def run(tmp_path: Path, words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run the zip file as a pod of one rank does, with stdin as a pod has it."""
    folder = tmp_path / "pod"
    (folder / "tmp").mkdir(parents=True)
    (tmp_path / "worker.pyz").write_bytes(bundle.worker_zip())
    (tmp_path / "train.py").write_text(f"import os\nos.write(1, b'\\xc3\\xa9 trains\\n')\n{words}\n")
    env = workers.make_env(0, folder, ports.free_for_a_job(), K8SDDP_LAUNCHER="direct", **environ)
    env["PYTHONPATH"] = str(workers.FAKE_TORCH)
    return subprocess.run(
        [workers.PYTHON, "worker.pyz", "train.py"],
        cwd=tmp_path,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("environ", [INSPECT, WARNINGS, OTHERS], ids=["inspect", "warnings", "others"])
@pytest.mark.parametrize("code", [0, 3])
def test_no_variable_of_pythons_changes_the_exit_code(tmp_path: Path, environ: dict[str, str], code: int) -> None:
    """Nor the log: the last line is the verdict, and nothing of ours warns."""
    done = run(tmp_path, f"os._exit({code})", **environ)
    lines = done.stdout.splitlines()
    assert (code, True) == (done.returncode, lines[-1].endswith(f"(exit {code})")), done
    assert "[rank 0] é trains" in lines
    assert [] == [line for line in done.stderr.splitlines() if not line.startswith("import time:")]


def test_the_ranks_have_the_variables(tmp_path: Path) -> None:
    """They are the user's, and what they do to a rank is what they do without us."""
    words = "import sys\nprint('has', os.environ['PYTHONINSPECT'], sys.warnoptions, flush=True)\nos._exit(0)"
    done = run(tmp_path, words, PYTHONINSPECT="1", PYTHONWARNINGS="error")
    assert "[rank 0] has 1 ['error']\n" in done.stdout


def test_a_stdout_that_nobody_reads_does_not_change_it_either(tmp_path: Path) -> None:
    """Python itself would end with 120, because it cannot flush."""
    (tmp_path / "worker.pyz").write_bytes(bundle.worker_zip())
    command = f"{workers.PYTHON} worker.pyz train.py >&- 2>&-; echo $?"
    done = subprocess.run(["sh", "-c", command], cwd=tmp_path, env={}, capture_output=True, text=True, check=False)
    assert "78\n" == done.stdout
