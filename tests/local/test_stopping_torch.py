"""With the real torch: ranks that are asked to stop save, whoever of them leaves first."""

from __future__ import annotations

import importlib.util
import signal
from pathlib import Path

import pytest

from tests import saving
from tests.unit.worker import workers

pytestmark = [
    pytest.mark.torch,
    pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="needs torch: pip install 'k8sddp[torch]'"),
]


@pytest.mark.parametrize("launcher", ["torchrun", "spawn"])
def test_both_ranks_of_a_pod_save(tmp_path: Path, launcher: str) -> None:
    """Rank 1 leaves with a code two seconds before rank 0 has saved, and what started them has no traceback to show."""
    options = {"launcher": launcher, "nproc_per_node": "2", "grace_period": "600", "torch": ""}
    with workers.Gang(tmp_path, saving.SCRIPT, **options).start() as gang:
        (pod,) = gang.pods
        for rank in range(2):
            pod.wait_for(f"[rank {rank}] {saving.TRAINS}")
        pod.send(signal.SIGTERM)
        assert 143 == pod.wait()
    assert ["[rank 0] saved", "[rank 1] saved"] == sorted(line for line in pod.log.splitlines() if "saved" in line)
    assert [] == [word for word in ("Traceback", "SignalException", "death signal") if word in pod.log]
