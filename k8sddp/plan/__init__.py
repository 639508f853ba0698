"""Decide: what the cluster should hold and what it holds -> the steps to take, and what to tell the user.

    desired, Snapshot -- diffing.diff ------> Plan of actions, or a refusal
    Job, pods, events -- statuses.status ---> JobStatus
     and /status      |- waiting.reason ----> why it does not run, which node is awaited, since when
                      `- replacing.due -----> lost pods that need a replacement, and what it looks like

Pure: values in, values out; no request, no clock (`now` is an argument). The CLI and the operator call the same
functions, so they cannot disagree.
"""

from k8sddp.plan.actions import Plan
from k8sddp.plan.diffing import diff
from k8sddp.plan.failures import loss
from k8sddp.plan.progress import Progress
from k8sddp.plan.snapshot import Snapshot
from k8sddp.plan.statuses import JobStatus, NodeStatus, status
from k8sddp.plan.waiting import Waiting, reason

__all__ = ["JobStatus", "NodeStatus", "Plan", "Progress", "Snapshot", "Waiting", "diff", "loss", "reason", "status"]
