"""torchrun with static rendezvous and no restarts of its own.

Static numbers ranks by completion index, exchanges JSON instead of pickles and compares no clocks. Restarting is the
gang's business: torchrun's own restarts meet the dead generation's keys in its store and hang two times in five.
Source of the flags: torch/distributed/run.py, the same from 2.4 on.
"""

from __future__ import annotations

from k8sddp.worker.contract import node_env
from k8sddp.worker.gang import messages

from . import rank_env


def commands(
    node: node_env.NodeEnv, attempt: messages.Attempt, words: tuple[str, ...], *, place: rank_env.Place
) -> tuple[rank_env.Command, ...]:
    """Return `python -m torch.distributed.run ...` for this node."""
    argv = (
        place.python,
        "-m",
        "torch.distributed.run",
        "--nnodes=%d" % node.nnodes,
        "--node-rank=%d" % node.node_rank,
        "--nproc-per-node=%d" % node.nproc_per_node,
        "--master-addr=%s" % attempt.master_addr,
        "--master-port=%d" % attempt.master_port,
        "--max-restarts=0",
        "--rdzv-id=%s" % attempt.run_id,
        "--log-dir=%s/torchrun" % place.rank_dir,  # its error files; by default it leaves a folder behind in /tmp
        # torchrun reads its script's arguments as string.Template (elastic/utils/api.py, macros): `$$` arrives as `$`
        *(word.replace("$", "$$") for word in words),
    )
    return (rank_env.Command(argv, rank_env.build(node, attempt, place)),)
