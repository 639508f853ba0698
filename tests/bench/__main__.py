"""Print every figure as a JSON line; `python -m tests.bench startup` (or another of GROUPS) for one group."""

from __future__ import annotations

import json
import os
import sys

from tests.bench import applying, hanging, launching, overhead, restarting, restarting_cluster, startup, telling

GROUPS = {
    "startup": startup.figures,
    "launching": launching.figures,
    "restarting": restarting.figures,
    "restarting-cluster": restarting_cluster.figures,
    "applying": applying.figures,
    "overhead": overhead.figures,
    "telling": telling.figures,
    "hanging": hanging.figures,
}

if __name__ == "__main__":
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # users have their bytecode cached
    for name in sys.argv[1:] or GROUPS:
        for figure in GROUPS[name]():
            print(json.dumps(figure), flush=True)
