"""What an API server answers that a command cannot go on with is one sentence; what it warns of is shown."""

from __future__ import annotations

import socket

import pytest

from tests.contract.fake_cluster import Fault
from tests.local.cluster_users import CREATED, User, user

__all__ = ["user"]


def test_warnings_of_the_api_server_are_shown_on_stderr(user: User) -> None:
    """A Pod Security warning at creation is the only early sign of pods that will never appear."""
    user.fake.warnings["jobs"] = "would violate PodSecurity"
    ended = user.says("apply", "job.yaml")
    assert "would violate PodSecurity" in ended.err
    assert CREATED == ended.out


def test_namespace_in_the_file_and_on_the_command_line_must_agree(user: User) -> None:
    """As with kubectl, two different namespaces are a mistake."""
    user.write(metadata={"name": "digits", "namespace": "research"})
    assert "metadata.namespace is research, but -n says prod" in user.refused("apply", "job.yaml", "-n", "prod", code=2)


def test_old_kubernetes_is_refused_before_anything_is_created(user: User) -> None:
    """The version found, the version needed."""
    user.fake.version = (1, 30)
    assert "runs Kubernetes 1.30; k8sddp needs 1.33 or newer" in user.refused("apply", "job.yaml")
    assert [] == user.fake.names()


def test_unaccepted_credentials_are_one_sentence(user: User) -> None:
    """401 says whose credentials, and nothing is created."""
    body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 401, "reason": "Unauthorized"}
    user.fake.fail(*[Fault(status=401, body=body)] * 8)
    assert "credentials" in user.refused("apply", "job.yaml")
    assert [] == user.fake.names()


def test_a_missing_permission_names_the_verb_and_the_namespace(user: User) -> None:
    """403 says who may not do what, where; nothing half-created is left."""
    user.fake.forbidden.add(("patch", "jobs"))
    sentence = user.refused("apply", "job.yaml")
    assert "jane" in sentence
    assert "namespace research" in sentence
    assert [] == user.fake.names()


def test_a_busy_api_server_is_asked_again(user: User) -> None:
    """503 slows the command, never stops it."""
    user.fake.fail(Fault(status=503, headers={"Retry-After": "0"}, method="PATCH"))
    assert (0, CREATED) == user.says("apply", "job.yaml")[:2]


def test_unreachable_api_server_is_named(user: User) -> None:
    """The server and the context, not a stack of urllib3's."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        text = user.fake.kubeconfig.read_text().replace(user.fake.url, f"http://127.0.0.1:{port}")
        (user.folder / "closed.yaml").write_text(text)
        sentence = user.refused("apply", "job.yaml", "--kubeconfig", "closed.yaml")
    assert f"http://127.0.0.1:{port}" in sentence
    assert "context fake" in sentence


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(None, "missing.yaml", id="missing"),
        pytest.param("a: [", "config.yaml", id="not-yaml"),
        pytest.param("just words", "config.yaml", id="no-mapping"),
        pytest.param("{}", "config.yaml", id="empty"),
    ],
)
def test_unusable_kubeconfig_is_named(user: User, text: str | None, message: str) -> None:
    """Which file, and what is wrong with it."""
    if text is not None:
        (user.folder / "config.yaml").write_text(text)
    name = "missing.yaml" if text is None else "config.yaml"
    assert message in user.refused("apply", "job.yaml", "--kubeconfig", name)


def test_unknown_context_lists_the_known_ones(user: User) -> None:
    """A misspelt context is answered with what there is."""
    assert "fake" in user.refused("get", "--context", "fakee")
