"""The live line of `run --local` on a real terminal: it moves, keeps out of the way of every line, and leaves nothing.

Real ranks with real steps, through the installed program.
"""

from __future__ import annotations

import importlib.util
import re
import signal
from pathlib import Path

import pytest

from tests.local import pods
from tests.local.screens import environment, own_terminal, terminal
from tests.local.test_local_readers import Started

pytestmark = [
    pytest.mark.torch,
    pytest.mark.skipif(
        importlib.util.find_spec("torch") is None, reason="torch is not installed: pip install 'k8sddp[torch]'"
    ),
    pytest.mark.usefixtures("nothing_left"),
]
TRAINS = """
import sys, time
import torch
import torch.distributed as dist
dist.init_process_group("gloo")
rank = dist.get_rank()
model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(4, 4))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(STEPS):
    model(torch.ones(1, 4)).sum().backward()
    optimizer.step()
    if rank == 0:
        sys.stderr.write(f"\\r{step}|##|"); sys.stderr.flush()
    else:
        print("line", step, flush=True)
    time.sleep(0.1)
sys.stderr.write("\\n")
dist.destroy_process_group()
"""
STEP = re.compile(rb"attempt 0  step (\d+)")


def trains(steps: int) -> str:
    """Return a script of so many steps."""
    return TRAINS.replace("STEPS", str(steps))


def test_steps_are_shown_while_they_are_made_and_every_line_is_whole(tmp_path: Path) -> None:
    """One rank prints, one has a progress bar; at the end the lines and the verdict are on the screen, nothing else."""
    run = Started(tmp_path, trains(100))
    with terminal() as (screen, written), run.process(written, stderr=written, env=environment()) as process:
        screen.close_ours()
        rows = screen.rest()
        run.assert_ended(process, 0)
    steps = [int(one) for one in STEP.findall(screen.seen)]
    assert steps == sorted(steps)
    assert 0 < steps[0] < 100
    assert [f"[rank 1] line {step}" for step in range(100)] == [row for row in rows if row.startswith("[rank 1] line")]
    assert re.search(rb"\[rank 0\] \d+\|##\|\r+\n\S* attempt 0  step \d+", screen.seen)  # the bar above, the row
    assert re.fullmatch(r"small complete in [\d.]+ s", rows[-1])
    assert not [row for row in rows if "attempt 0  step" in row or "waiting for node 0" in row]


def test_control_c_leaves_the_terminal_clean(tmp_path: Path) -> None:
    """The live line is gone, each line is whole, the cursor stands below the last one and nothing is hidden."""
    run = Started(tmp_path, trains(10000))
    with (
        terminal() as (screen, written),
        run.process(
            written, stdin=written, stderr=written, env=environment(), start_new_session=True, preexec_fn=own_terminal
        ) as process,
    ):
        screen.close_ours()
        screen.until(STEP)
        screen.type(b"\x03")
        rows = screen.rest()
        run.assert_ended(process, 130)
    assert [] == pods.alive(run.mark)
    assert "SIGINT: stopping 2 pods within 5 s; once more kills" in rows
    assert rows[-1].startswith("small interrupted by SIGINT")
    assert not [row for row in rows if "attempt 0  step" in row]
    assert screen.seen.endswith(b"\r\n")
    assert b"\x1b[?" not in screen.seen  # no mode of the terminal was changed


def test_a_terminal_that_shrinks_loses_no_line(tmp_path: Path) -> None:
    """The next row is as narrow as the terminal is by then."""
    run = Started(tmp_path, trains(100))
    with terminal() as (screen, written), run.process(written, stderr=written, env=environment()) as process:
        screen.until(STEP)
        screen.resize(15)
        screen.close_ours()
        before = len(screen.seen)
        rows = screen.rest()
        run.assert_ended(process, 0)
    assert [f"[rank 1] line {step}" for step in range(100)] == [row for row in rows if row.startswith("[rank 1] line")]
    drawn = [row.decode() for row in re.findall(rb"\x1b\[K[^\r\n]*m (attempt[^\r\n]*)", screen.seen[before:])]
    narrow = "attempt 0  …"
    assert narrow in drawn
    assert {narrow} == set(drawn[drawn.index(narrow) :])  # those before were under way


def test_a_terminal_that_is_stopped_does_not_hold_the_end_up(tmp_path: Path) -> None:
    """Ctrl-S: nothing can be written any more, rows neither, and SIGTERM ends every rank all the same."""
    run = Started(tmp_path, "while True: print('x' * 1000, flush=True)")
    with terminal() as (screen, written), run.process(written, stderr=written, env=environment()) as process:
        screen.close_ours()
        screen.until(re.compile(rb"x{1000}"))
        pods.until(screen.is_full, seconds=60)
        process.send_signal(signal.SIGTERM)
        assert 143 == process.wait(60)
    assert [] == pods.alive(run.mark)


@pytest.mark.parametrize("changed", [{"TERM": "dumb"}, {"CI": "true"}], ids=["a dumb terminal", "CI"])
def test_without_a_live_line_no_escape_is_written(tmp_path: Path, changed: dict[str, str]) -> None:
    """Plain lines only, whatever reads them later."""
    run = Started(tmp_path, "print('line')")
    env = {**environment(), "NO_COLOR": "1", **changed}
    with terminal() as (screen, written), run.process(written, stderr=written, env=env) as process:
        screen.close_ours()
        rows = screen.rest()
        run.assert_ended(process, 0)
    assert b"\x1b" not in screen.seen
    assert "[rank 0] line" in rows
