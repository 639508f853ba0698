"""Builders for tests of the pure gang machines."""

from __future__ import annotations

from k8sddp.worker import root_cause
from k8sddp.worker.gang import coordinator, effects, messages, plan, retrying

TIMEOUT = 600.0
EVERYTHING = retrying.Rules()  # is worth another attempt
# What torch 2.15 raises in a rank whose peer has gone
GONE = (
    "RuntimeError: [/__w/pytorch/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:561] Connection closed by peer "
    "[127.0.0.1]:58523. This is typically caused by a remote worker crashing. Check the logs of the remote worker "
    "before reporting an error. GLHF! \N{BEACH WITH UMBRELLA}"
)


def make_join(node_rank: int, nnodes: int = 2, **changes: object) -> messages.Join:
    join = messages.Join(node_rank, f"digits-{node_rank}", f"node-{node_rank}", nnodes, 1, "sha", "2.9.1", 0, 0, {})
    return join._replace(**changes)


def make_attempt(number: int = 0, **changes: object) -> messages.Attempt:
    terms = messages.Attempt(
        number, "digits-0.digits", 29410 + number, f"digits-{number}-token", "digits-0", "node-0", 0, 0, ()
    )
    return terms._replace(**changes)


def make_plan(
    max_attempts: int = 1, rules: retrying.Rules = EVERYTHING, token: str = "token", **changes: object
) -> plan.Plan:
    asked = plan.Plan("digits", "digits-0.digits", 29410, token, max_attempts, rules, 30.0, lambda port: True)
    return asked._replace(**changes)


def make_coordinator(
    nnodes: int = 2, max_attempts: int = 1, rules: retrying.Rules = EVERYTHING
) -> coordinator.Coordinator:
    return coordinator.Coordinator(make_plan(max_attempts, rules), make_join(0, nnodes), now=0.0)


def make_running(nnodes: int = 2, max_attempts: int = 1, rules: retrying.Rules = EVERYTHING) -> coordinator.Coordinator:
    """Return a coordinator whose members (peer = node rank) have all joined."""
    gang = make_coordinator(nnodes, max_attempts, rules)
    for node_rank in range(nnodes):
        gang.received(node_rank, make_join(node_rank, nnodes), 0.0)
    return gang


def make_failure(rank: int, exception: str = "ValueError: bad") -> root_cause.Failure:
    """Return the failure of a rank that had trained for a while."""
    return root_cause.Failure(
        "exception", rank, f"digits-{rank}", f"node-{rank}", rank=rank, exit_code=1, exception=exception, last_step=7
    )


def failed(rank: int, exception: str = "ValueError: bad", attempt: int = 0) -> messages.Failed:
    return messages.Failed(attempt, root_cause.to_record(make_failure(rank, exception)))


def sent(todo: list[effects.Effect], kind: type) -> dict[int, messages.Message]:
    """Return the messages of one kind among `effects` by peer."""
    sends = [effect for effect in todo if isinstance(effect, effects.Send)]
    return {send.peer: send.message for send in sends if isinstance(send.message, kind)}


def ends(todo: list[effects.Effect]) -> dict[int, messages.End]:
    """Return the ends among `effects` by peer."""
    return sent(todo, messages.End)


def cause_of(end: messages.End) -> dict[str, object]:
    first = end.verdict["first_failure"]
    assert isinstance(first, dict)
    return first
