"""What a coordinator is given: the job's wishes, and what makes its attempts its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from k8sddp.worker.contract import node_env

from . import ledger, messages, retrying


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
    preflight: str = node_env.FAIL
    only_preflight: bool = False
    hang_timeout: float = 600.0
    blocking: bool = True  # who waits for others does so inside the call, as under gloo

    @property
    def strict(self) -> bool:
        """Return whether a node that differs from the others ends the job as soon as it joins."""
        return self.preflight == node_env.FAIL and not self.only_preflight


def terms(asked: Plan, own: messages.Join, number: int, *, port: int, account: ledger.Ledger) -> messages.Attempt:
    """Return what the members are told when an attempt starts; `own` is the coordinator's."""
    return messages.Attempt(
        number,
        asked.master_addr,
        port,
        "%s-%d-%s" % (asked.job, number, asked.token),
        own.pod,
        own.kube_node,
        own.failure_count,
        account.spent,
        account.history,
    )
