"""What starts the ranks of one node: one function per launcher, the same for all of them.

A launcher turns (node, attempt, the user's words, the environment) into a Command and does nothing else; the attempt
starts it, watches it and ends it.
"""

from __future__ import annotations

from k8sddp.worker import node_env
from k8sddp.worker.gang import messages

from . import rank_env, spawn, torchrun
from .rank_env import Command


def command(
    node: node_env.NodeEnv, attempt: messages.Attempt, words: tuple[str, ...], *, place: rank_env.Place
) -> Command:
    """Return the command that starts the ranks of `node`, by the launcher that the job names."""
    build = torchrun.command if node.launcher == "torchrun" else spawn.command
    return build(node, attempt, words, place=place)


__all__ = ["Command", "command"]
