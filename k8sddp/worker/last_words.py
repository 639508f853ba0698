"""Which of a process's last words is the error: libraries print advice, warnings and stack frames after it.

The tables name foreign texts, each with its source; what they do not know is taken for the error. Only lines that say
nothing about what went wrong stand here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

# Lines that are never the error
_ADVICE = re.compile(
    r"^(\[rank\d+\]:)?\s*("
    r"|\[?[WI]\d{4} .*"  # c10/util/Logging.cpp and torch/_logging: `[W1127 20:51:32 socket.cpp:207] ...`
    r"|\S+:\d+: \w*Warning: .*"  # Python's warnings
    r"|frame #\d+: .*"  # c10/util/Backtrace.cpp
    r"|Exception raised from .* \(most recent call first\):"  # c10/util/Exception.cpp
    r"|CUDA kernel errors might be asynchronously reported .*"  # c10/cuda/CUDAMiscFunctions.cpp
    r"|(For debugging consider passing|Compile with) .*"
    r"|Search for `\w+' in https://docs\.nvidia\.com.*"  # c10/cuda/CUDAException.cpp
    r"|Device-side assertions? (tracking|were) .*"  # c10/cuda/CUDADeviceAssertionHost.cpp
    r"|In addition, you can set the environment variable TORCH_DISTRIBUTED_DEBUG .*"  # c10d/reducer.cpp
    r"|Set the environment variable HYDRA_FULL_ERROR=1 .*"  # hydra/_internal/utils.py
    r"|wandb: .*"
    r"|.*\d+%\|.*[|\]]"  # tqdm: `45%|####      | 9/20 [00:01<00:01, 8.1it/s]`
    r"|Extension modules: .*"  # faulthandler, after the stack
    r"|terminate called after throwing an instance of .*"  # libstdc++, whose next line says what
    r"|Traceback \(most recent call last\):"
    r"|\^[\^~ ]*|~+\^*"  # CPython's marks below a source line
    r")$"
)
_WARNING = re.compile(r"^(\[rank\d+\]:)?\s*\S+:\d+: \w*Warning: ")  # the next line is the code that it is about
_PREFIX = re.compile(r"^(\[rank\d+\]: ?)?\s*(what\(\):\s+)?")  # torch's excepthook; libstdc++

MEMORY = "perhaps out of memory"
SHARED = "perhaps /dev/shm is full: raise spec.resources.sharedMemory"
_SIGNALS = {"SIGKILL": MEMORY, "SIGBUS": SHARED}  # a file that is mapped and has no room: SIGBUS, and no word
_HINTS = (
    ("DataLoader worker (pid", "killed by signal: Bus error", SHARED),  # torch/utils/data/_utils/signal_handling.py
    ("DataLoader worker (pid", "killed by signal: Killed", MEMORY),
    ("unable to allocate shared memory(shm)", "No space left on device", SHARED),  # ATen/MapAllocator.cpp
    ("/dev/shm/", "No space left on device", SHARED),  # NCCL's segments, Python's multiprocessing.shared_memory
)


def error(lines: str) -> str:
    """Return the last line that tells an error, empty where there is none."""
    useful = _useful(lines.splitlines())
    return _PREFIX.sub("", useful[-1]).strip() if useful else ""


def without_advice(exception: str) -> str:
    """Return an exception's text without the lines of advice after its first one."""
    first, *more = exception.splitlines() or [""]
    return "\n".join([first, *_useful(more)])


def of_signal(name: str, lines: str) -> str:
    """Return what to add about a process that a signal ended: what it probably means, or what the process said."""
    hint = _SIGNALS.get(name, "")
    if hint:
        return " (%s)" % hint
    said = error(lines) if name == "SIGABRT" else ""  # who aborts itself says why
    return "; its last line: %s" % said if said else ""


def of_exception(exception: str) -> str:
    """Return what an exception probably means where its text does not say so, else the empty string."""
    for first, second, hint in _HINTS:
        if first in exception and second in exception:
            return " (%s)" % hint
    return ""


def _useful(lines: Sequence[str]) -> Sequence[str]:
    code = [False, *(bool(_WARNING.match(line)) for line in lines)]
    pairs = zip(lines, code)  # noqa: B905  strict= is newer than Python 3.9, and `code` is longer by one
    return [line for line, quoted in pairs if not (_ADVICE.match(line) or (quoted and line[:1] == " "))]
