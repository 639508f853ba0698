"""The script starts its own ranks, as with `torch.multiprocessing.spawn`: plain Python, once per node.

The environment follows the convention of PyTorch's imagenet example: RANK and WORLD_SIZE count nodes, and the script
multiplies by its processes per node. No TORCHELASTIC_ name is passed on: TORCHELASTIC_USE_AGENT_STORE would make
init_process_group wait for a store that nobody serves.
"""

from __future__ import annotations

from k8sddp.worker.contract import node_env
from k8sddp.worker.gang import messages

from . import rank_env


def commands(
    node: node_env.NodeEnv, attempt: messages.Attempt, words: tuple[str, ...], *, place: rank_env.Place
) -> tuple[rank_env.Command, ...]:
    """Return `python -u script ...` for this node."""
    env = rank_env.build(node, attempt, place)
    env["MASTER_ADDR"] = attempt.master_addr
    env["MASTER_PORT"] = str(attempt.master_port)
    env["NNODES"] = env["WORLD_SIZE"] = str(node.nnodes)
    env["NODE_RANK"] = env["RANK"] = str(node.node_rank)
    env["LOCAL_WORLD_SIZE"] = str(node.nproc_per_node)
    return (rank_env.Command((place.python, "-u", *words), env),)
