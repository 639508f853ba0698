"""Faults on request, brought about by the rank itself right after an optimizer step (`run --local --fault`).

K8SDDP_FAULTS has one per line, such as `kill rank=1 step=20 attempt=0`; what cannot be read is passed over, since the
command has checked it. Before it acts the rank leaves an empty file in the pod's scratch folder, by which the command
knows that the fault happened. Loaded only where the variable is set.
"""

from __future__ import annotations

import os
import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

FAULTS = "K8SDDP_FAULTS"
MARK = "k8sddp-fault-%d"  # the number is the fault's line


def of_rank(rank: int) -> Callable[[int], None] | None:
    """Return what to call after each step of this rank in this attempt, None where there is nothing to do."""
    environ = os.environ
    due: dict[int, tuple[int, str, dict[str, int]]] = {}
    for number, line in enumerate(environ.get(FAULTS, "").splitlines()):
        kind, *words = line.split()
        keys = {name: int(value) for name, _, value in (word.partition("=") for word in words) if value.isdigit()}
        if keys.get("attempt") != int(environ["K8SDDP_ATTEMPT"]):
            continue
        first_of_node = rank == int(environ["K8SDDP_RANK_BASE"])
        ours = keys.get("rank") == rank
        if kind == "lose-node":
            ours = first_of_node and keys.get("node") == int(environ["K8SDDP_NODE_RANK"])
        if ours:
            due[keys.get("step", 1)] = (number, line, keys)
    if not due:
        return None

    def after_step(step: int) -> None:
        fault = due.pop(step, None)
        if fault is not None:
            number, line, keys = fault
            open(os.path.join(environ["K8SDDP_SCRATCH_DIR"], MARK % number), "w").close()
            print("fault injected: " + line, flush=True)
            _happen(line.split()[0], line, keys)

    return after_step


def _happen(kind: str, line: str, keys: dict[str, int]) -> None:
    if kind == "exit":
        os._exit(keys.get("code", 3))
    elif kind == "raise":
        raise RuntimeError("fault injected: " + line)
    elif kind == "segfault":
        import ctypes

        ctypes.string_at(0)
    elif kind == "lose-node":
        os.kill(int(os.environ["K8SDDP_WORKER_PID"]), signal.SIGKILL)
        signal.pause()  # the end of the pod ends this process too
    else:
        os.kill(os.getpid(), signal.SIGSTOP if kind == "stop" else signal.SIGKILL)
