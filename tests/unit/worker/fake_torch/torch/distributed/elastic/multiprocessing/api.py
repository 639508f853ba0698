"""How torchrun's agent ends its ranks: SIGTERM to their sessions, and SIGKILL to those that take too long."""

import os
import signal
import subprocess

TIMEOUT = 30.0


class SignalException(Exception):
    """What torchrun's agent ends with when it gets a signal."""


class PContext:
    """As torch.distributed.elastic.multiprocessing.api.PContext; `ranks` are Popen objects."""

    def __init__(self, ranks):
        self.ranks = ranks

    def close(self, death_sig=None, timeout=TIMEOUT):
        for rank in self.ranks:
            if rank.poll() is None:
                os.killpg(rank.pid, death_sig or signal.SIGTERM)
        for rank in self.ranks:
            try:
                rank.wait(timeout)
            except subprocess.TimeoutExpired:
                os.killpg(rank.pid, signal.SIGKILL)
                rank.wait()
