"""Runs the rendered Job on this machine: every pod a process with an address and folders of its own.

`run` is the only entrance. It starts exactly what a cluster would start, judges the Job by its own rules, and leaves
nothing behind but the user's volumes. It never prints: output and remarks go to the caller's functions.
"""

from k8sddp.local.output import Output
from k8sddp.local.results import Result
from k8sddp.local.running import run

__all__ = ["Output", "Result", "run"]
