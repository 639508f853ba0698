"""Carrying out a plan while the connection fails: what is left, what is said, and that the next apply mends it."""

from __future__ import annotations

from pathlib import Path

import pytest

from k8sddp import cluster, constants, errors, manifest, plan
from k8sddp.cluster import execution
from tests.contract.fake_cluster import Fault
from tests.unit.cluster.connected import fake_and_cluster
from tests.unit.render import jobs

CODE = {"path": "."}
WHOLE = [
    "configmaps/digits-code",
    "configmaps/digits-worker",
    "jobs/digits",
    "networkpolicies/digits",
    "services/digits",
]
REQUESTS = 6  # that change something: the Job twice, four children


def apply(connection: cluster.Cluster, *, replace: bool = False, **fields: object) -> list[str]:
    """Apply the digits job; return the report."""
    lines: list[str] = []
    objects = jobs.make_objects(nnodes=2, code=CODE, **fields)
    steps = plan.diff(objects, cluster.observe(connection, objects), replace=replace)
    cluster.execute(steps, connection, report=lines.append)
    return lines


@pytest.mark.parametrize("requests", range(REQUESTS))
def test_client_that_loses_the_server_leaves_what_the_next_apply_finishes(tmp_path: Path, requests: int) -> None:
    """Wherever it breaks: no pod runs before the end, and one apply later everything is there, once."""
    with fake_and_cluster(tmp_path) as (fake, connection, _):
        fake.dies_after(requests)
        with pytest.raises(errors.UnreachableError):
            apply(connection)
        assert [] == fake.pods("digits")
        fake.recovers()
        apply(connection)
        assert WHOLE == fake.names("pods")
        assert 2 == len(fake.pods("digits"))
        owners = [fake.object(*name.split("/"))["metadata"].get("ownerReferences") for name in WHOLE]  # type: ignore[index]
        assert 4 == len([one for one in owners if one])


@pytest.mark.parametrize("requests", range(1, REQUESTS))
def test_client_that_loses_the_server_leaves_what_one_delete_removes(tmp_path: Path, requests: int) -> None:
    """Nothing needs a hunt for leftovers."""
    with fake_and_cluster(tmp_path) as (fake, connection, _):
        fake.dies_after(requests)
        with pytest.raises(errors.UnreachableError):
            apply(connection)
        fake.recovers()
        cluster.delete(connection, "digits", report=lambda _line: None)
        assert [] == fake.names()


@pytest.mark.parametrize("position", range(REQUESTS))
def test_lost_answer_is_no_conflict_with_ourselves(tmp_path: Path, position: int) -> None:
    """The server did it and could not say so; the second try finds it done."""
    with fake_and_cluster(tmp_path) as (fake, connection, _):
        fake.fail(Fault(late=True, method="PATCH", after=position))
        assert {"created"} == {line.split()[-1] for line in apply(connection)}
        assert WHOLE == fake.names("pods")


def test_error_on_the_way_says_what_exists_and_what_to_do(tmp_path: Path) -> None:
    """One sentence, with the class of the cause."""
    with fake_and_cluster(tmp_path) as (fake, connection, _):
        fake.forbidden.add(("patch", "networkpolicies"))
        with pytest.raises(errors.ForbiddenError) as caught:
            apply(connection)
        assert str(caught.value).endswith(
            "; so far job.batch/digits, service/digits, configmap/digits-worker, configmap/digits-code exist "
            "(suspended: no pod runs): run `k8sddp apply FILE` again to finish, or `k8sddp delete digits` to remove it"
        )


def test_error_of_the_first_request_says_nothing_more(tmp_path: Path) -> None:
    """Nothing exists yet."""
    with fake_and_cluster(tmp_path) as (fake, connection, _):
        fake.forbidden.add(("patch", "jobs"))
        with pytest.raises(errors.ForbiddenError) as caught:
            apply(connection)
        assert "so far" not in str(caught.value)
        assert [] == fake.names()


def test_refusal_is_raised_and_sends_nothing(tmp_path: Path) -> None:
    """The plan said no."""
    with fake_and_cluster(tmp_path) as (fake, connection, _):
        apply(connection)
        fake.requests.clear()
        with pytest.raises(errors.RefusedError, match=r"spec\.nnodes: 2 -> 3"):
            objects = jobs.make_objects(nnodes=3, code=CODE)
            steps = plan.diff(objects, cluster.observe(connection, objects), replace=False)
            cluster.execute(steps, connection, report=print)
        assert {"GET"} == {method for method, _, _ in fake.requests}


def test_replace_waits_for_pods_that_take_their_time(tmp_path: Path) -> None:
    """Old and new pods never meet: the new Job is made when the last old pod is gone."""
    with fake_and_cluster(tmp_path) as (fake, connection, time):
        apply(connection)
        old = [pod["metadata"]["name"] for pod in fake.pods("digits")]
        fake.store.lingering_pods = True

        def sleep(seconds: float) -> None:
            time.sleep(seconds)
            assert "jobs/digits" in fake.names()
            if len(time.pauses) in (3, 5):
                fake.finish_deletion(old.pop())

        connection.transport.sleep = sleep
        lines = apply(connection, replace=True, image="other")
        assert [] == old
        assert lines[0] == "job.batch/digits deleted"
        assert lines[-1] == "job.batch/digits created"
        assert 2 == len(fake.pods("digits"))


def test_replace_gives_up_at_its_limit_and_creates_nothing(tmp_path: Path) -> None:
    """A pod on a dead Kubernetes Node never ends; the message has the command that shows it."""
    with fake_and_cluster(tmp_path) as (fake, connection, time):
        apply(connection)
        fake.store.lingering_pods = True
        with pytest.raises(errors.WaitTimeoutError) as caught:
            apply(connection, replace=True, image="other")
        assert str(caught.value).startswith("job.batch/digits is still being deleted after 300 s; look at `kubectl -n ")
        assert execution.DELETE_LIMIT <= time.now < execution.DELETE_LIMIT + 5


def test_job_that_somebody_else_made_meanwhile_goes_on(tmp_path: Path) -> None:
    """Two people apply at once: the second one's plan would suspend the running Job of the first."""
    with fake_and_cluster(tmp_path) as (fake, connection, _):
        objects = jobs.make_objects(nnodes=2, code=CODE)
        late = plan.diff(objects, cluster.observe(connection, objects), replace=False)
        apply(connection)
        fake.requests.clear()
        with pytest.raises(errors.ConflictError, match=r"job\.batch/digits was created by somebody else meanwhile"):
            cluster.execute(late, connection, report=print)
        assert {"GET"} == {method for method, _, _ in fake.requests}
        assert 2 == len(fake.pods("digits"))


def test_warnings_of_the_server_are_returned(tmp_path: Path) -> None:
    """Pod Security says them at the Job; its pods would never appear."""
    with fake_and_cluster(tmp_path) as (fake, connection, _):
        fake.warnings["jobs"] = "would violate PodSecurity"
        objects = jobs.make_objects()
        steps = plan.diff(objects, cluster.observe(connection, objects), replace=False)
        assert ("would violate PodSecurity",) == cluster.execute(steps, connection, report=lambda _line: None)


@pytest.mark.parametrize("lost", [True, False], ids=["the answer is lost", "the answer comes"])
def test_a_queued_job_is_posted_once(tmp_path: Path, lost: bool) -> None:
    """No apply ever sends `suspend`, and an answer that was lost is no conflict with ourselves."""
    with fake_and_cluster(tmp_path) as (fake, connection, _):
        if lost:
            fake.fail(Fault(late=True, method="POST"))
        apply(connection, metadata={"name": "digits", "labels": {constants.LABEL_KUEUE_QUEUE: "team-a"}})
        job = fake.object("jobs", "digits")
        assert job is not None
        assert job["spec"]["suspend"]
        owned = fake.store.managers["jobs", "research", "digits"].owned
        assert not [paths for paths in owned.values() if ("spec", "suspend") in paths]


def test_a_job_that_kueue_gave_the_default_queue_is_left_to_it(tmp_path: Path) -> None:
    """Its webhook adds the label; starting the Job would take it out of the queue again."""
    with fake_and_cluster(tmp_path) as (fake, connection, _):
        fake.store.default_queue = "default"
        lines = apply(connection)
        job = fake.object("jobs", "digits")
        assert job is not None
        assert (True, "default") == (job["spec"]["suspend"], job["metadata"]["labels"][constants.LABEL_KUEUE_QUEUE])
        assert "" == manifest.annotation(job, constants.ANNOTATION_INCOMPLETE)
        assert [] == fake.pods("digits")
        assert "job.batch/digits created" == lines[-1]
