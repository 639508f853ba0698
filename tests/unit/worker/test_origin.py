"""Whose failure an exception is: told by where it was raised, never by what its author wrote."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import sys
import types
import urllib.error
from collections.abc import Callable, Iterator

import pytest

from k8sddp.worker.instrument import k8sddp_origin as origin
from tests.unit.worker import gangs

GONE = gangs.GONE.removeprefix("RuntimeError: ")
PATH = GONE.partition(" ")[0]  # of gloo's source
# What torch, gloo and NCCL say to those who are left behind; in a script's own message it means nothing
FOREIGN = (
    GONE,
    f"{PATH} Read error [10.0.0.7]:1: Connection reset by peer",
    f"{PATH} Timed out waiting 1800000ms for recv operation to complete",
    "Connection refused",
    "Connection reset by peer",
    "Broken pipe",
    "Socket closed",
    "Read error [",
    "wait timeout after 300000ms, keys: /default_pg/0//1",
    "failed to recv, got 0 bytes",
    "sendBytes failed",
    "ncclRemoteError: remote process exited or there was a network error",
    "NCCL communicator was aborted on rank 1",
    "Watchdog caught collective operation timeout",
    "Rank 1 failed to pass monitoredBarrier in 2000 ms",
    "Operation timed out!",
)


def native(text: str) -> None:
    """Raise a RuntimeError as a function of C++ does: no Python frame executes a `raise`."""
    ctypes.pythonapi.PyErr_SetString(ctypes.py_object(RuntimeError), text.encode())


def make_dist(name: str) -> type[RuntimeError]:
    """Return a class like those that torch makes in C++."""
    return type(name, (RuntimeError,), {"__module__": "torch.distributed"})


def caught(function: Callable[[], object]) -> BaseException:
    """Return what `function` raises."""
    try:
        function()
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


def fails(error: BaseException) -> None:
    """Raise `error`, as a script does."""
    raise error


@pytest.mark.parametrize("text", FOREIGN)
@pytest.mark.parametrize(
    "kind", [RuntimeError, ValueError, ConnectionResetError, type("DistNetworkError", (RuntimeError,), {})]
)
def test_a_scripts_own_message_makes_no_consequence(kind: type[Exception], text: str) -> None:
    """Whatever it says, and whatever its class is called: Python code raised it."""
    assert origin.OWN == origin.of(caught(lambda: fails(kind(text))))


@pytest.mark.parametrize(
    "error",
    [
        urllib.error.URLError(ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")),
        BrokenPipeError(errno.EPIPE, "Broken pipe"),
        TimeoutError("Timed out waiting for the metrics server"),
    ],
)
def test_a_scripts_own_network_is_its_own(error: Exception) -> None:
    """Uploading metrics has nothing to do with the gang."""
    assert origin.OWN == origin.of(caught(lambda: fails(error)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (GONE, origin.PEER),
        (f"{PATH} Read error [10.0.0.7]:1: Connection reset by peer", origin.PEER),
        (f"{PATH} Timed out waiting 2000ms for recv operation to complete", origin.PEER),
        ("[../third_party/gloo/gloo/transport/tcp/pair.cc:1] connect [::1]:2: Connection refused", origin.PEER),
        (f"ProcessGroupWrapper: Monitored Barrier encountered error running collective: \n{GONE}", origin.PEER),
        ("[Rank 0]: Ranks 1 failed to pass monitoredBarrier in 2000 ms", origin.PEER),
        ("Operation timed out!", origin.PEER),
        ("NCCL operation timed out", origin.PEER),
        ("x: remote process exited or there was a network error", origin.PEER),
        ("[/src/gloo/transport/tcp/device.cc:99] Unable to find address for: eth9", origin.DOUBTFUL),
        ("[enforce fail at /src/gloo/transport/tcp/pair.cc:464] op.preamble.length <= op.nbytes. 8 vs 4", origin.OWN),
        ("ProcessGroupGloo::broadcast: invalid root rank: 99", origin.OWN),
        ("[1]: params[0] in this process with sizes [3, 2] appears not to match sizes of the same param", origin.OWN),
        ("Expected to have finished reduction in the prior iteration before starting a new one.", origin.OWN),
        ("addmm: mat1 and mat2 shapes cannot be multiplied (1x3 and 2x2)", origin.OWN),
    ],
)  # fmt: skip
def test_what_cpp_raises_is_told_apart_by_its_mark(text: str, expected: str) -> None:
    """Texts of torch 2.15: a RuntimeError with gloo's source in it is gloo's; all else is about this rank."""
    assert expected == origin.of(caught(lambda: native(text)))


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("DistBackendError", "NCCL communicator was aborted on rank 1.", origin.PEER),
        ("DistBackendError", "NCCL error in: x.cpp:1\nncclRemoteError: A call failed possibly due to a", origin.PEER),
        ("DistBackendError", "NCCL error in: x.cpp:1\nncclInvalidUsage: This usually reflects", origin.OWN),
        ("DistBackendError", "NCCL error in: x.cpp:1\nncclUnhandledCudaError: Call to CUDA function", origin.DOUBTFUL),
        ("DistStoreError", "Timed out after 4 seconds waiting for clients. 1/2 clients joined.", origin.PEER),
        ("DistNetworkError", "Failed to recv, got 0 bytes. Connection was likely closed.", origin.PEER),
        ("DistNetworkError", "The server socket has failed to listen on any local network address.", origin.OWN),
    ],
)
def test_torchs_own_classes_speak_of_the_backend(name: str, text: str, expected: str) -> None:
    """Raised by C++ or by torch's Python; NCCL's errors about arguments and a port in use are this rank's."""
    assert expected == origin.of(caught(lambda: fails(make_dist(name)(text))))
    assert expected == origin.of_report(f"{name}: {text}", "")


class StepError(Exception):
    """A framework's."""


def chained(inner: Callable[[], object], how: str) -> BaseException:
    def run() -> None:
        try:
            inner()
        except Exception as error:
            if how == "from":
                raise StepError("step failed") from error
            if how == "from None":
                raise StepError("step failed") from None
            if how == "exit":
                sys.exit(1)
            if how == "again":
                raise
            raise StepError("step failed")  # noqa: B904

    return caught(run)


@pytest.mark.parametrize("how", ["from", "from None", "while handling", "exit", "again"])
@pytest.mark.parametrize(
    ("inner", "expected"), [(lambda: native(GONE), origin.PEER), (lambda: fails(OSError(GONE)), origin.OWN)]
)
def test_a_wrapped_consequence_is_one(how: str, inner: Callable[[], object], expected: str) -> None:
    """Lightning, Hydra and scripts raise their own from it; what they raise from a cause stays a cause."""
    assert expected == origin.of(chained(inner, how))


def test_a_chain_of_any_length_or_shape_is_read() -> None:
    """Through a hundred frames and a dozen wrappers; a chain that bites its tail ends."""

    def deep(level: int) -> None:
        if level:
            deep(level - 1)
        else:
            native(GONE)

    error = caught(lambda: deep(100))
    for _ in range(12):
        error = chained(lambda error=error: fails(error), "from")  # type: ignore[misc]
    assert origin.PEER == origin.of(error)
    ring = StepError("x")
    ring.__cause__ = ring
    assert origin.OWN == origin.of(ring)


@pytest.mark.parametrize(
    ("first", "expected"),
    [
        (ValueError("bad batch"), True),
        (StepError("failed"), True),
        (StopIteration("no more"), False),
        (FileNotFoundError("no checkpoint yet"), False),
        (KeyError("x"), False),
        (SystemExit(0), False),
    ],
)
def test_what_a_barrier_in_finally_hides_is_found(first: BaseException, expected: bool) -> None:
    """The ValueError came first; what only asks a question, as StopIteration does, is no failure."""

    def run() -> None:
        try:
            fails(first)
        finally:
            native(GONE)

    error = chained(run, "from")
    assert (first if expected else None) is origin.hidden(error)
    assert origin.hidden(chained(lambda: native(GONE), "from")) is None
    assert origin.hidden(caught(lambda: fails(ValueError("alone")))) is None


def test_a_context_manager_changes_nothing() -> None:
    """contextlib throws the exception into a generator."""

    @contextlib.contextmanager
    def timed() -> Iterator[None]:
        yield

    def run(text: str, raises: Callable[[str], object]) -> None:
        with timed():
            raises(text)

    assert origin.PEER == origin.of(caught(lambda: run(GONE, native)))
    assert origin.OWN == origin.of(caught(lambda: run(GONE, lambda text: fails(RuntimeError(text)))))


@pytest.mark.skipif(sys.version_info < (3, 11), reason="exception groups are newer: python3.11 has them")
def test_a_group_with_one_cause_is_a_cause() -> None:
    """Of several that were raised together it is enough that one is this rank's own."""
    gone, own = caught(lambda: native(GONE)), caught(lambda: fails(ValueError("bad")))
    group = BaseExceptionGroup  # noqa: F821
    assert origin.PEER == origin.of(caught(lambda: fails(group("both", [gone, gone]))))
    assert origin.OWN == origin.of(caught(lambda: fails(group("both", [gone, own]))))


def test_a_failed_checkpoint_is_a_consequence_where_another_rank_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.distributed.checkpoint raises the failures of all ranks on every rank."""
    monkeypatch.setitem(sys.modules, "torch.distributed", types.SimpleNamespace(get_rank=lambda: 1))
    kind = type("CheckpointException", (BaseException,), {"__module__": "torch.distributed.checkpoint.api"})
    for failed, expected in (({0: "bad"}, origin.PEER), ({0: "bad", 1: "bad"}, origin.OWN), ({}, origin.OWN)):
        error = kind("x")
        error.failures = failed
        assert expected == origin.of(error)


def test_an_exception_that_cannot_be_told_is_survived() -> None:
    """Reporting never fails: __str__ may raise, `exceptions` and `failures` may be anything."""

    class OddError(make_dist("DistError")):  # type: ignore[misc]
        exceptions = ("a", "b")
        failures = 7

        def __str__(self) -> str:
            raise ValueError

    assert origin.PEER == origin.of(OddError())


TRACE = """Traceback (most recent call last):
  File "train.py", line 3, in fit
    dist.all_reduce(x)  # RuntimeError: {gone}
{first}

{link}:

Traceback (most recent call last):
  File "train.py", line 7, in <module>
    raise StepError("step failed") from error
StepError: step failed
"""
CAUSE = "The above exception was the direct cause of the following exception"
CONTEXT = "During handling of the above exception, another exception occurred"


@pytest.mark.parametrize("link", [CAUSE, CONTEXT])
@pytest.mark.parametrize(
    ("first", "expected"),
    [
        (gangs.GONE, origin.PEER),
        ("torch.distributed.DistStoreError: wait timeout after 1 ms, keys: /x", origin.PEER),
        (f"ValueError: {GONE}", origin.OWN),
        ("RuntimeError: Connection closed by peer", origin.OWN),
    ],
)
def test_a_printed_traceback_is_read_at_its_ends_only(first: str, expected: str, link: str) -> None:
    """Where there is only torch's error file: the exceptions of its blocks, never a source line."""
    text = TRACE.format(first=first, link=link, gone=GONE)
    assert expected == origin.of_report("StepError: step failed", text)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (f"[rank1]: {gangs.GONE}", origin.PEER),
        (GONE, origin.PEER),
        ("torch.distributed.DistBackendError: NCCL communicator was aborted on rank 1.", origin.PEER),
        (f"ERROR upload failed: {GONE}", origin.OWN),
        ("ConnectionResetError: [Errno 104] Connection reset by peer", origin.OWN),
        ("", origin.OWN),
    ],
)
def test_last_words_are_read_line_by_line(line: str, expected: str) -> None:
    """`except Exception: print_exc(); os._exit(1)` leaves nothing else."""
    assert expected == origin.of_output(f"step 1\n{line}\nSet the environment variable HYDRA_FULL_ERROR=1\n")


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("terminate called after throwing an instance of 'c10::DistBackendError'\n  what():  [PG ID 0]", origin.PEER),
        ("frame #2: c10d::ProcessGroupNCCL::Watchdog::runLoop() + 0x1 (0x7f in libtorch_cuda.so)", origin.PEER),
        (f"terminate called after throwing an instance of 'gloo::IoException'\n  what():  {GONE}", origin.PEER),
        ("terminate called after throwing an instance of 'gloo::EnforceNotMet'\n  what():  [enforce", origin.OWN),
        ("instance of 'c10::DistBackendError'\n what(): watchdog: CUDA error: an illegal memory access", origin.OWN),
        ("terminate called without an active exception", origin.DOUBTFUL),
        ("Watchdog caught collective operation timeout", origin.DOUBTFUL),
        ("", origin.DOUBTFUL),
    ],
)
def test_an_abort_is_read_by_the_names_of_cpp(lines: str, expected: str) -> None:
    """NCCL's watchdog takes the process down, and tells of another rank or of its own GPU."""
    assert expected == origin.of_abort(lines)
