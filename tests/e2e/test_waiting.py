"""A job that cannot run says why in one true sentence: on `run`'s waiting line and in `get`."""

import json
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import jobs
from tests.e2e.users import User, eventually

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

NO_IMAGE = "registry.invalid/nobody/nothing:1"
CLAIM = {"name": "model", "mountPath": "/model", "persistentVolumeClaim": {"claimName": "nowhere"}}
FILES = {"name": "conf", "mountPath": "/conf", "configMap": {"name": "nowhere"}}
HOST = {"name": "host", "mountPath": "/host", "hostPath": {"path": "/var"}}

REASONS: dict[str, tuple[Mapping[str, Any], tuple[str, ...]]] = {
    "image-missing": ({"image": NO_IMAGE}, (f": image {NO_IMAGE} cannot be pulled: ",)),
    "no-such-node": (
        {"scheduling": {"nodeSelector": {"zone": "moon"}}},
        (": no Kubernetes Node fits: 0/", "didn't match Pod's node affinity/selector"),
    ),
    "too-much-memory": (
        {"resources": {"memory": "900Ti"}},
        (": no Kubernetes Node fits: 0/", "Insufficient memory"),
    ),
    "claim-missing": (
        {"volumes": [CLAIM]},
        (": its PersistentVolumeClaim nowhere does not exist in this namespace",),
    ),
    "configmap-missing": (
        {"volumes": [FILES]},
        (": a volume cannot be mounted: ", 'configmap "nowhere" not found'),
    ),
    "env-missing": (
        {"envFrom": [{"secretRef": {"name": "nowhere"}}]},
        (": its container cannot be configured: ", 'secret "nowhere" not found'),
    ),
    "runs-as-root": (
        {"securityContext": {"profile": "platform"}},
        (": its container cannot be configured: ", "container has runAsNonRoot and image will run as root"),
    ),
    "host-path": (
        {"volumes": [HOST]},
        ("the namespace's Pod Security level refuses the pods: ", 'violates PodSecurity "restricted', "hostPath"),
    ),
    "no-account": (
        {"serviceAccountName": "nobody"},
        ("its service account does not exist: ", 'serviceaccount "nobody" not found'),
    ),
    "no-priority": (
        {"scheduling": {"priorityClassName": "urgent"}},
        ("its priority class does not exist: ", "no PriorityClass with name urgent was found"),
    ),
}


def check_waiting(user: User, file: Path, texts: tuple[str, ...]) -> None:
    """Check that `run` says the sentence while it waits, `get` the same, and Ctrl-C leaves the job."""
    name = file.parent.name
    with user.running("run", str(file)) as run:
        run.until("waiting ", *texts)
        shown = eventually(lambda: user.k8sddp("get", name).out, lambda out: all(text in out for text in texts))
        assert 1 == sum(line.startswith("waiting ") for line in shown.splitlines())
        assert 130 == run.interrupt()
        run.until(f"detached; {name} runs on")
    assert 0 == user.k8sddp("delete", name).code


@pytest.mark.parametrize("case", REASONS)
def test_the_reason_is_said(user: User, tmp_path: Path, case: str) -> None:
    """Each reason in Kubernetes' own words, behind ours."""
    fields, texts = REASONS[case]
    check_waiting(user, jobs.write(tmp_path, case, jobs.DONE, **{"image": user.cluster.image, **fields}), texts)


def test_a_used_up_quota_is_said(user: User, tmp_path: Path) -> None:
    """The quota is named with what is asked and what is there."""
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "small"},
        "spec": {"hard": {"pods": "0"}},
    }
    scope = ("--namespace", user.namespace)
    user.cluster.kubectl(*scope, "create", "--filename=-", stdin=json.dumps(quota))
    try:
        eventually(lambda: user.object("resourcequota", "small").get("status", {}).get("hard"), bool)
        file = jobs.write(tmp_path, "poor", jobs.DONE, image=user.cluster.image)
        check_waiting(user, file, ("the namespace's quota is used up: ", "exceeded quota: small", "limited: pods=0"))
    finally:
        user.cluster.kubectl(*scope, "delete", "resourcequota", "small")


def test_somebody_who_may_only_look_is_refused_in_one_sentence(user: User, tmp_path: Path) -> None:
    """`apply` names the missing right and creates nothing; what `view` allows works."""
    file = jobs.write(tmp_path, "looked", jobs.DONE, image=user.cluster.image)
    bob = f"bob-{uuid.uuid4().hex[:6]}"
    looker = User(user.cluster, user.namespace, user.cluster.user_kubeconfig(bob, user.namespace))
    scope = ("--namespace", user.namespace)
    user.cluster.kubectl(*scope, "delete", "rolebinding", f"{bob}-edit")
    account = f"--serviceaccount={user.namespace}:{bob}"
    user.cluster.kubectl(*scope, "create", "rolebinding", f"{bob}-view", "--clusterrole=view", account)
    eventually(lambda: looker.k8sddp("get").code, lambda code: code == 0)
    before = user.objects()
    refused = looker.k8sddp("apply", str(file))
    assert (1, "") == (refused.code, refused.out)
    (sentence,) = [line for line in refused.err.splitlines() if line.startswith("error: ")]
    assert f"{bob}' may not patch jobs.batch in namespace {user.namespace}; ask its administrator" in sentence
    assert before == user.objects()


def test_a_namespace_that_does_not_exist_is_named(user: User, tmp_path: Path) -> None:
    """The admin gets the namespace's name; who has no rights in one is told that."""
    file = jobs.write(tmp_path, "lost", jobs.DONE, image=user.cluster.image)
    admin = User(user.cluster, "nowhere", user.cluster.admin_kubeconfig)
    refused = admin.k8sddp("apply", str(file), "-n", "nowhere")
    assert 1 == refused.code
    assert "namespace nowhere" in refused.err.replace('"', "").splitlines()[-1]
    stranger = user.k8sddp("apply", str(file), "-n", "kube-system")
    assert 1 == stranger.code
    assert "may not get services in namespace kube-system; ask its administrator" in stranger.err.splitlines()[-1]
