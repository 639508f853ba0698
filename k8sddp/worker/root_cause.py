"""Who failed first: failures as values, which of them are mere victims, and the words for both.

A rank that dies tears the others down with it: their "connection closed by peer" is a consequence and never the cause
while a better candidate exists. Among candidates the coordinator's order of receipt counts; clocks are not compared.
What outlives the pod of all this is contract/verdict.py's.
"""

from __future__ import annotations

import signal as signals
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Optional

from . import last_words
from .contract import exit_codes, wording
from .contract import verdict as verdicts
from .instrument import k8sddp_origin

MAX_VICTIMS = 48
MAX_TEXT = 400
MAX_SENT = 3000  # characters, of up to twelve bytes of JSON: two such texts fit in a message (gang/wire.py)

PROCESS_KINDS = ("exception", "exit", "signal")  # kinds that are about one process

CAUSE, WEAK, VICTIM = 0, 1, 2  # how likely a failure is the first one
WEIGHTS = {k8sddp_origin.OWN: CAUSE, k8sddp_origin.DOUBTFUL: WEAK, k8sddp_origin.PEER: VICTIM}

INFRASTRUCTURE_TYPES = ("DistNetworkError", "DistStoreError", "RendezvousConnectionError", "RendezvousTimeoutError")
WEAK_SIGNALS = ("SIGTERM", "SIGINT")  # a launcher ends the ranks that are left


class Failure(NamedTuple):
    """One thing that went wrong on one node; `rank` is None where no rank is to blame."""

    # exception | exit | signal | early-exit | hang | lost | evicted | infrastructure | preflight | configuration
    kind: str
    node_rank: int
    pod: str
    kube_node: str
    rank: Optional[int] = None
    exit_code: Optional[int] = None
    signal: Optional[str] = None
    exception: Optional[str] = None
    traceback: Optional[str] = None
    origin: Optional[str] = None  # whose failure the exception is, as the rank itself found (k8sddp_origin)
    detail: str = ""  # what happened, for kinds without exception, code or signal; else the program, where no rank is
    weight: int = CAUSE
    last_step: Optional[int] = None  # optimizer steps that the rank had made; None where nobody counted
    remark: str = ""  # what follows from it, as the coordinator found


def signal_name(number: int) -> str:
    """Return the name of a signal, `signal 64` where it has none."""
    try:
        return signals.Signals(number).name
    except ValueError:
        return "signal %d" % number


def weigh(failure: Failure) -> Failure:
    """Return `failure` with the weight that its origin gives it, unless it has a greater one."""
    return failure._replace(weight=max(failure.weight, WEIGHTS[_origin(failure)]))


def _origin(failure: Failure) -> str:
    """Return whose failure it is: as the rank itself found, else as far as its texts show."""
    text = failure.traceback or ""
    if failure.kind == "signal":
        aborted = failure.signal == "SIGABRT"  # as NCCL's watchdog does
        unsure = k8sddp_origin.DOUBTFUL if failure.signal in WEAK_SIGNALS else k8sddp_origin.OWN
        return k8sddp_origin.of_abort(text) if aborted else unsure
    if failure.origin in WEIGHTS:
        return failure.origin
    if failure.exception is not None:
        return k8sddp_origin.of_report(failure.exception, text)
    return k8sddp_origin.of_output(text) if failure.kind == "exit" else k8sddp_origin.OWN


def first(failures: Sequence[Failure]) -> Failure:
    """Return the root cause among `failures`, which are in the order of their receipt and not empty.

    A signal goes before an exception: no exception elsewhere kills a rank with SIGKILL or SIGSEGV, but a rank killed so
    says nothing itself and is noticed up to 0.1 s later than the exceptions it causes.
    """
    return min(failures, key=lambda failure: (failure.weight, failure.kind != "signal"))


def sentence(failure: Failure) -> str:
    """Return the failure in one sentence: who, where, what, and what follows from it."""
    return "%s; %s" % (_what(failure), failure.remark) if failure.remark else _what(failure)


def last_line(failure: Failure) -> str:
    """Return the last words of a rank that exited, the empty string where it had none."""
    return last_words.error(failure.traceback or "")


def _what(failure: Failure) -> str:
    where = "(pod %s%s)" % (failure.pod, ", node %s" % failure.kube_node if failure.kube_node else "")
    who = "node %d %s" % (failure.node_rank, where)
    if failure.kind == "hang":
        return _one_line(_hang(failure, where))
    if failure.rank is not None:
        who = "rank %d %s" % (failure.rank, where)
    elif failure.kind in PROCESS_KINDS and failure.detail:
        who = "%s on %s" % (failure.detail, who)
    if failure.kind == "early-exit":
        return _one_line("%s exited with code 0 while other ranks still trained" % who)
    if failure.kind == "signal":
        more = last_words.of_signal(failure.signal or "", failure.traceback or "")
        return _one_line("%s was killed by %s%s" % (who, failure.signal, more))
    if failure.kind == "exception" and failure.exception:
        hint = last_words.of_exception(failure.exception)
        return _one_line("%s raised %s%s" % (who, last_words.without_advice(failure.exception), hint))
    if failure.kind == "exit":
        last = last_line(failure)
        return _one_line(
            "%s exited with code %s%s" % (who, failure.exit_code, "; its last line: %s" % last if last else "")
        )
    return _one_line("%s: %s" % (who, failure.detail or failure.exception or failure.kind))


def _hang(failure: Failure, where: str) -> str:
    if failure.rank is None:
        return "it cannot be told which rank hangs: %s" % failure.detail
    return "rank %d %s hangs: %s" % (failure.rank, where, failure.detail)


def exit_code(failure: Failure) -> int:
    """Return the code that index 0 leaves with."""
    if failure.kind == "hang":
        return exit_codes.HANG
    if failure.kind == "infrastructure":
        return exit_codes.INFRASTRUCTURE
    if failure.kind == "preflight":
        return exit_codes.PREFLIGHT
    if failure.kind == "configuration":
        return exit_codes.BAD_CONFIGURATION
    return exit_codes.FAILED if failure.exit_code is None else exit_codes.of_rank(failure.exit_code)


def verdict(
    job: str,
    outcome: str,
    *,
    attempt: int,
    code: int,
    cause: Optional[Failure] = None,
    failures: Sequence[Failure] = (),
    spent: int = 0,
    max_attempts: int = 0,
    history: Sequence[Mapping[str, object]] = (),
) -> verdicts.Verdict:
    """Return the verdict.

    `failures` are those of the last attempt, in the order of their receipt; `cause`, by default the first of them, is
    named. `history` tells how the attempts before it ended (memory.Entry).
    """
    if cause is None and failures:
        cause = first(failures)
    others = {one.rank: one for one in failures if one.rank is not None and cause and one.rank != cause.rank}
    alike = sorted(rank for rank, one in others.items() if cause and _is_like(one, cause))
    victims = sorted(others.keys() - set(alike))
    return verdicts.Verdict(
        job=job,
        outcome=outcome,
        attempt=attempt,
        exit_code=code,
        first_failure=_public(cause) if cause else None,
        victims=tuple(victims[:MAX_VICTIMS]),
        alike=tuple(alike[:MAX_VICTIMS]),
        spent=spent,
        max_attempts=max_attempts,
        history=verdicts.history(history),
    )


def summary(verdict: verdicts.Verdict) -> str:
    """Return a verdict as one line for the log."""
    first_failure = verdict.first_failure
    reason = ": %s" % first_failure.message if first_failure else ""
    if verdict.outcome == verdicts.STOPPED:
        return "this node leaves job %s%s" % (verdict.job, reason or ": it was asked to stop")
    others = ""
    if verdict.alike and first_failure and first_failure.rank is not None:
        others = "; %s failed alike" % wording.ranks((*verdict.alike, first_failure.rank))
    if verdict.victims:
        others += "; %s failed as a consequence" % wording.ranks(verdict.victims)
    if verdict.outcome == verdicts.FAILED and verdict.max_attempts > 1:
        others += "; %d of %d attempts used" % (verdict.spent, verdict.max_attempts)
    return "job %s %s%s%s" % (verdict.job, verdict.outcome, reason, others)


def _is_like(one: Failure, cause: Failure) -> bool:
    """Return whether two ranks failed of the same, so that neither is a consequence of the other."""
    if one.kind == "exit" == cause.kind:
        last = [last_words.error(failure.traceback or "") for failure in (one, cause)]
        return one.exit_code == cause.exit_code and last[0] == last[1]
    return one.kind == "exception" == cause.kind and one.exception == cause.exception


def to_record(failure: Failure) -> dict[str, object]:
    """Return a failure as a JSON object for the coordinator: an exception from its start, a traceback to its end."""
    record: dict[str, object] = dict(failure._asdict())
    if failure.exception is not None:
        record["exception"] = failure.exception[:MAX_SENT]
    if failure.traceback is not None:
        record["traceback"] = failure.traceback[-MAX_SENT:]
    return record


def from_record(record: Mapping[str, object]) -> Failure:
    """Return the failure that a member sent; fields of the wrong type are left out."""

    def text(name: str) -> Optional[str]:
        value = record.get(name)
        return value[-8192:] if isinstance(value, str) else None

    def number(name: str) -> Optional[int]:
        value = record.get(name)
        return value if type(value) is int else None

    return Failure(
        kind=text("kind") or "exit",
        node_rank=number("node_rank") or 0,
        pod=text("pod") or "",
        kube_node=text("kube_node") or "",
        rank=number("rank"),
        exit_code=number("exit_code"),
        signal=text("signal"),
        exception=text("exception"),
        traceback=text("traceback"),
        origin=text("origin"),
        detail=text("detail") or "",
        weight=min(max(number("weight") or CAUSE, CAUSE), VICTIM),
        last_step=number("last_step"),
    )


def _public(failure: Failure) -> verdicts.FirstFailure:
    return verdicts.FirstFailure(
        kind=failure.kind,
        message=sentence(failure),
        rank=failure.rank,
        node_rank=failure.node_rank,
        pod=failure.pod,
        kube_node=failure.kube_node,
        exit_code=failure.exit_code,
        signal=failure.signal,
        exception=_one_line(failure.exception) if failure.exception else None,
        traceback=failure.traceback[-MAX_SENT:] if failure.traceback else None,
        last_step=failure.last_step,
    )


def _one_line(text: str) -> str:
    return wording.shorten(wording.printable(text), MAX_TEXT)
