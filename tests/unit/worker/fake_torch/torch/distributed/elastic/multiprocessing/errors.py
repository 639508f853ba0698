"""What torchrun records about a failed rank."""


class ProcessFailure:
    """As torch.distributed.elastic.multiprocessing.errors.ProcessFailure, a dataclass there."""

    def __init__(self, local_rank, pid, exitcode):
        self.local_rank = local_rank
        self.pid = pid
        self.exitcode = exitcode
        self.__post_init__()

    def __post_init__(self):
        pass


class ChildFailedError(Exception):
    """What torchrun ends with when a rank failed."""
