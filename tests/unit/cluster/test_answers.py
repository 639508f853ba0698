"""What the API server says, in our sentences."""

from __future__ import annotations

import json
import socket
import ssl
from typing import Any

import pytest
import urllib3.exceptions as faults

from k8sddp import errors
from k8sddp.cluster import answers
from k8sddp.cluster.answers import Target
from tests.contract import fake_answers

TARGET = Target("https://api:6443", "prod", "research")
JOB = "/apis/batch/v1/namespaces/research/jobs/digits"
SERVER = "the API server https://api:6443 (context prod)"


def said(status: int, message: str = "", *, path: str = JOB, body: bytes = b"", **more: Any) -> errors.ClusterError:
    """Return the error for a Status with that message, or for a body that is none."""
    state = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": status, **more}
    return answers.error("PATCH", path, status, body or json.dumps(state).encode(), target=TARGET)


@pytest.mark.parametrize(
    ("expected", "kind", "answer"),
    [
        ('jobs.batch/digits is not accepted: unknown field "spec.bogus"', errors.InvalidError,
         (400, 'Job in version "v1" cannot be handled as a Job: strict decoding error: unknown field "spec.bogus"')),
        (f"{SERVER} does not accept these credentials (401); log in again or mend the user of context prod",
         errors.UnauthorizedError, (401, "Unauthorized")),
        ("user 'jane' may not create jobs.batch in namespace research; ask its administrator for the role `edit` "
         "there, or choose another namespace with -n", errors.ForbiddenError,
         (403, 'jobs.batch is forbidden: User "jane" cannot create resource "jobs" in API group "batch" in the '
               'namespace "research"')),
        (f"{SERVER} treated this request as anonymous: the user of context prod sent no valid credentials; "
         "log in again",
         errors.ForbiddenError,
         (403, 'jobs.batch is forbidden: User "system:anonymous" cannot list resource "jobs" in API group "batch"')),
        (f"{SERVER} speaks TLS: write https:// in the cluster's `server`", errors.KubeconfigError,
         (400, "Client sent an HTTP request to an HTTPS server.")),
        ("jobs.batch/digits is not admitted: exceeded quota: compute, requested: pods=1", errors.ForbiddenError,
         (403, 'jobs.batch "digits" is forbidden: exceeded quota: compute, requested: pods=1')),
        ("namespace research does not exist in the cluster of context prod; create it, or choose another with -n",
         errors.NotFoundError, (404, 'namespaces "research" not found')),
        ("jobs.batch/digits does not exist in namespace research", errors.NotFoundError,
         (404, 'jobs.batch "digits" not found')),
        ("jobs.batch/digits was changed by somebody else meanwhile; look at it and try again", errors.ConflictError,
         (409, 'Operation cannot be fulfilled on jobs.batch "digits": the object has been modified')),
        (f"{SERVER} answered 500 to PATCH jobs.batch/digits: etcdserver: leader changed", errors.ClusterError,
         (500, "etcdserver: leader changed")),
        ("jobs.batch/digits is not accepted: spec.template.spec.bogus: field not declared in schema",
         errors.InvalidError,
         (500, "failed to create typed patch object (research/digits; batch/v1, Kind=Job): .spec.template.spec.bogus: "
               "field not declared in schema")),
    ],
)  # fmt: skip
def test_status_becomes_one_sentence(expected: str, kind: type[errors.ClusterError], answer: tuple[int, str]) -> None:
    """Which object, what is wrong, what mends it; the status code is kept."""
    error = said(*answer)
    assert (expected, kind, answer[0]) == (str(error), type(error), error.status)


def test_conflict_names_fields_and_managers() -> None:
    """Not the whole of managedFields."""
    refused = fake_answers.apply_conflict([("kueue", ".spec.suspend"), ("kubectl", ".spec.parallelism")])
    error = answers.error("PATCH", JOB, 409, json.dumps(refused.status).encode(), target=TARGET)
    assert str(error).startswith(
        "jobs.batch/digits: .spec.suspend, .spec.parallelism is managed by kubectl and kueue; "
    )


def test_immutable_field_is_named_without_the_dump() -> None:
    """A changed template is answered with 20 KB of Go."""
    refused = fake_answers.immutable("jobs.batch", "Job", "digits", field="spec.template", dump="core.X{" + "a" * 20000)
    error = answers.error("PATCH", JOB, 422, json.dumps(refused.status).encode(), target=TARGET)
    expected = "spec.template cannot be changed in an existing object; `--replace` deletes and makes it anew"
    assert f"jobs.batch/digits: {expected}" == str(error)


def test_every_invalid_field_is_said_with_its_rule() -> None:
    """Dumped values are left out, short ones stay."""
    causes = [
        {"field": "spec.ports[0].port", "message": "Invalid value: 99999: must be between 1 and 65535, inclusive"},
        {"field": "spec.template", "message": "Invalid value: core.PodSpec{Volumes:[]core.Volume{}}: must be short"},
        {"field": "metadata.name", "message": "Required value"},
    ]
    expected = (
        "jobs.batch/digits is not accepted: spec.ports[0].port: Invalid value: 99999: must be between 1 and 65535, "
        "inclusive; spec.template: must be short; metadata.name: Required value"
    )
    assert expected == str(said(422, "long", details={"causes": causes}))


@pytest.mark.parametrize(
    ("expected", "status", "body"),
    [
        (
            f"{SERVER} does not know {JOB}; is it a Kubernetes API server that serves this kind",
            404,
            b"404 page not found\n",
        ),
        (f"{SERVER} answered 502 to PATCH jobs.batch/digits: <html>", 502, b"\n  <html>\n<body>Bad Gateway"),
        (f"{SERVER} answered 418 to PATCH jobs.batch/digits", 418, b"\n"),
        (f"{SERVER} answered 503 to PATCH jobs.batch/digits: {'x' * 147} ... {'x' * 148}", 503, b"x" * 5000),
        (f"{SERVER} answered 500 to PATCH jobs.batch/digits: \ufffd", 500, b"\xff"),
    ],
    ids=["not found", "proxy page", "nothing", "long", "binary"],
)
def test_answer_that_is_no_status_is_shown_on_one_line(expected: str, status: int, body: bytes) -> None:
    """A proxy, a login page, another program on the port."""
    assert expected == str(said(status, body=body))


@pytest.mark.parametrize(
    ("expected", "path"),
    [
        ("jobs.batch/digits", JOB),
        ("services", "/api/v1/namespaces/research/services"),
        ("pods/p", "/api/v1/namespaces/research/pods/p/log"),
        ("/version", "/version"),
    ],
)
def test_objects_are_named_by_their_path(expected: str, path: str) -> None:
    """As kubectl names resources."""
    assert expected == answers.describe_path(path)


def wrapped(inner: Exception) -> Exception:
    """Return what urllib3 raises around a system error."""
    outer = faults.NewConnectionError(None, "failed")  # type: ignore[arg-type]
    outer.__cause__ = inner
    return outer


@pytest.mark.parametrize(
    ("expected", "fault"),
    [
        ("does not answer: the connection is refused; is the cluster running", wrapped(ConnectionRefusedError())),
        ("does not answer: its name does not resolve; check the cluster's `server`", wrapped(socket.gaierror())),
        ("does not answer: no answer within 7 s (--request-timeout)", faults.ReadTimeoutError(None, "", "")),  # type: ignore[arg-type]
        ("does not answer: no connection within the time limit", faults.ConnectTimeoutError()),
        ("does not answer: the connection was lost", faults.ProtocolError("x", ConnectionResetError())),
        ("does not answer: the proxy does not let us through (", faults.ProxyError("no", ValueError("403"))),
        ("does not answer: No route to host", wrapped(OSError(113, "No route to host"))),
        (": it does not speak TLS; is `server` meant to be http://", ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER]")),
        (": its certificate is not trusted (self-signed certificate)",
         faults.SSLError(ssl.SSLCertVerificationError(1, "x"))),
    ],
    ids=["refused", "dns", "silent", "no connection", "reset", "proxy", "route", "no tls", "untrusted"],
)  # fmt: skip
def test_no_answer_says_why_and_where(expected: str, fault: Exception) -> None:
    """Server and context, cause, remedy; no urllib3 words."""
    inner = fault.args[0] if fault.args else None
    if isinstance(inner, ssl.SSLCertVerificationError):
        inner.verify_message = "self-signed certificate"
    error = answers.unreachable(fault, target=TARGET, request_timeout=7)
    assert isinstance(error, errors.UnreachableError)
    assert f"{SERVER}{'' if expected.startswith(':') else ' '}{expected}" in str(error)
    assert "object at" not in str(error)


@pytest.mark.parametrize(
    ("expected", "headers", "body"),
    [
        (3.0, {"Retry-After": "3"}, b""),
        (2.0, {}, b'{"kind": "Status", "details": {"retryAfterSeconds": 2}}'),
        (None, {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, b""),
        (None, {}, b"text"),
        (None, {"Retry-After": "\u00b2"}, b"[" * 100_000),
        (1e9, {}, b'{"kind": "Status", "details": {"retryAfterSeconds": 1' + b"0" * 400 + b"}}"),
    ],
)
def test_retry_after_is_read_from_header_and_status(expected: float | None, headers: Any, body: bytes) -> None:
    """The API server sends one or the other."""
    assert expected == answers.retry_after(headers, body)


@pytest.mark.parametrize(
    ("expected", "header"),
    [
        ('would violate PodSecurity "restricted"', '299 - "would violate PodSecurity \\"restricted\\""'),
        ("plain", "plain"),
        ("back\\slash", '299 - "back\\\\slash" "date"'),
    ],
)
def test_warning_header_is_unquoted(expected: str, header: str) -> None:
    """The text alone is for people."""
    assert expected == answers.warning_text(header)


@pytest.mark.parametrize(("expected", "minor"), [((1, 33), "33"), ((1, 37), "37+")])
def test_supported_versions_pass(expected: tuple[int, int], minor: str) -> None:
    """Cloud providers append a plus sign."""
    assert expected == answers.check_version({"major": "1", "minor": minor}, target=TARGET)


def test_old_kubernetes_is_named_with_the_minimum() -> None:
    """Job features that we rely on are missing there."""
    with pytest.raises(errors.OldKubernetesError, match=r"runs Kubernetes 1\.32; k8sddp needs 1\.33 or newer"):
        answers.check_version({"major": "1", "minor": "32"}, target=TARGET)


def test_server_without_a_version_is_not_kubernetes() -> None:
    """Something else listens there."""
    with pytest.raises(errors.ClusterError, match="does not say its version"):
        answers.check_version({}, target=TARGET)
