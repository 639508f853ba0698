"""The line that is told of a process is its error, not what a library printed after it."""

from __future__ import annotations

import pytest

from k8sddp.worker import last_words, root_cause
from tests.unit.worker import gangs

ERROR = "RuntimeError: CUDA error: device-side assert triggered"


@pytest.mark.parametrize(
    "after",
    [
        "",
        "\n  \n",
        "[rank0]:[W1127 20:51:32.506152094 ProcessGroupNCCL.cpp:1250] Warning: WARNING: destroy_process_group() was",
        "[W1127 20:51:32.506152094 socket.cpp:207] [c10d] The hostname of the client socket cannot be",
        "W1127 20:51:32.506000 123 torch/distributed/run.py:766] Setting OMP_NUM_THREADS to 1",
        "CUDA kernel errors might be asynchronously reported at some other API call, so the stacktrace below might be",
        "For debugging consider passing CUDA_LAUNCH_BLOCKING=1",
        "[rank3]: Compile with `TORCH_USE_CUDA_DSA` to enable device-side assertions.",
        "Search for `cudaErrorAssert' in https://docs.nvidia.com/cuda/cuda-runtime-api/group__CUDART__TYPES.html for",
        "Device-side assertions were explicitly omitted for this error check; the error probably arose while",
        "Exception raised from c10_cuda_check at /pytorch/c10/cuda/CUDAException.cpp:44 (most recent call first):\n"
        "frame #0: c10::Error::Error(c10::SourceLocation, std::string) + 0x98 (0x7f1 in /x/libc10.so)",
        " In addition, you can set the environment variable TORCH_DISTRIBUTED_DEBUG to either INFO or DETAIL to print",
        "Set the environment variable HYDRA_FULL_ERROR=1 for a complete stack trace.",
        "/usr/lib/python3.11/multiprocessing/resource_tracker.py:224: UserWarning: resource_tracker: 1 leaked\n"
        "  warnings.warn('resource_tracker: There appear to be %d '",
        "wandb: Find logs at: ./wandb/offline-run/logs",
        " 45%|####5     | 9/20 [00:01<00:01,  8.10it/s]",
        "Extension modules: numpy._core._multiarray_umath, torch._C (total: 20)",
    ],
)
def test_what_a_library_says_after_the_error_is_not_the_error(after: str) -> None:
    """Texts as torch 2.15, CUDA, Hydra, tqdm, wandb and CPython print them."""
    assert ERROR == last_words.error(f"step 7\n[rank3]: {ERROR}\n{after}\n")


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("usage: train.py\ntrain.py: error: argument --epochs: invalid int value: 'two'\n", "train.py: error: arg"),
        ("terminate called after throwing an instance of 'gloo::EnforceNotMet'\n  what():  [enforce fail]", "[enforce"),
        ("[E1127 20:51:32 ProcessGroupNCCL.cpp:1] [Rank 1] Watchdog caught", "[E1127 20:51:32"),
        ("no data: 45% of the files are missing", "no data: 45%"),
        ("a.py:3: UserWarning: old\nnothing indented", "nothing indented"),
        ("wandb is not installed", "wandb is not"),
        ("", ""),
        ("[W1127 20:51:32 socket.cpp:207] x", ""),
    ],
)  # fmt: skip
def test_the_last_line_that_is_no_advice_is_told(lines: str, expected: str) -> None:
    """What no table knows is the error."""
    assert last_words.error(lines).startswith(expected)
    assert bool(expected) == bool(last_words.error(lines))


def make_failure(**changes: object) -> root_cause.Failure:
    return root_cause.Failure("signal", 1, "digits-1", "", rank=5)._replace(**changes)


@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        (make_failure(signal="SIGKILL", traceback="step 1"), "was killed by SIGKILL (perhaps out of memory)"),
        (
            make_failure(signal="SIGBUS", traceback="step 1"),
            "was killed by SIGBUS (perhaps /dev/shm is full: raise spec.resources.sharedMemory)",
        ),
        (
            make_failure(
                signal="SIGABRT", traceback="terminate called after throwing an instance of 'x'\n  what():  no"
            ),
            "was killed by SIGABRT; its last line: no",
        ),
        (make_failure(signal="SIGSEGV", traceback="step 1"), "was killed by SIGSEGV"),
        (
            make_failure(kind="exit", exit_code=1, traceback=f"{ERROR}\nFor debugging consider passing X"),
            f"exited with code 1; its last line: {ERROR}",
        ),
        (make_failure(kind="exit", exit_code=1, traceback="[W1127 20:51:32 x.cpp:1] y"), "exited with code 1"),
        (
            make_failure(kind="exception", exception=f"{ERROR}\nFor debugging consider passing X\nmore"),
            f"raised {ERROR} more",
        ),
        (
            make_failure(
                kind="exception", exception="RuntimeError: DataLoader worker (pid 7) is killed by signal: Bus error. It"
            ),
            "raised RuntimeError: DataLoader worker (pid 7) is killed by signal: Bus error. It "
            "(perhaps /dev/shm is full: raise spec.resources.sharedMemory)",
        ),
        (
            make_failure(kind="exception", exception="OSError: [Errno 28] No space left on device: '/data/x'"),
            "raised OSError: [Errno 28] No space left on device: '/data/x'",
        ),
    ],
)
def test_a_failure_says_what_it_probably_means(failure: root_cause.Failure, expected: str) -> None:
    """Memory, shared memory, or what the process said when it aborted; advice is left out."""
    assert f"rank 5 (pod digits-1) {expected}" == root_cause.sentence(failure)


def summary(*failures: root_cause.Failure) -> str:
    verdict = root_cause.verdict("digits", "failed", attempt=0, code=1, failures=[*map(root_cause.weigh, failures)])
    return root_cause.summary(verdict).partition("bad; ")[2]


def test_ranks_that_fail_alike_are_no_consequence() -> None:
    """The same exception on every rank is one failure; gloo's error is what followed from it."""
    same = [gangs.make_failure(rank) for rank in range(4)]
    gone = gangs.make_failure(7, gangs.GONE)
    assert "ranks 0, 1, 2, 3 failed alike" == summary(*same)
    assert "ranks 0, 1 failed alike; rank 7 failed as a consequence" == summary(gone, *same[:2])
    assert "rank 1 failed as a consequence" == summary(same[0], gangs.make_failure(1, "ValueError: else"))
    many = [gangs.make_failure(rank) for rank in range(40)]
    assert "ranks 0, 1, 2, 3, 4, 5, 6, 7 and more failed alike" == summary(*many)


def test_exits_are_alike_with_the_same_code_and_the_same_last_line() -> None:
    """argparse fails on every rank at once; another last line is another failure."""
    said = [make_failure(kind="exit", rank=rank, exit_code=2, traceback=f"rank {rank}\nno data") for rank in range(3)]
    verdict = root_cause.verdict("digits", "failed", attempt=0, code=2, failures=[*said, said[1]._replace(rank=9)])
    assert ((1, 2, 9), ()) == (verdict.alike, verdict.victims)
    other = said[1]._replace(traceback="no such file")
    verdict = root_cause.verdict("digits", "failed", attempt=0, code=2, failures=[said[0], other])
    assert ((), (1,)) == (verdict.alike, verdict.victims)
