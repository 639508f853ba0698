"""What the gang's two state machines ask for; `driver.py` carries it out, in order. Pure values.

The member of every node asks for the first ones, the coordinator on node 0 for Send and Close, both for Note. What
they decide is all in here: a test needs no socket and no process to see it.
"""

from __future__ import annotations

from typing import NamedTuple, Union

from k8sddp.worker.contract import verdict as verdicts

from . import messages
from .roster import Peer


class Tell(NamedTuple):
    """Send `message` to the coordinator."""

    message: messages.Message


class Dial(NamedTuple):
    """Look for the coordinator (again)."""


class Visit(NamedTuple):
    """Make the visits that node 0 asks for; then call `checked`."""

    check: messages.Check


class Launch(NamedTuple):
    """Start the ranks of this node."""

    attempt: messages.Attempt


class LookAtRanks(NamedTuple):
    """Look at the ranks of this node; then call `seen` with what there was, and `message`."""

    message: messages.Look


class EndRanks(NamedTuple):
    """End every process of this node, after a SIGTERM and the grace period if `grace`; then call `ranks_ended`."""

    grace: bool


class Exit(NamedTuple):
    """Record `verdict` and leave with `code`."""

    verdict: verdicts.Verdict
    code: int


class Send(NamedTuple):
    """Send `message` to `peer`."""

    peer: Peer
    message: messages.Message


class Close(NamedTuple):
    """Close the connection to `peer` once what was sent has left."""

    peer: Peer


class Note(NamedTuple):
    """Tell the log."""

    text: str


Effect = Union[Tell, Dial, Visit, Launch, LookAtRanks, EndRanks, Exit, Send, Close, Note]
