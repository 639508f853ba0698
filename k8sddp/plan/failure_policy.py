"""What a Job's podFailurePolicy says of a pod that has ended: the one reading of it, for clusters and local runs. Pure.

The first rule that matches decides; a rule names exit codes or conditions of the pod. Source: matchPodFailurePolicy in
kubernetes/kubernetes, pkg/controller/job/pod_failure_policy.go.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

IGNORE: Final = "Ignore"
COUNT: Final = "Count"
FAIL_INDEX: Final = "FailIndex"
FAIL_JOB: Final = "FailJob"


def action(job_spec: Mapping[str, Any], *, exit_code: int | None, conditions: Collection[tuple[str, str]]) -> str:
    """Return what happens when a pod has failed: an action of the policy, Count where no rule matches.

    `exit_code` is the container's, None where it never ran; `conditions` are type and status of the pod's.
    """
    for rule in (job_spec.get("podFailurePolicy") or {}).get("rules") or ():
        wanted = rule.get("onPodConditions") or ()
        if any((one["type"], one.get("status", "True")) in conditions for one in wanted):
            return str(rule["action"])
        codes = rule.get("onExitCodes")
        if codes and exit_code and (exit_code in codes["values"]) == (codes["operator"] == "In"):
            return str(rule["action"])
    return COUNT
