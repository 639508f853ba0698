"""What single requests do: apply, get, list, delete, and the sentences for what is refused."""

from __future__ import annotations

import re
from typing import Any

import pytest

from k8sddp import cluster, constants, errors
from k8sddp.manifest import ref_of
from k8sddp.plan import annotating
from tests.contract.under_test import UnderTest


def test_apply_says_created_then_unchanged_then_configured(cluster_under_test: UnderTest) -> None:
    """The resourceVersion decides: an apply that changes nothing leaves it."""
    connection = cluster_under_test.connect()
    first = connection.apply(cluster_under_test.config_map(a="1"))
    again = connection.apply(cluster_under_test.config_map(a="1"))
    other = connection.apply(cluster_under_test.config_map(a="2"))
    assert ["created", "unchanged", "configured"] == [first.outcome, again.outcome, other.outcome]
    versions = [one.manifest["metadata"]["resourceVersion"] for one in (first, again, other)]
    assert versions[0] == versions[1] != versions[2]
    connection.delete(ref_of(first.manifest))


def test_a_field_that_is_no_longer_applied_goes(cluster_under_test: UnderTest) -> None:
    """Server-side apply gives up what its manager leaves out."""
    connection = cluster_under_test.connect()
    connection.apply(cluster_under_test.config_map(a="1", b="2"))
    after = connection.apply(cluster_under_test.config_map(a="1")).manifest
    assert {"a": "1"} == after["data"]
    connection.delete(ref_of(after))


def test_every_text_arrives_as_it_was_sent(cluster_under_test: UnderTest) -> None:
    """The body is YAML to the server: its traps are escaped, and nothing else is."""
    connection = cluster_under_test.connect()
    texts = {"a": "\x7f\x85\u2028\ufeff", "b": "\U0001f600 \ud55c", "c": "on", "d": "a: b # c\n\ttab", "e": "\\u0041"}
    stored = connection.apply(cluster_under_test.config_map(**texts)).manifest
    assert texts == stored["data"]
    connection.delete(ref_of(stored))


def test_dry_run_stores_nothing(cluster_under_test: UnderTest) -> None:
    """The answer is an object, the cluster has none."""
    connection = cluster_under_test.connect()
    applied = connection.apply(cluster_under_test.config_map(a="1"), dry_run=True)
    assert {"a": "1"} == applied.manifest["data"]
    assert connection.get(ref_of(applied.manifest)) is None


def service(name: str, **spec: Any) -> dict[str, Any]:
    """Return a headless Service."""
    spec = {"clusterIP": "None", "ports": [{"port": 80, "name": "http"}], **spec}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


def test_unknown_field_is_named_with_its_path(cluster_under_test: UnderTest) -> None:
    """The API server answers an apply with 500, but it is the manifest that is wrong."""
    with pytest.raises(errors.InvalidError) as caught:
        cluster_under_test.connect().apply(service(cluster_under_test.name, bogus=1))
    expected = f"services/{cluster_under_test.name} is not accepted: spec.bogus: field not declared in schema"
    assert expected == str(caught.value)


def test_changed_pod_template_is_one_line_without_the_dump(cluster_under_test: UnderTest) -> None:
    """The server's answer holds the whole template in Go's notation."""
    connection = cluster_under_test.connect()
    job = {**cluster_under_test.objects()[-1]}
    job["spec"] = {**job["spec"], "suspend": True}
    connection.apply(job)
    changed = cluster_under_test.objects(image="other")[-1]
    with pytest.raises(errors.InvalidError) as caught:
        connection.apply({**changed, "spec": {**changed["spec"], "suspend": True}})
    assert re.fullmatch(
        rf"jobs\.batch/{cluster_under_test.name}: spec\.template(\.spec)? cannot be changed in an existing object; "
        "`--replace` deletes and makes it anew",
        str(caught.value),
    )


def test_changed_immutable_config_map_is_one_line(cluster_under_test: UnderTest) -> None:
    """The payload of a running job cannot change under it."""
    connection = cluster_under_test.connect()
    stored = connection.apply({**cluster_under_test.config_map(a="1"), "immutable": True}).manifest
    with pytest.raises(errors.InvalidError, match=r"data cannot be changed in an existing object"):
        connection.apply({**cluster_under_test.config_map(a="2"), "immutable": True})
    connection.delete(ref_of(stored))


def test_conflict_names_the_field_and_the_other_manager(cluster_under_test: UnderTest) -> None:
    """Who changed it, and what to do."""
    connection = cluster_under_test.connect()
    connection.apply(cluster_under_test.config_map(a="1"))
    stored = connection.apply(cluster_under_test.config_map(a="2"), field_manager="gitops", force=True).manifest
    with pytest.raises(errors.ConflictError) as caught:
        connection.apply(cluster_under_test.config_map(a="1"))
    assert f"configmaps/{cluster_under_test.name}: .data.a is managed by gitops; " in str(caught.value)
    connection.delete(ref_of(stored))


def test_what_is_absent_is_none_empty_or_false(cluster_under_test: UnderTest) -> None:
    """Absence is an answer, not an error."""
    connection = cluster_under_test.connect()
    assert connection.get(cluster_under_test.job_ref) is None
    assert () == cluster_under_test.listed(connection, "v1", "Pod")
    assert not connection.delete(cluster_under_test.job_ref)


def test_listed_objects_are_as_complete_as_read_ones(cluster_under_test: UnderTest) -> None:
    """A list leaves out apiVersion and kind of its items; they are put back."""
    connection = cluster_under_test.connect()
    stored = connection.apply(cluster_under_test.config_map(a="1")).manifest
    listed = cluster_under_test.listed(connection, "v1", "ConfigMap")
    assert [connection.get(ref_of(stored))] == [{**one} for one in listed]
    connection.delete(ref_of(stored))


def test_delete_by_uid_spares_a_namesake(cluster_under_test: UnderTest) -> None:
    """What came later under the same name is not what was meant."""
    connection = cluster_under_test.connect()
    stored = connection.apply(cluster_under_test.config_map(a="1")).manifest
    assert not connection.delete(ref_of(stored), uid="00000000-0000-0000-0000-000000000000")
    assert connection.get(ref_of(stored)) is not None
    assert connection.delete(ref_of(stored), uid=stored["metadata"]["uid"])


def test_missing_namespace_is_named(cluster_under_test: UnderTest) -> None:
    """Not the object is missing, the namespace is."""
    admin = cluster_under_test.connect(namespace="no-such", kubeconfig=cluster_under_test.admin_kubeconfig)
    with pytest.raises(errors.NotFoundError, match="namespace no-such does not exist in the cluster of context"):
        admin.apply(cluster_under_test.config_map(a="1"))


def test_forbidden_says_who_may_not_do_what_where(cluster_under_test: UnderTest) -> None:
    """And which role mends it."""
    there = cluster_under_test.connect(namespace=cluster_under_test.forbidden_namespace())
    with pytest.raises(errors.ForbiddenError) as caught:
        there.apply(service(cluster_under_test.name), observed_version="")
    assert re.fullmatch(
        rf"user '[^']+' may not patch services in namespace {there.namespace}; "
        r"ask its administrator for the role `edit` there, or choose another namespace with -n",
        str(caught.value),
    )


def test_wrong_token_is_unauthorized(cluster_under_test: UnderTest) -> None:
    """401 says log in again; the token is not shown."""
    wrong = cluster_under_test.kubeconfig_with(user={"token": "wrong-token"})
    with pytest.raises(errors.UnauthorizedError, match="does not accept these credentials") as caught:
        cluster_under_test.connect(kubeconfig=wrong).get(cluster_under_test.job_ref)
    assert "wrong-token" not in str(caught.value)


def test_log_of_a_pod_that_does_not_exist_is_not_found(cluster_under_test: UnderTest) -> None:
    """A misspelt pod is said at once, also when following."""
    connection = cluster_under_test.connect()
    with pytest.raises(errors.NotFoundError, match=f"pods/{cluster_under_test.name} does not exist"):
        list(cluster.logs(connection, cluster_under_test.name, follow=True))


def test_server_version_is_read(cluster_under_test: UnderTest) -> None:
    """It is at least the minimum, or the suite means nothing."""
    assert cluster_under_test.connect().server_version() >= (1, 33)


def test_a_job_is_marked_and_a_namesake_is_not(cluster_under_test: UnderTest) -> None:
    """The first failure is a field of its own manager: one apply with the uid sets it, and changes nothing else."""
    connection = cluster_under_test.connect()
    job = next(one for one in cluster_under_test.objects() if one["kind"] == "Job")
    stored = connection.apply(job).manifest
    metadata = {"name": stored["metadata"]["name"], "annotations": {constants.ANNOTATION_FIRST_FAILURE: "rank 1 ..."}}

    def mark(uid: str) -> Any:
        note = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {**metadata, "uid": uid}}
        return connection.apply(note, field_manager=annotating.FIELD_MANAGER, force=True, observed_version="").manifest

    marked = mark(stored["metadata"]["uid"])
    assert "rank 1 ..." == marked["metadata"]["annotations"].pop(constants.ANNOTATION_FIRST_FAILURE)
    assert (stored["metadata"]["annotations"], stored["spec"]) == (marked["metadata"]["annotations"], marked["spec"])
    after = connection.apply(job).manifest
    assert "rank 1 ..." == after["metadata"]["annotations"][constants.ANNOTATION_FIRST_FAILURE]
    with pytest.raises(errors.ClusterError):
        mark("00000000-0000-4000-8000-000000000000")
    connection.delete(ref_of(stored))
