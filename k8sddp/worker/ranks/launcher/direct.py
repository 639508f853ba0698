"""One process per rank with torchrun's environment, and no agent: a start in two thirds of the time and of the memory.

The names and values are those of torch/distributed/elastic/agent/server/local_elastic_agent.py (2.4 to 2.15), but for
TORCHELASTIC_USE_AGENT_STORE: with it init_process_group would wait for a store that only an agent serves; without it
rank 0 serves the store itself, at MASTER_PORT.
"""

from __future__ import annotations

import os

from k8sddp.worker.contract import node_env
from k8sddp.worker.gang import messages

from . import rank_env

ERROR_FILE = "error-%d.json"  # in RANK_DIR, by local rank


def commands(
    node: node_env.NodeEnv, attempt: messages.Attempt, words: tuple[str, ...], *, place: rank_env.Place
) -> tuple[rank_env.Command, ...]:
    """Return `python -u script ...` for each rank of this node."""
    shared = rank_env.build(node, attempt, place)
    world_size = str(node.nnodes * node.nproc_per_node)
    shared.update(
        WORLD_SIZE=world_size,
        LOCAL_WORLD_SIZE=str(node.nproc_per_node),
        GROUP_RANK=str(node.node_rank),
        GROUP_WORLD_SIZE=str(node.nnodes),
        ROLE_NAME="default",
        ROLE_WORLD_SIZE=world_size,
        MASTER_ADDR=attempt.master_addr,
        MASTER_PORT=str(attempt.master_port),
        TORCHELASTIC_RESTART_COUNT="0",
        TORCHELASTIC_MAX_RESTARTS="0",
        TORCHELASTIC_RUN_ID=attempt.run_id,
        TORCHELASTIC_USE_AGENT_STORE="False",
    )
    if node.nproc_per_node > 1:
        shared.setdefault("OMP_NUM_THREADS", "1")  # as torchrun does
    shared.setdefault("TORCH_NCCL_ASYNC_ERROR_HANDLING", "1")
    found = []
    for local_rank, rank in enumerate(node.ranks):
        env = {
            **shared,
            "RANK": str(rank),
            "ROLE_RANK": str(rank),
            "LOCAL_RANK": str(local_rank),
            "TORCHELASTIC_ERROR_FILE": os.path.join(place.rank_dir, ERROR_FILE % local_rank),
        }
        found.append(rank_env.Command((place.python, "-u", *words), env, rank))
    return tuple(found)
