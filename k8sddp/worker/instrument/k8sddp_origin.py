"""Whose failure an exception is: this process's own, or a consequence of what happened to another rank.

Judged where the exception object is, by its class, by what raised it, and by the chain of exceptions behind it; never
by a message that Python code has written. torch.distributed's own classes speak of the backend. gloo's errors have no
class of their own: they are RuntimeErrors that a call into C++ raised, whose text begins with the source file of gloo.
What torch.distributed's Python code raises (ValueError, TypeError: a wrong argument) is the script's mistake.

Where there is only text (torch's error file, the last lines of a process that was aborted), what torch and gloo print
at fixed places of it is looked for. The worker takes that half by this module's full name: it imports nothing of ours.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

OWN, DOUBTFUL, PEER = "own", "doubtful", "peer"  # a cause; either; a consequence
_ORDER = (OWN, DOUBTFUL, PEER)

# What scripts catch in order to go on another way: `except StopIteration`, no checkpoint yet, an older library
QUESTIONS = (LookupError, StopIteration, StopAsyncIteration, AttributeError, ImportError, OSError)
MAX_CHAIN = 100  # exceptions looked at
DIST = "torch.distributed"  # where DistError, DistBackendError, DistNetworkError and DistStoreError live
DIST_CLASSES = ("DistError", "DistBackendError", "DistNetworkError", "DistStoreError")

# gloo/common/{error,logging}.h: `[/src/gloo/transport/tcp/pair.cc:561] Connection closed by peer`; an enforcement is
# about tensors that do not match. Then what gloo says when another process did not do its part (gloo/transport/tcp)
_GLOO = r"\[(?P<enforced>enforce fail at )?[^\s\[\]]*gloo/[^\s\[\]]+\.(?:cc|h):\d+\] ?(?P<said>.*)"
_GLOO_PEER = (
    "Connection closed by peer",
    "Read error",
    "Write error",
    "Application timeout caused pair closure",
    "Socket closed",
    "Timed out waiting",
    "Connect timeout",
    "connect",
    "timed out connect",
    "Wait timeout",
)
# What else C++ raises as RuntimeError when another rank did not come (c10d/{Work,ProcessGroupGloo}.cpp, c10d/nccl2)
_C10D_PEER = (
    r"Operation timed out!|Wait timeout|NCCL operation timed out|"
    r"(\[Rank \d+\]: )?Ranks? [\d, ]+ (successfully reached|failed to pass|timed out in) monitoredBarrier"
)
_NCCL_PEER = ("ncclRemoteError", "remote process exited or there was a network error")  # ncclGetErrorString
# What torch.distributed's classes say of this process rather than of another (c10d/NCCLUtils.cpp, c10d/socket.cpp)
_DIST_OWN = ("ncclInvalidArgument", "ncclInvalidUsage", "The server socket has failed to ")
_DIST_DOUBTFUL = ("ncclUnhandledCudaError", "ncclSystemError", "ncclInternalError")
# C++ names in what an aborted process leaves: `instance of 'gloo::IoException'`, frames of NCCL's watchdog. It tells of
# errors of its own GPU, too
_ABORT_OWN = ("CUDA error", "HIP error", "gloo::EnforceNotMet")
_ABORT_PEER = ("c10::Dist", "c10d::ProcessGroupNCCL", "c10d::nccl2::", "gloo::")


def of(error: BaseException) -> str:
    """Return OWN, DOUBTFUL or PEER for an exception, those included that it was raised from or while handling."""
    return _of_chain(error, set())


def hidden(error: BaseException) -> BaseException | None:
    """Return this process's own failure that was being handled when a consequence came over it, None where none was.

    `finally: dist.barrier()` waits for ranks that wait for this one, and what it raises at last hides the ValueError
    that began it all. Exceptions by which Python code asks questions are no failures.
    """
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and len(chain) < MAX_CHAIN:
        chain.append(link)
        link = link.__cause__ or link.__context__
    found = [_of_one(one, set()) for one in chain]
    if PEER not in found:
        return None
    older = chain[len(found) - found[::-1].index(PEER) :]
    return next((one for one in older if isinstance(one, Exception) and not isinstance(one, QUESTIONS)), None)


def of_report(exception: str, trace: str) -> str:
    """Return the same for an exception of which there is only text: `RuntimeError: text`, and its traceback."""
    import re  # here as below: in a process that just starts it costs more than all the rest of this module

    blocks = re.split(r"\n\n(?:The above exception was the direct|During handling of the above)[^\n]*:\n\n", trace)
    texts = [exception, *(_raised_in(block) for block in blocks[:-1])]
    return max(map(_of_text, texts), key=_ORDER.index)


def of_output(lines: str) -> str:
    """Return the same for a process that ended itself, with its last lines."""
    return max((_of_text(_without_prefix(line)) for line in lines.splitlines()), key=_ORDER.index, default=OWN)


def of_abort(lines: str) -> str:
    """Return the same for a process that its own C++ code aborted, with its last lines."""
    if any(mark in lines for mark in _ABORT_OWN):
        return OWN
    return PEER if any(mark in lines for mark in _ABORT_PEER) else DOUBTFUL


def _of_chain(error: BaseException | None, seen: set[int]) -> str:
    found = OWN
    while error is not None and id(error) not in seen and len(seen) < MAX_CHAIN:
        seen.add(id(error))
        found = max(found, _of_one(error, seen), key=_ORDER.index)
        if error.__cause__ is not None:
            found = max(found, _of_chain(error.__cause__, seen), key=_ORDER.index)
        error = error.__context__
    return found


def _of_one(error: BaseException, seen: set[int]) -> str:
    parts = getattr(error, "exceptions", None)
    if isinstance(parts, tuple) and parts and all(isinstance(part, BaseException) for part in parts):
        return min((_of_chain(part, set(seen)) for part in parts), key=_ORDER.index)  # a group with a cause is one
    if any(base.__module__ == DIST and base.__name__ in DIST_CLASSES for base in type(error).__mro__):
        return _of_dist(_text(error))
    if _told_by_others(error):
        return PEER
    if isinstance(error, RuntimeError) and _raised_by_c(error.__traceback__):
        return _of_native(_text(error))
    return OWN


def _told_by_others(error: BaseException) -> bool:
    """Return whether torch.distributed.checkpoint raises here, too, what has failed on other ranks alone."""
    ranks = getattr(error, "failures", None)
    if type(error).__name__ != "CheckpointException" or not isinstance(ranks, dict) or not ranks:
        return False
    import sys

    try:
        return sys.modules[DIST].get_rank() not in ranks
    except Exception:
        return False  # without a process group there are no others


def _raised_by_c(trace: TracebackType | None) -> bool:
    """Return whether the innermost Python frame called something that raised, rather than raised itself."""
    if trace is None:
        return False
    import opcode

    while trace.tb_next is not None:
        trace = trace.tb_next
    code = trace.tb_frame.f_code.co_code
    at = trace.tb_lasti
    return 0 <= at < len(code) and opcode.opname[code[at]] not in ("RAISE_VARARGS", "RERAISE")


def _of_native(text: str) -> str:
    """Return whose failure a RuntimeError of C++ code is: ours are gloo's and c10d's."""
    import re

    found = re.search(_GLOO, text)
    if found:
        if found.group("enforced"):
            return OWN
        return PEER if found.group("said").startswith(_GLOO_PEER) else DOUBTFUL
    return PEER if re.match(_C10D_PEER, text) or any(sign in text for sign in _NCCL_PEER) else OWN


def _of_dist(text: str) -> str:
    if any(sign in text for sign in _DIST_OWN):
        return OWN
    return DOUBTFUL if any(sign in text for sign in _DIST_DOUBTFUL) else PEER


def _of_text(exception: str) -> str:
    import re

    name, _, text = exception.partition(": ")
    if name.rpartition(".")[2] in DIST_CLASSES:
        return _of_dist(text)
    said = text if name == "RuntimeError" else exception
    return _of_native(said) if re.match(_GLOO, said) else OWN


def _without_prefix(line: str) -> str:
    """Return a line without what torch's own excepthook puts before it: `[rank0]: `."""
    import re

    return re.sub(r"^\[rank\d+\]: ?", "", line.strip())


def _raised_in(block: str) -> str:
    """Return the exception that a block of a traceback ends with: its first line at the margin after the frames."""
    lines = block.rstrip().splitlines()
    frames = [number for number, line in enumerate(lines) if line.startswith(" ")]
    return lines[frames[-1] + 1] if frames and frames[-1] + 1 < len(lines) else ""


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return ""
