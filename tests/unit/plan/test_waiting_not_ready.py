"""Pods that run and are not Ready are told apart, and what explains them is said."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest

from tests.unit.plan.observed import make_event, make_job, make_pod
from tests.unit.plan.waits import LATER, POD, not_ready, reason


def unhealthy(message: str, at: str = "00:03:00") -> Any:
    """Return the event of a probe that failed."""
    return make_event("Unhealthy", f"Readiness probe failed: {message}", at=at)


TIME_OUT = 'Get "http://10.0.1.2:29401/readyz": context deadline exceeded (Client.Timeout exceeded)'
REFUSED = "HTTP probe failed with statuscode: 503"


@pytest.mark.parametrize(
    ("expected", "pod", "events"),
    [
        ("running but not ready: waiting for the other nodes, or starting its ranks", not_ready(), ()),
        ("its part in the last attempt is over: the gang starts anew, or the job ends", not_ready(since=LATER), ()),
        ("its Kubernetes Node node-a does not answer", not_ready(since=LATER, containers="True"), ()),
        ("its worker answers no probe: stopped, starved of CPU, or cut off from its kubelet",
         not_ready(since=LATER), [unhealthy(REFUSED, at="00:00:30"), unhealthy(TIME_OUT)]),
        ("its part in the last attempt is over: the gang starts anew, or the job ends",
         not_ready(since=LATER), [unhealthy(TIME_OUT, at="00:01:00"), unhealthy(REFUSED)]),
    ],
    ids=["starting", "lost its gang", "its kube node is away", "frozen", "was frozen once"],
)  # fmt: skip
def test_pods_that_run_and_are_not_ready_are_told_apart(expected: str, pod: Any, events: Any) -> None:
    """By what Kubernetes alone says; the other node is ready."""
    assert f"{POD}: {expected}" == reason(pod, make_pod(1), events=events)


@pytest.mark.parametrize(
    ("expected", "told"),
    [
        ("node 1 (pod digits-1-abcde): running, but not connected to node 0: still starting, or cut off from node 0",
         {0: "waiting", 1: "missing"}),
        (f"{POD}: running but not ready: its worker is just starting", {0: "missing", 1: "missing"}),
        ("node 1 (pod digits-1-abcde): ending the ranks of the last attempt", {0: "complete", 1: "ending"}),
        ("", {0: "training", 1: "training"}),
    ],
    ids=["node 1 is missing", "node 0 has not joined itself", "node 1 is ending", "the kubelets have not looked yet"],
)  # fmt: skip
def test_what_node_0_says_is_believed_over_what_the_pods_look_like(expected: str, told: Any) -> None:
    """It names the node that is awaited, and not one that waits itself."""
    assert expected == reason(not_ready(0), not_ready(1), told=told)


def test_a_node_that_only_its_kubelet_takes_for_well_is_named() -> None:
    """Frozen or cut off: node 0 has noticed within seconds, the next probe comes later."""
    said = reason(not_ready(0, since=LATER), make_pod(1), told={0: "waiting", 1: "missing"})
    assert said.startswith("node 1 (pod digits-1-abcde): node 0 does not hear of it any more")


def test_a_node_without_a_pod_is_named_and_not_the_one_that_waits_for_it() -> None:
    """Node 0 says that node 1 is missing, and there is no pod that could come."""
    assert reason(not_ready(0), told={0: "waiting", 1: "missing"}).startswith("node 1: no pod yet")


def test_an_unreachable_kube_node_says_how_long_the_pod_bears_it() -> None:
    """The toleration that we render: a kubelet that comes back in time ends nothing."""
    pod = not_ready(since=LATER, containers="True")
    pod["spec"]["tolerations"] = [{"key": "node.kubernetes.io/unreachable", "tolerationSeconds": 30}]
    assert reason(pod).endswith("does not answer; if it stays so for 30 s, the pod is given up")


def test_a_dead_kube_node_is_named_with_both_ways_out() -> None:
    """The Job never replaces a pod that may still run: what the user types, attached or not, in this namespace."""
    conditions = [{"type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager"}]
    gone = make_pod(status={"conditions": conditions}, deletionTimestamp="2026-11-24T00:01:00Z", namespace="ml")
    said = reason(gone, make_pod(1))
    assert said.startswith(f"{POD}: given up with its Kubernetes Node node-a, which does not answer; the Job never")
    assert "`k8sddp run FILE`" in said
    free = """`kubectl patch pod digits-0-abcde -n ml -p '{"metadata":{"finalizers":null}}' && """
    assert free + "kubectl delete pod digits-0-abcde -n ml --force`" in said
    assert "given up" not in reason(gone, make_pod(1), now=datetime(2026, 11, 24, 0, 1, 5, tzinfo=timezone.utc))


def test_nodes_that_wait_for_the_same_are_told_together() -> None:
    """The lowest is named, and how many more; one that waits for something else is not counted."""
    job, pods = make_job(spec={"completions": 4}), [make_pod(i, phase="Pending", ready=False) for i in range(3)]
    other = make_pod(3, phase="Pending", ready=False, kube_node="")
    assert f"{POD} and 2 more: waiting for its container to start" == reason(*pods, other, job=job)


@pytest.mark.parametrize(
    ("expected", "kind", "message"),
    [
        ("the autoscaler adds one: gpu-pool 1->2 (max: 8)", "TriggeredScaleUp",
         "pod triggered scale-up: [{gpu-pool 1->2 (max: 8)}]"),
        ("the autoscaler adds none: 1 max node group size reached", "NotTriggerScaleUp",
         "pod didn't trigger scale-up: 1 max node group size reached"),
        ("the autoscaler adds one: nodeclaim/gpu-x7k2p", "Nominated", "Pod should schedule on: nodeclaim/gpu-x7k2p"),
    ],
    ids=["cluster-autoscaler", "none", "karpenter"],
)  # fmt: skip
def test_what_the_autoscaler_does_is_said(expected: str, kind: str, message: str) -> None:
    """Ten minutes without a Node are no fault where one is on its way."""
    message_of = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."
    conditions = [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message_of}]
    pod = make_pod(phase="Pending", kube_node="", status={"conditions": conditions})
    said = reason(pod, events=[make_event(kind, message)])
    assert f"{POD}: no Kubernetes Node fits: 0/1 nodes: 1 Insufficient nvidia.com/gpu; {expected}" == said
