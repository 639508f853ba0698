"""Rank arithmetic: which rank lives on which node. Pure, and the only place where it is done outside the worker.

RANK = node_rank * nproc_per_node + local_rank, as torchrun's static rendezvous numbers them; the node rank is the
pod's completion index, so a rank never moves.
"""

from __future__ import annotations


def world_size(nnodes: int, nproc_per_node: int) -> int:
    """Return the number of ranks."""
    return nnodes * nproc_per_node


def node_rank(rank: int, nproc_per_node: int) -> int:
    """Return the node, that is the completion index, on which `rank` runs."""
    return rank // nproc_per_node


def local_rank(rank: int, nproc_per_node: int) -> int:
    """Return the place of `rank` among the ranks of its node."""
    return rank % nproc_per_node


def ranks_of_node(node: int, nproc_per_node: int) -> range:
    """Return the ranks that run on `node`."""
    return range(node * nproc_per_node, (node + 1) * nproc_per_node)
