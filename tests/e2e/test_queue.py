"""A job in a Kueue queue, where somebody else plays Kueue: it waits suspended, and runs when it is let in."""

import json
from pathlib import Path

import pytest

from tests.e2e import jobs
from tests.e2e.users import User, eventually

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

QUEUE = "kueue.x-k8s.io/queue-name"


def test_a_queued_job_waits_suspended_and_runs_when_it_is_let_in(user: User, tmp_path: Path) -> None:
    """No pod before, nothing changed by a second apply, complete afterwards."""
    file = jobs.write(tmp_path, "queued", jobs.DONE, image=user.cluster.image, nnodes=2)
    job = json.loads(file.read_text())
    job["metadata"]["labels"] = {QUEUE: "team-a"}
    file.write_text(json.dumps(job))
    with user.running("run", str(file)) as run:
        run.until("queued in team-a: Kueue starts it")
        run.until("it waits in the Kueue queue team-a")
        user.await_condition("queued", "Suspended")
        assert "Queued" in user.k8sddp("get", "queued").out
        before = user.versions("queued")
        again = user.k8sddp("apply", str(file))
        assert ["unchanged"] * 5 == [line.split()[-1] for line in again.out.splitlines()]
        assert before == user.versions("queued")
        assert [] == user.pods("queued")
        user.kubectl("patch", "job", "queued", "--type=merge", '--patch={"spec":{"suspend":false}}')
        run.until("queued complete")
        assert 0 == run.process.wait(60)


def test_a_config_map_without_its_key_is_named(user: User, tmp_path: Path) -> None:
    """The pod starts all the same, with an empty folder: the job ends with the sentence."""
    user.kubectl("create", "configmap", "keyless", "--from-literal=other=1")
    file = jobs.write(tmp_path, "keyless-job", jobs.DONE, image=user.cluster.image, code={"configMap": "keyless"})
    ended = user.k8sddp("run", str(file))
    assert 78 == ended.code
    assert "ConfigMap keyless has no key code.zip: it must hold the code folder" in ended.err


def test_delete_takes_what_was_rendered_and_applied_by_kubectl(user: User, tmp_path: Path) -> None:
    """Nothing of it has an owner; and the first line says where that is."""
    file = jobs.write(tmp_path, "rendered", jobs.HOLD, image=user.cluster.image)
    before = user.objects()
    user.kubectl("apply", "--server-side", "--filename=-", stdin=user.k8sddp("render", str(file)).out)
    eventually(lambda: user.pods("rendered"), len)
    ended = user.k8sddp("delete", "rendered")
    assert 0 == ended.code
    assert ended.err.startswith("context ")
    assert f", namespace {user.namespace}\n" in ended.err
    user.await_objects(before)
