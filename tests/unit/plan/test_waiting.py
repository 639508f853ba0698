"""Why a job does not run, in one sentence per kind of reason."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from k8sddp import constants
from tests.unit.plan.observed import make_ended_pod, make_event, make_job, make_pod, make_verdict
from tests.unit.plan.waits import LATER, NOW, POD, not_ready, reason, waiting_for, waits

PENDING = make_pod(phase="Pending", ready=False)


@pytest.mark.parametrize(
    ("expected", "pod"),
    [
        (f"{POD}: image img cannot be pulled: not found: manifest unknown",
         waiting_for("ImagePullBackOff", 'Back-off pulling image "img": ErrImagePull: not found: manifest unknown')),
        (f"{POD}: image img cannot be pulled: no further reason is given "
         "(is the name right, and may the cluster pull it)",
         waiting_for("ImagePullBackOff", 'Back-off pulling image "img"')),
        (f"{POD}: image img cannot be pulled: pull access denied",
         waiting_for("ErrImagePull", 'rpc error: code = Unknown desc = failed to pull and unpack image "img": '
                                     'failed to resolve reference "img": pull access denied')),
        (f"{POD}: image img cannot be pulled: 401 Unauthorized", waiting_for("ErrImagePull", "401 Unauthorized")),
        (f"{POD}: image img is not a valid image name", waiting_for("InvalidImageName", "parse")),
        (f"{POD}: image img is not on the Kubernetes Node and imagePullPolicy is Never",
         waiting_for("ErrImageNeverPull")),
        (f'{POD}: its container cannot be configured: secret "s" not found',
         waiting_for("CreateContainerConfigError", 'secret "s" not found')),
        (f"{POD}: waiting for its container to start", waiting_for("ContainerCreating")),
        (f"{POD}: waiting for the scheduler", make_pod(phase="Pending", ready=False, kube_node="")),
        (f"{POD}: running but not ready: waiting for the other nodes, or starting its ranks", make_pod(ready=False)),
        (f"{POD}: its Kubernetes Node node-a does not answer", make_pod(phase="Unknown")),
    ],
)  # fmt: skip
def test_pod_that_does_not_run_is_explained(expected: str, pod: Any) -> None:
    """Container states, then phases."""
    assert expected == reason(pod, make_pod(1))


def test_the_only_node_waits_for_no_other() -> None:
    """A job of one node is not told of nodes that it has not."""
    job = make_job(spec={"completions": 1})
    assert f"{POD}: running but not ready: starting its ranks" == reason(make_pod(ready=False), job=job)


def test_unschedulable_pod_repeats_the_scheduler_without_preemption() -> None:
    """The second half of its message says the same for preemption."""
    message = (
        "0/3 nodes are available: 1 node(s) had untolerated taint {gpu: present}, 2 Insufficient nvidia.com/gpu. "
        "no new claims to deallocate, preemption: 0/3 nodes are available: 3 No victims."
    )
    conditions = [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}]
    pod = make_pod(phase="Pending", kube_node="", status={"conditions": conditions})
    expected = "0/3 nodes: 1 had untolerated taint {gpu: present}, 2 Insufficient nvidia.com/gpu"
    assert f"{POD}: no Kubernetes Node fits: {expected}" == reason(make_pod(1), pod)


def test_missing_claim_is_named() -> None:
    """The scheduler says it twice and calls it a lack of Nodes."""
    message = '0/2 nodes are available: persistentvolumeclaim "ckpt" not found. not found'
    conditions = [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}]
    pod = make_pod(phase="Pending", kube_node="", status={"conditions": conditions})
    assert f"{POD}: its PersistentVolumeClaim ckpt does not exist in this namespace" == reason(pod)


def test_scheduling_gate_is_named() -> None:
    """Another controller holds it back."""
    conditions = [{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]
    pod = make_pod(phase="Pending", kube_node="", status={"conditions": conditions})
    pod["spec"]["schedulingGates"] = [{"name": "kueue.x-k8s.io/topology"}]
    assert f"{POD}: held back by the scheduling gate kueue.x-k8s.io/topology" == reason(pod)


@pytest.mark.parametrize(
    ("expected", "message"),
    [
        ("the namespace's quota is used up: exceeded quota: compute, requested: cpu=4, used: cpu=8, limited: cpu=8",
         'Error creating: pods "digits-0-x" is forbidden: exceeded quota: compute, requested: cpu=4, used: cpu=8, '
         "limited: cpu=8"),
        ('the namespace\'s Pod Security level refuses the pods: violates PodSecurity "restricted:latest": privileged',
         'Error creating: pods "digits-0-x" is forbidden: violates PodSecurity "restricted:latest": privileged'),
        ("its service account does not exist: error looking up service account ns/sa: serviceaccount \"sa\" not found",
         'Error creating: pods "digits-0-x" is forbidden: error looking up service account ns/sa: '
         'serviceaccount "sa" not found'),
        ("its priority class does not exist: no PriorityClass with name high was found",
         'Error creating: pods "digits-0-x" is forbidden: no PriorityClass with name high was found'),
        ("its pods cannot be created: Internal error occurred: webhook x is down",
         "Error creating: Internal error occurred: webhook x is down"),
    ],
    ids=["quota", "pod security", "service account", "priority class", "other"],
)  # fmt: skip
def test_refused_pods_are_explained_by_the_jobs_events(expected: str, message: str) -> None:
    """There is no pod that could say it."""
    assert expected == reason(events=[make_event("FailedCreate", message, kind="Job", name="digits")])


def test_event_of_a_refusal_that_is_over_is_not_repeated() -> None:
    """All pods exist: what was refused before does not matter."""
    event = make_event("FailedCreate", "Error creating: exceeded quota", kind="Job", name="digits")
    assert "" == reason(make_pod(0), make_pod(1), events=[event])


@pytest.mark.parametrize(
    ("expected", "kind", "message"),
    [
        ('a volume cannot be mounted: configmap "c" not found', "FailedMount", 'configmap "c" not found'),
        ("a volume cannot be attached: timed out", "FailedAttachVolume", "timed out"),
        ("its sandbox cannot be made: no network", "FailedCreatePodSandBox", "no network"),
    ],
)
def test_events_explain_what_the_container_state_does_not(expected: str, kind: str, message: str) -> None:
    """ContainerCreating alone says nothing."""
    assert f"{POD}: {expected}" == reason(waiting_for("ContainerCreating"), events=[make_event(kind, message)])


def test_newest_event_counts() -> None:
    """A mount that failed once and an image that is being pulled now."""
    events = [
        make_event("FailedMount", "no", at="00:00:20"),
        make_event("Pulling", 'Pulling image "big/image:1"', at="00:00:30"),
    ]
    assert f"{POD}: pulling image big/image:1" == reason(PENDING, events=events)
    assert f"{POD}: a volume cannot be mounted: no" == reason(PENDING, events=events[:1])


def test_events_of_other_pods_are_not_believed() -> None:
    """A namespace has many pods."""
    event = make_event("FailedMount", "not mine", name="other-0")
    assert "not mine" not in reason(PENDING, events=[event])


@pytest.mark.parametrize(
    ("expected", "labels", "spec"),
    [
        ("it waits in the Kueue queue team-a", {"kueue.x-k8s.io/queue-name": "team-a"}, {}),
        ("kueue.x-k8s.io/multikueue keeps it suspended; ", {}, {"managedBy": "kueue.x-k8s.io/multikueue"}),
        ("it is suspended (spec.suspend is true); `kubectl patch job digits ", {}, {}),
    ],
    ids=["kueue", "managed by", "by hand"],
)
def test_suspended_job_says_who_waits_for_whom(expected: str, labels: Any, spec: Any) -> None:
    """And how it goes on."""
    job = make_job(spec={"suspend": True, **spec})
    job["metadata"]["labels"].update(labels)
    assert reason(job=job).startswith(expected)


def test_interrupted_creation_says_that_apply_finishes_it() -> None:
    """Nothing has run."""
    job = make_job(spec={"suspend": True})
    job["metadata"]["annotations"][constants.ANNOTATION_INCOMPLETE] = "true"
    remedy = "run `k8sddp apply FILE` again to finish, or `k8sddp delete digits` to remove it"
    assert f"its creation was interrupted; {remedy}" == reason(job=job)


def test_pod_that_is_being_ended_says_why() -> None:
    """A drained or tainted Kubernetes Node."""
    conditions = [{"type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager"}]
    pod = make_pod(status={"conditions": conditions}, deletionTimestamp="2026-11-24T00:00:00Z")
    now = datetime(2026, 11, 24, tzinfo=timezone.utc)
    assert f"{POD}: being ended (DeletionByTaintManager) on Kubernetes Node node-a" in reason(pod, now=now)


@pytest.mark.parametrize(
    ("expected", "pod"),
    [
        ("exit code 143: asked to stop", make_ended_pod(0, exit_code=143)),
        ("exit code 79: left because the gang ended elsewhere", make_ended_pod(0, exit_code=79)),
        ("EvictionByEvictionAPI", make_pod(phase="Failed", status={
            "conditions": [{"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}]})),
    ],
    ids=["asked to stop", "follows", "evicted"],
)  # fmt: skip
def test_pod_that_was_stopped_is_awaited_again(expected: str, pod: Any) -> None:
    """The Job ignores these ends and makes a new pod, also for index 0."""
    sentence = f"{POD}: was stopped ({expected}); the Job makes a new pod after its back-off (10 s or more)"
    assert sentence == reason(pod, make_pod(1))


@pytest.mark.parametrize(
    ("expected", "pod"),
    [
        ("exit code 137: killed by SIGKILL", make_ended_pod(0, exit_code=137)),
        ("OutOfcpu", make_pod(phase="Failed", status={"reason": "OutOfcpu"})),
        ("no reason given", make_pod(phase="Failed")),
    ],
    ids=["killed", "refused", "unknown"],
)
def test_pod_that_ended_within_the_limit_is_awaited_again(expected: str, pod: Any) -> None:
    """The Job counts this end, and makes a new pod all the same; beyond the limit it does not."""
    sentence = f"{POD}: ended ({expected}); the Job makes a new pod after its back-off (10 s or more)"
    assert sentence == reason(pod)
    assert "ended" not in reason(pod, job=make_job(spec={"backoffLimitPerIndex": 0}))


def test_follower_of_a_failed_gang_is_not_awaited() -> None:
    """It leaves with the code of a stopped one, and its verdict says that the gang failed."""
    follower = make_ended_pod(1, exit_code=79, message=make_verdict())
    assert "" == reason(make_pod(0), follower)


def test_missing_pods_are_counted_from_the_lowest_index() -> None:
    """Before the first pod, and in the back-off of the Job."""
    assert "its pods have not been made yet" == reason()
    assert "node 1: no pod yet; the Job makes a new one after its back-off (10 s or more)" == reason(make_pod(0))


@pytest.mark.parametrize(
    ("expected", "job"),
    [
        ("", make_job(conditions={"Complete": ""})),
        ("", make_job(conditions={"Failed": ""})),
        ("it is being deleted", make_job(deletionTimestamp="2026-11-24T00:00:00Z")),
    ],
    ids=["complete", "failed", "deleting"],
)
def test_job_that_is_over_waits_for_nothing(expected: str, job: Any) -> None:
    """What its pods look like does not matter."""
    assert expected == reason(make_ended_pod(0), job=job)


def test_long_message_is_cut() -> None:
    """An image pull error repeats itself for a kilobyte."""
    text = reason(waiting_for("ErrImagePull", "very long " * 200))
    assert len(text) < 300
    assert " ... " in text


def test_nothing_is_waited_for_once_node_0_has_ended() -> None:
    """Its exit is the job's end; the other nodes still run for a moment."""
    straggler = make_pod(1, ready=False)
    assert "" != reason(make_pod(), straggler)
    assert "" == reason(make_ended_pod(exit_code=0), straggler)
    assert "" == reason(make_ended_pod(exit_code=1), straggler)


@pytest.mark.parametrize("kind", ["Complete", "Failed", "SuccessCriteriaMet", "FailureTarget"])
def test_nothing_is_waited_for_once_the_job_ends(kind: str) -> None:
    """The pods that are being ended are not ready, and nobody wants to know why."""
    assert "" == reason(make_pod(ready=False), job=make_job(conditions={kind: "SuccessPolicy"}))


def test_replacement_of_node_0_is_waited_for_again() -> None:
    """A new pod of index 0 counts, not the one that ended before it."""
    younger = make_pod(phase="Pending", ready=False, creationTimestamp="2026-11-24T00:05:00Z")
    assert f"{POD}: waiting for its container to start" == reason(make_ended_pod(exit_code=75), younger)


EARLY = datetime(2026, 11, 24, 0, 0, 40, tzinfo=timezone.utc)  # the pods are half a minute old
SYNC = 'MountVolume.SetUp failed for volume "k8sddp-worker" : failed to sync configmap cache: timed out waiting'
OURS = 'MountVolume.SetUp failed for volume "k8sddp-worker" : configmap "digits-worker" not found'
THEIRS = 'MountVolume.SetUp failed for volume "conf" : configmap "nowhere" not found'


@pytest.mark.parametrize("message", [SYNC, OURS], ids=["cache", "just being created"])
def test_a_mount_that_is_late_does_not_alarm_in_the_first_minute(message: str) -> None:
    """It is the way of things while ConfigMaps are being created; after a minute it is told."""
    pod, events = waiting_for("ContainerCreating"), [make_event("FailedMount", message)]
    early = waits(pod, events=events, now=EARLY)
    assert (f"{POD}: waiting for its volumes to be mounted", 60.0) == (early.sentence, early.patience)
    assert f"{POD}: a volume cannot be mounted: {message}" == reason(pod, events=events)


def test_a_mount_that_cannot_get_better_is_told_at_once() -> None:
    """A ConfigMap of the user's that does not exist."""
    events = [make_event("FailedMount", THEIRS)]
    assert f"{POD}: a volume cannot be mounted: {THEIRS}" == reason(
        waiting_for("ContainerCreating"), events=events, now=EARLY
    )


def test_a_claim_that_is_being_provisioned_does_not_alarm_in_the_first_minute() -> None:
    """The scheduler calls it a Node that does not fit; then the claim is named, with who says why."""
    message = "0/2 nodes are available: pod has unbound immediate PersistentVolumeClaims. not found"
    conditions = [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}]
    pod = make_pod(phase="Pending", kube_node="", status={"conditions": conditions})
    pod["spec"]["volumes"] = [{"name": "ckpt", "persistentVolumeClaim": {"claimName": "ckpt"}}]
    early = waits(pod, now=EARLY)
    assert f"{POD}: its PersistentVolumeClaim ckpt is being provisioned" == early.sentence
    assert early.patience == 60.0
    later = "its PersistentVolumeClaim ckpt: no volume is bound yet; `kubectl describe pvc ckpt` says why"
    assert f"{POD}: {later}" == reason(pod)


def test_waiting_counts_from_when_it_began() -> None:
    """A pod's creation, its loss of readiness, the end of the one before it, the start of the Job."""
    at = {
        "the pod was made": waits(PENDING),
        "readiness was lost": waits(not_ready(since=LATER), make_pod(1)),
        "the pod has ended": waits(make_ended_pod(0, exit_code=143), make_pod(1)),
        "the Job has started": waits(),
    }
    assert {
        "the pod was made": timedelta(minutes=4, seconds=50),
        "readiness was lost": timedelta(minutes=2),
        "the pod has ended": timedelta(minutes=4),
        "the Job has started": timedelta(minutes=4, seconds=50),
    } == {name: NOW - one.since for name, one in at.items() if one.since}


def test_nothing_is_waited_for_once_a_worker_has_told_the_end() -> None:
    """A follower leaves first; node 0 is no longer ready and still runs for a moment."""
    told = json.dumps({"schema": 1, "job": "digits", "outcome": "complete", "exit_code": 0})
    gone = make_ended_pod(1, exit_code=0, reason="Completed", message=told)
    assert "" == reason(not_ready(0, since=LATER), gone)
    assert "" != reason(not_ready(0, since=LATER), make_ended_pod(1, exit_code=0, reason="Completed"))


@pytest.mark.parametrize(
    ("expected", "volume", "word"),
    [
        ("ConfigMap team of volume settings has no key b", {"configMap": {"name": "team"}}, "config"),
        ("Secret pass of volume settings has no key b", {"secret": {"secretName": "pass"}}, "secret"),
    ],
    ids=["ConfigMap", "Secret"],
)
def test_a_key_that_is_not_there_is_named_with_its_object(expected: str, volume: dict[str, object], word: str) -> None:
    """The kubelet names the volume only."""
    pod = waiting_for("ContainerCreating")
    pod["spec"]["volumes"] = [{"name": "settings", **volume}]
    message = f'MountVolume.SetUp failed for volume "settings" : references non-existent {word} key: b'
    assert expected in reason(pod, events=[make_event("FailedMount", message)])
