"""What starts the ranks of one node: one module per launcher, the same for all of them.

A launcher turns (node, attempt, the user's words, the environment) into Commands and does nothing else; the attempt
starts them, watches them and ends them. torchrun and spawn are one process that starts the ranks; direct is one process
per rank.
"""

from __future__ import annotations

from k8sddp.worker.contract import node_env
from k8sddp.worker.gang import messages

from . import direct, rank_env, spawn, torchrun
from .rank_env import Command


def commands(
    node: node_env.NodeEnv, attempt: messages.Attempt, words: tuple[str, ...], *, place: rank_env.Place
) -> tuple[Command, ...]:
    """Return the commands that start the ranks of `node`, by the launcher that the job names."""
    launchers = {"torchrun": torchrun.commands, "direct": direct.commands, "spawn": spawn.commands}
    return launchers[node.launcher](node, attempt, words, place=place)


__all__ = ["Command", "commands"]
