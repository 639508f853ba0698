"""Answers of somebody else in the API server's place: a proxy, a login page, half an object."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from k8sddp import cluster, errors
from k8sddp.cluster import streams
from k8sddp.manifest import Ref
from tests.contract.fake_cluster import Fault
from tests.unit.cluster.connected import config_map, fake_and_cluster

SETTINGS = Ref("v1", "ConfigMap", "settings")
BODIES = {
    "half": b'{"kind": "ConfigMap", "metadata": {"na',
    "html": b"<html>sign in</html>",
    "empty": b"",
    "null": b"null",
    "list": b"[]",
    "no fields": b"{}",
    "another kind": b'{"kind": "Pod", "metadata": {"name": "settings"}}',
    "no metadata": b'{"kind": "ConfigMap", "metadata": null}',
    "items are no objects": b'{"kind": "ConfigMapList", "metadata": {}, "items": [1]}',
    "not utf-8": b"\xff\xfe",
    "deep": b"[" * 100_000,
}
VERBS: dict[str, Callable[[cluster.Cluster], object]] = {
    "get": lambda connection: connection.get(SETTINGS),
    "list": lambda connection: connection.list("v1", "ConfigMap"),
    "apply": lambda connection: connection.apply(config_map()),
    "create": lambda connection: connection.create(config_map()),
    "delete": lambda connection: connection.delete(SETTINGS),
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
@pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS)
def test_success_without_an_object_is_one_sentence(
    tmp_path: Path, verb: Callable[[cluster.Cluster], object], body: bytes
) -> None:
    """Nothing is taken for done or absent on the word of a stranger."""
    with fake_and_cluster(tmp_path) as (fake, connection, _):
        fake.fail(*[Fault(status=200, body=body)] * 2)
        with pytest.raises(errors.NotKubernetesError) as caught:
            verb(connection)
        text = str(caught.value)
        assert "with no Kubernetes object (the body " in text
        assert text.endswith("; is a proxy or a login page in between")
        assert "\n" not in text


def test_the_sentence_shows_how_the_answer_begins(tmp_path: Path) -> None:
    """Who answered is often seen in the first words."""
    with fake_and_cluster(tmp_path) as (fake, connection, _):
        fake.fail(Fault(status=200, body=b"<html>sign in</html>"))
        with pytest.raises(errors.NotKubernetesError) as caught:
            connection.get(SETTINGS)
        said = "answered 200 to GET configmaps/settings with no Kubernetes object (the body begins with "
        assert f"the API server {fake.url} (context fake) {said}'<html>sign in</html>')" in str(caught.value)


EVENTS: dict[str, Any] = {
    "html": b"<html>sign in</html>",
    "list": b"[]\n",
    "no object": b'{"type": "ADDED"}\n',
    "no version": b'{"type": "ADDED", "object": {"metadata": {}}}\n',
    "no metadata": b'{"type": "ADDED", "object": {"metadata": 1}}\n',
}


@pytest.mark.parametrize("body", EVENTS.values(), ids=EVENTS)
def test_event_of_a_stranger_ends_a_watch_after_a_minute(tmp_path: Path, body: bytes) -> None:
    """A session at a login proxy may be renewed meanwhile; then it is said instead of asked for ever."""
    with fake_and_cluster(tmp_path) as (fake, connection, time):
        stream = cluster.watch(connection, "v1", "ConfigMap", stop=cluster.Stop(), silence=5)
        next(stream)
        connection.apply(config_map("a"))
        next(stream)
        fake.fail(*[Fault(status=200, body=body)] * 60)
        fake.cut()
        with pytest.raises(errors.NotKubernetesError):
            next(stream)
        assert streams.REFUSALS < time.now < 2 * streams.REFUSALS


def test_delete_is_content_with_the_object_or_a_status(tmp_path: Path) -> None:
    """The API server answers with either."""
    with fake_and_cluster(tmp_path) as (fake, connection, _):
        connection.apply(config_map())
        assert connection.delete(SETTINGS)
        fake.fail(Fault(status=200, body=json.dumps({"kind": "Status", "status": "Success"}).encode()))
        assert connection.delete(SETTINGS)
