"""The flight recorder of the torch that is installed writes what the worker reads."""

from __future__ import annotations

import subprocess
import sys

import pytest

from k8sddp.worker.ranks import flight_records

pytest.importorskip("torch", reason="torch is not installed: pip install 'k8sddp[torch]'")
pytestmark = pytest.mark.torch

# gloo's collectives are recorded as NCCL's are, in the same format, since the recorder is not NCCL's alone
SCRIPT = """
import sys
import torch, torch.distributed as dist
from torch._C import _distributed_c10d as c10d
dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
dist.all_reduce(torch.ones(3))
dist.barrier()
dump = getattr(c10d, "_dump_fr_trace", None)
sys.stdout.buffer.write(dump() if dump else b"")
"""


def test_a_record_of_this_torch_is_read() -> None:
    """Two collectives of the default group, both complete."""
    env = {"TORCH_FR_BUFFER_SIZE": "10", "PATH": "/usr/bin:/bin", "HOME": "/nonexistent"}
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=env, capture_output=True, timeout=100, check=True)
    if not done.stdout:
        pytest.skip("this torch records NCCL's collectives only, and those need GPUs")
    assert flight_records.Standing(0, 2, 2, "") == flight_records.standing(done.stdout, 0)
