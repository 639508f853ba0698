"""k8sddp_report: what a script tells of itself, from the import in a user's program to /status."""

from __future__ import annotations

import json
import math
import os
import subprocess
from pathlib import Path

import pytest

from k8sddp.render import bundle
from k8sddp.worker import main
from k8sddp.worker.gang import progress
from k8sddp.worker.instrument import k8sddp_report
from k8sddp.worker.ranks import reported
from tests.unit.worker import workers
from tests.unit.worker.test_instrument import Ranks, run

IMPORT = "import k8sddp_report as one\n"
SELDOM = "one.INTERVAL = 1000\n"  # seconds: a loaded machine may take one for anything


def told(tmp_path: Path, words: str) -> tuple[list[dict[str, object]], str]:
    """Return the reports of a rank that runs `words`, and what it has printed."""
    with Ranks(tmp_path / "ranks") as ranks:
        done = run(IMPORT + SELDOM + words, ranks.env)
        events, output = ranks.events(), ranks.output()
    assert 0 == done.returncode, output + done.stderr
    return [event for event in events if event["event"] == "report"], output


def test_a_script_reports_at_once_and_then_the_newest_at_its_end(tmp_path: Path) -> None:
    """However often it does so; what a call leaves out stays."""
    (first, last), output = told(
        tmp_path,
        "one.report(total_steps=100)\n"
        "for step in range(50):\n    one.report(step=step, loss=1 / (step + 1), lr=0.1)\n"
        "one.report(loss=float('nan'))",
    )
    assert (3, 100, None) == (first["rank"], first["total_steps"], first.get("step"))
    assert (49, 100, 0.1) == (last["step"], last["total_steps"], last["metric lr"])
    assert (True, "") == (math.isnan(float(str(last["loss"]))), output)


def test_a_tensor_is_read_once_a_second_at_most(tmp_path: Path) -> None:
    """Reading one waits for the GPU; its graph is not kept, and at the end one that a GPU holds is not waited for."""
    words = """
class Tensor:
    read, is_cpu = [], False
    def detach(self):
        return self
    def __float__(self):
        self.read.append(1)
        return 0.5
for _ in range(1000):
    one.report(loss=Tensor(), step=7)
print(len(Tensor.read), flush=True)
"""
    reports, output = told(tmp_path, words)
    assert [(0.5, 7), (None, 7)] == [(event.get("loss"), event["step"]) for event in reports]
    assert "1\n" == output


def test_after_the_interval_the_next_call_reports(tmp_path: Path) -> None:
    """One second, as shipped."""
    reports, _ = told(tmp_path, "one.INTERVAL = 0\nfor step in range(3):\n    one.report(step=step)")
    assert ([0, 1, 2], 1.0) == ([event["step"] for event in reports], k8sddp_report.INTERVAL)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("loss='low'", "loss is left out: 'low' is no number"),
        ("step=1.5", "step is left out: 1 is no whole number from 0 to 2**53"),
        ("step=-1", "step is left out"),
        ("loss=[1, 2]", "loss is left out: float()"),
        ("**{'m%d' % n: n for n in range(17)}", "m16 is left out: 16 metrics are the most"),
        ("**{'x' * 65: 1}", "its name must be ASCII, of at most 64 characters"),
        ("**{'\\u00e9': 1}", "its name must be ASCII"),
    ],
)
def test_what_cannot_be_taken_is_left_out_and_said_once(tmp_path: Path, call: str, said: str) -> None:
    """Nothing is raised inside a training, and the rest of the report goes."""
    (report, _), output = told(tmp_path, f"one.report({call}, total_steps=9)\n" * 2 + "one.report(total_steps=10)")
    assert (9, 1) == (report["total_steps"], output.count("left out")), output
    assert said in output
    assert set(report) <= {"event", "pid", "rank", "total_steps", *(f"metric m{n}" for n in range(16))}


def test_the_longest_report_is_written_in_one_piece(tmp_path: Path) -> None:
    """PIPE_BUF is what a pipe takes from several ranks without mixing them."""
    names = "**{chr(97 + n) * 64: -1.2345678901234567e-300 for n in range(16)}"
    (report,), _ = told(tmp_path, f"one.report(step=2**53, total_steps=2**53, loss=1/3, {names})")
    assert 16 == sum(key.startswith("metric ") for key in report)
    assert len(json.dumps(report)) < 4096


def test_a_full_pipe_delays_no_step(tmp_path: Path) -> None:
    """The worker is stopped, or slow: the report is not written, and the script goes on."""
    words = """
import os
fd = os.open(os.environ["K8SDDP_RANK_DIR"] + "/events", os.O_WRONLY | os.O_NONBLOCK)
try:
    while True:
        os.write(fd, b"x" * 4096)
except BlockingIOError:
    pass
one.report(step=1)
print("goes on", flush=True)
"""
    with Ranks(tmp_path / "ranks") as ranks:
        assert 0 == run(IMPORT + words, ranks.env).returncode
        assert "goes on\n" == ranks.output()


@pytest.mark.parametrize(
    "environ",
    [
        pytest.param({"RANK": "0", "LOCAL_RANK": "0"}, id="no job"),
        pytest.param({"K8SDDP_RANK_DIR": "/nowhere", "K8SDDP_RANK_PID": "1"}, id="below a rank"),
    ],
)
def test_elsewhere_it_does_nothing(environ: dict[str, str]) -> None:
    """As the module that an installed k8sddp has at the top, which knows of no worker; should_stop is reserved."""
    folder = Path(k8sddp_report.__file__).parent
    words = f"import sys\nsys.path.append({str(folder)!r})\n{IMPORT}print(one.report(step=1), one.should_stop())"
    done = run(words, environ)
    assert ("None False\n", "", 0) == (done.stdout, done.stderr, done.returncode)


def test_a_rank_that_is_forked_reports_nothing(tmp_path: Path) -> None:
    """A DataLoader's worker is not the rank, at its end neither."""
    words = "one.report(step=1)\none.report(step=2)\nimport os\n"
    reports, _ = told(tmp_path, words + "if os.fork() == 0:\n    one.report(step=3)\nelse:\n    os.wait()")
    assert [1, 2] == [event["step"] for event in reports]


def test_it_is_found_in_the_zip_and_before_another_one(tmp_path: Path) -> None:
    """A pod has only the zip, and an image with k8sddp in it may have another version's."""
    (tmp_path / "worker.pyz").write_bytes(bundle.worker_zip())
    (tmp_path / "k8sddp_report.py").write_text("raise RuntimeError('another version')")
    inside = f"{tmp_path}/worker.pyz/k8sddp/worker/instrument"
    with Ranks(tmp_path / "ranks") as ranks:
        env = {**ranks.env, "PATH": os.environ["PATH"], "PYTHONPATH": f"{inside}{os.pathsep}{tmp_path}"}
        words = IMPORT + "one.report(step=5)\nprint(one.__file__, flush=True)"
        subprocess.run([workers.PYTHON, "-c", words], env=env, check=True, timeout=30)
        assert f"{inside}/k8sddp_report.py\n" == ranks.output()
        assert [5] == [event["step"] for event in ranks.events() if event["event"] == "report"]


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"step": 3, "total_steps": 9, "loss": 0.5, "metric lr": 1}, reported.Reported(7, 3, 9, 0.5, (("lr", 1.0),))),
        ({"step": True, "total_steps": "9", "loss": None, "metric lr": "x"}, reported.Reported(7)),
        ({"step": -1, "total_steps": 2**60, "loss": 10**400, "other": 1}, reported.Reported(7)),
        ({"metric " + "x" * 65: 1, "metric a\nb": 2}, reported.Reported(7)),
        ({"loss": math.inf}, reported.Reported(7, loss=math.inf)),
    ],
    ids=["all", "types", "sizes", "names", "infinite"],
)
def test_the_worker_takes_what_is_a_report(record: dict[str, object], expected: reported.Reported) -> None:
    """A script can write anything into the pipe."""
    assert expected == reported.of(7, record)


def test_more_than_16_metrics_are_not_kept() -> None:
    """However a script has written them."""
    assert 16 == len(reported.of(7, {f"metric {n}": n for n in range(50)}).metrics)


def test_a_report_is_of_the_process_that_counts() -> None:
    """The next process of a rank has reported nothing yet."""
    report = reported.Reported(7, 3, 9, 0.5)
    assert 3 == report.added_to(progress.Rank(0, pid=7)).reported_step
    assert progress.Rank(0, pid=8) == report.added_to(progress.Rank(0, pid=8))


SCRIPT = """
import os, time
from k8sddp_report import report
report(step=40, total_steps=100, loss=float("nan"), lr=0.1)
print("up", flush=True)
while not os.path.exists("end"):
    time.sleep(0.01)
"""


@pytest.mark.parametrize("launcher", ["direct", "torchrun"])
def test_status_has_what_a_script_reports(tmp_path: Path, launcher: str) -> None:
    """In an image without k8sddp; a loss that JSON has no number for is a word."""
    with workers.Gang(tmp_path, SCRIPT, launcher=launcher).start() as gang:
        (pod,) = gang.pods
        pod.wait_for("] up")
        (rank,) = json.loads(gang.get("/status")[1])["ranks"]
        names = ("reported_step", "total_steps", "loss", "metrics")
        assert (40, 100, "nan", {"lr": 0.1}) == tuple(rank[name] for name in names)
        (tmp_path / "end").touch()
        assert 0 == pod.wait()


def test_an_installed_k8sddp_has_it_at_the_top() -> None:
    """The wheel's table names the file that travels; `make wheel-test` imports it."""
    text = (Path(main.__file__).parents[2] / "pyproject.toml").read_text()
    source = str(Path(k8sddp_report.__file__).relative_to(Path(main.__file__).parents[2]))
    assert f'"{source}" = "k8sddp_report.py"\n' in text
