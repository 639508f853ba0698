"""The worker's exit codes: the one table that the pod failure policy, the CLI and the docs follow.

`podFailurePolicy` in the rendered Job: 79 and 143 are ignored, 1-64, 76, 77 and 78 fail the Job, and so does 128 where
the job asks for no GPU; all else counts.
Kubernetes sets no condition on a pod that it evicts for what the pod itself holds, so 80 is how the Job learns of it.
137, 139 and the like are never returned: they mean that the container itself was killed.
"""

COMPLETE = 0
FIRST_RANK_CODE = 1  # 1-63: the first failing rank's own exit code
LAST_RANK_CODE = 63
FAILED = 64  # it failed otherwise: a signal, or an exit code above 63; the true one is in the termination log
INFRASTRUCTURE = 75  # processes that cannot be ended, our own mistakes; counted and retried (sysexits EX_TEMPFAIL)
HANG = 76
PREFLIGHT = 77
BAD_CONFIGURATION = 78  # sysexits EX_CONFIG
FOLLOWER_LEAVES = 79  # another pod carries the result, or this pod was superseded
EVICTED = 80  # asked to stop while a volume of this pod holds more than it may; counted and retried
STOPPED = 143  # asked to stop: 128 + SIGTERM

# Never the worker's (a rank's 128 becomes 64): containerd's code for a container that it cannot start (StartError;
# errorStartExitCode in internal/cri/server/helpers.go). Without GPUs the image lacks the program, which no other pod
# mends. A GPU runtime's hook that fails for a moment (a driver that reloads) looks the same: with GPUs it counts.
NOT_STARTED = 128

IGNORED = (FOLLOWER_LEAVES, STOPPED)
FINAL_RANGE = (FIRST_RANK_CODE, FAILED)
FINAL = (HANG, PREFLIGHT, BAD_CONFIGURATION)


def of_rank(code: int) -> int:
    """Return the worker's exit code for a rank that ended with `code` (negative: killed by that signal)."""
    return code if FIRST_RANK_CODE <= code <= LAST_RANK_CODE else FAILED
