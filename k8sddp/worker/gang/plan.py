"""What a coordinator is given: the job's wishes, and what makes its attempts its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from . import retrying


class Plan(NamedTuple):
    """What the job asks for, and `token`, which no other coordinator of this job shares."""

    job: str
    master_addr: str
    first_port: int  # MASTER_PORT of attempt 0
    token: str
    max_attempts: int
    rules: retrying.Rules
    grace_period: float
    usable: Callable[[int], bool]  # whether a port is free on node 0
