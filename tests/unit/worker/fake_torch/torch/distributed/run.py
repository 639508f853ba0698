"""A launcher with torchrun's flags, process model and habits: a session per rank, a look every 0.02 s, exit code 1."""

import argparse
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from torch.distributed.elastic.multiprocessing.api import PContext, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

parser = argparse.ArgumentParser()
for flag in ("--nnodes", "--node-rank", "--nproc-per-node", "--master-port", "--max-restarts"):
    parser.add_argument(flag, type=int, required=True)
for flag in ("--master-addr", "--rdzv-id", "--log-dir"):
    parser.add_argument(flag, required=True)
parser.add_argument("words", nargs=argparse.REMAINDER)


def start(args, local_rank):
    env = dict(os.environ)
    env["RANK"] = str(args.node_rank * args.nproc_per_node + local_rank)
    env["LOCAL_RANK"] = str(local_rank)
    env["WORLD_SIZE"] = str(args.nnodes * args.nproc_per_node)
    env["MASTER_ADDR"] = args.master_addr
    env["MASTER_PORT"] = str(args.master_port)
    env["TORCHELASTIC_ERROR_FILE"] = f"{args.log_dir}/error-{local_rank}.json"
    return subprocess.Popen([sys.executable, "-u", *args.words], env=env, start_new_session=True)


def main():
    args = parser.parse_args()
    assert args.max_restarts == 0
    Path(args.log_dir).mkdir(parents=True, exist_ok=True)
    ranks = [start(args, local_rank) for local_rank in range(args.nproc_per_node)]

    context = PContext(ranks)

    def forward(signum, frame):
        raise SignalException(signum)

    signal.signal(signal.SIGTERM, forward)
    try:
        watch(context)
    except SignalException as error:
        print(f"Received {error} death signal, shutting down workers", file=sys.stderr)
        context.close(signal.SIGTERM)
        raise


def watch(context):
    ranks = context.ranks
    while True:
        codes = [rank.poll() for rank in ranks]
        failed = [index for index, code in enumerate(codes) if code]
        for index in failed:
            ProcessFailure(index, ranks[index].pid, codes[index])
        if failed:
            context.close()
            raise ChildFailedError("FAILED")
        if None not in codes:
            return
        time.sleep(0.02)


if __name__ == "__main__":
    main()
