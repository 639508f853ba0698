"""Builders for tests of the pure gang machines."""

from __future__ import annotations

from k8sddp.worker import root_cause
from k8sddp.worker.gang import coordinator, messages

TIMEOUT = 60.0


def make_join(node_rank: int, nnodes: int = 2, **changes: object) -> messages.Join:
    join = messages.Join(node_rank, f"digits-{node_rank}", f"node-{node_rank}", nnodes, 1, "sha", "2.9.1")
    return join._replace(**changes)


def make_attempt() -> messages.Attempt:
    return messages.Attempt(0, "digits-0.digits", 29410, "run", "digits-0", "node-0")


def make_coordinator(nnodes: int = 2) -> coordinator.Coordinator:
    plan = coordinator.Plan("digits", make_attempt(), TIMEOUT, TIMEOUT)
    return coordinator.Coordinator(plan, make_join(0, nnodes), now=0.0)


def make_running(nnodes: int = 2) -> coordinator.Coordinator:
    """Return a coordinator whose members (peer = node rank) have all joined."""
    gang = make_coordinator(nnodes)
    for node_rank in range(nnodes):
        gang.received(node_rank, make_join(node_rank, nnodes), 0.0)
    return gang


def make_failure(rank: int, exception: str = "ValueError: bad") -> root_cause.Failure:
    return root_cause.Failure(
        "exception", rank, f"digits-{rank}", f"node-{rank}", rank=rank, exit_code=1, exception=exception
    )


def failed(rank: int, exception: str = "ValueError: bad") -> messages.Failed:
    return messages.Failed(0, root_cause.to_record(make_failure(rank, exception)))


def ends(effects: list[coordinator.Effect]) -> dict[int, messages.End]:
    """Return the ends among `effects` by peer."""
    sends = [effect for effect in effects if isinstance(effect, coordinator.Send)]
    return {send.peer: send.message for send in sends if isinstance(send.message, messages.End)}
