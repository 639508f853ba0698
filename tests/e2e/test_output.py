"""What ranks write: a bar is seen while it moves, and files that would end with their pod are named."""

from pathlib import Path

import pytest

from tests.e2e import jobs
from tests.e2e.users import User

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

BAR = """
import sys, time
for number in range(6000):
    sys.stderr.write(f"\\r{number}/6000 |####    |")
    sys.stderr.flush()
    time.sleep(0.05)
"""
FILES = "open('model.pt', 'wb').write(b'x' * 3 * 2**20)\n"


def test_a_bar_is_seen_while_it_moves(user: User, tmp_path: Path) -> None:
    """It is redrawn twenty times a second for five minutes, and its first states come at once."""
    file = jobs.write(tmp_path, "bar", BAR, image=user.cluster.image, nnodes=1)
    with user.running("run", str(file)) as run:
        run.until("/6000 |####    |")
        run.until("/6000 |####    |")
        assert 130 == run.interrupt()
    assert {1} == {line.count("/6000") for line in run.lines if "/6000" in line}


def test_files_that_end_with_the_pod_are_named(user: User, tmp_path: Path) -> None:
    """The job is complete, and its model is gone with the pod: the log of the rank's node says so."""
    file = jobs.write(tmp_path, "model", FILES, image=user.cluster.image, nnodes=1)
    ran = user.k8sddp("run", str(file))
    assert 0 == ran.code, ran.err
    sentence = (
        "new files in /k8sddp/work end with the pod: model.pt (3.0 MiB); to keep such files, write them to a volume"
    )
    assert 1 == ran.err.count(sentence)
    assert f"remark: {sentence}" in user.k8sddp("get", "model").out
