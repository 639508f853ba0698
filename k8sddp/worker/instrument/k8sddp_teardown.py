"""Lets gloo's threads finish before their group goes: else a rank that did its work may hang, or die of SIGABRT.

A gloo thread that still holds the tensors of the last collective needs the GIL to let go of them. If the interpreter
ends first, Python unwinds that thread, C++ calls std::terminate, and a good rank dies with "terminate called without an
active exception" (torch 2.15, scripts that exit right after an all_reduce, two busy cores: 13 of 60 plain DDP runs;
https://github.com/pytorch/pytorch/pull/179291). If the group is freed first, in torch 2.4, its destructor holds the GIL
and joins that thread for ever (digits, 4 ranks on two cores: 2 of 5 runs). `destroy_process_group` does not help while
a DDP module still holds the group. Sleeping gives the GIL away, and that is all these threads need.
"""

from __future__ import annotations

import _thread
import os
import sys
import time

GLOO_THREAD = "pt_gloo_runloop"  # torch/csrc/distributed/c10d/ProcessGroupGloo.cpp
NAMED_SINCE = (2, 11)  # before, its threads are called what the process is, and others are too
PAUSE = 0.005  # seconds, Python's switch interval
LIMIT = 0.5  # seconds; what is not done by then is not waiting for us


def let_gloo_finish() -> None:
    """Wait until no gloo thread of this process wants to run; at most LIMIT seconds."""
    if "torch.distributed.distributed_c10d" not in sys.modules:
        return
    end = time.monotonic() + LIMIT
    name, own = _name_of_gloo_threads(), str(_thread.get_native_id())
    while True:
        time.sleep(PAUSE)
        threads = [thread for thread in os.listdir("/proc/self/task") if thread != own]
        if time.monotonic() >= end or not any(_wants_to_run(thread, name) for thread in threads):
            return


def _name_of_gloo_threads() -> str:
    major, minor = sys.modules["torch"].__version__.split(".")[:2]
    if (int(major), int(minor)) >= NAMED_SINCE:
        return GLOO_THREAD
    with open("/proc/self/comm") as file:
        return file.read().rstrip("\n")


def _wants_to_run(thread: str, expected: str) -> bool:
    try:
        with open("/proc/self/task/%s/stat" % thread) as file:
            name, _, rest = file.read().partition("(")[2].rpartition(") ")
    except OSError:
        return False  # it has ended
    return name == expected and rest.startswith("R")
