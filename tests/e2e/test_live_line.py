"""How far a job is, where people look: the live line of `run` on a terminal, and PROGRESS in `get`."""

import re
from pathlib import Path

import pytest

from tests.e2e import jobs
from tests.e2e.users import User, eventually
from tests.local.screens import terminal

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]

TOTAL = 100_000
TRAINS = f"""
import time
import torch
import torch.distributed as dist
import k8sddp_report
dist.init_process_group("gloo")
model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(4, 4))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(1, {TOTAL}):
    loss = model(torch.ones(1, 4)).square().sum()
    loss.backward()
    optimizer.step()
    k8sddp_report.report(step=step, total_steps={TOTAL}, loss=loss.item())
    if step % 100 == 1:
        print("line", step, flush=True)
    time.sleep(0.02)
"""
STEP = re.compile(rb"attempt 0  step (\d+)/100000 0%[^\r\n]*steps/s[^\r\n]*ETA [^\r\n]*loss ")


def test_steps_are_shown_in_the_live_line_and_in_get(user: User, tmp_path: Path) -> None:
    """Two nodes train and print: the line moves, the log is whole, Ctrl-C cleans up, `get` says the same."""
    small = {"cpu": "100m", "memory": "700Mi"}
    spec = {"image": user.cluster.image, "nnodes": 2, "launcher": "direct", "resources": small}
    file = jobs.write(tmp_path, "moves", TRAINS, **spec)
    with terminal() as (screen, written):
        process = user.on_terminal(written, "run", str(file))
        screen.close_ours()
        with process:
            try:
                screen.until(STEP)
                seen = eventually(lambda: user.k8sddp("get").out, lambda out: "step " in out)
                first = int(STEP.findall(screen.seen)[0])
                screen.until(re.compile(rb"line 101\r\n"))
                screen.until(re.compile(rb"step (?!%d/)\d+/100000 0%%" % first))
                screen.type(b"\x03")
                rows = screen.rest()
                assert 130 == process.wait(60)
            finally:
                process.kill()
    print(seen, *rows, sep="\n")
    row = next(line for line in seen.splitlines() if line.startswith("moves "))
    assert re.search(r" Running +2/2 +0 +step [1-9]\d*/100000 0% +\d+", row)
    assert ["line 1", "line 101"] == [one for one in rows if one.startswith("line")][:2]
    assert "detached; moves runs on" in rows
    assert not [one for one in rows if "attempt 0  step" in one or one.startswith("waiting")]
    assert re.search(
        r"running: attempt 0, step \d+/100000 0%, .* steps/s, ETA \S+, loss ", user.k8sddp("get", "moves").out
    )
    assert 0 == user.k8sddp("delete", "moves").code
