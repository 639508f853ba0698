"""The job's end: its exit code, and the last word to every member. Pure.

Node 0 leaves with the code that tells the Job how it ended; the others with one that leaves the word to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from k8sddp.worker import root_cause
from k8sddp.worker.contract import exit_codes

from . import messages
from .effects import Effect, Send
from .roster import LOCAL, Peer


def code(cause: root_cause.Failure) -> int:
    """Return what node 0 leaves with when the job has failed."""
    own = root_cause.exit_code(cause)
    # 75 would let the Job begin anew, with a budget that it does not have
    return exit_codes.FAILED if own == exit_codes.INFRASTRUCTURE else own


def ends(verdict: Mapping[str, object], own: int, peers: Sequence[Peer]) -> list[Effect]:
    """Return the last words, where node 0 leaves with `own`; it hears them whether it has joined or not."""
    others = own if own == exit_codes.COMPLETE else exit_codes.FOLLOWER_LEAVES
    codes = {peer: own if peer == LOCAL else others for peer in sorted({LOCAL, *peers})}
    return [Send(peer, messages.End(verdict, left, grace=False)) for peer, left in codes.items()]
