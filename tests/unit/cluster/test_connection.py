"""Which cluster a connection is for, and one sentence for every kubeconfig that cannot be used."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from k8sddp import cluster, errors
from k8sddp.cluster import kubeconfig
from tests.unit.cluster.connected import write_kubeconfig


def complaint(path: Path | str, **flags: Any) -> str:
    """Return the sentence of the KubeconfigError."""
    with pytest.raises(errors.KubeconfigError) as caught:
        cluster.connect(kubeconfig=str(path), **flags)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_current_context_and_its_namespace_are_used(tmp_path: Path) -> None:
    """As kubectl does."""
    connection = cluster.connect(kubeconfig=str(write_kubeconfig(tmp_path / "c", context={"namespace": "team"})))
    assert ("here", "team", "https://127.0.0.1:6443") == (connection.context, connection.namespace, connection.server)


@pytest.mark.parametrize(
    ("expected", "flag", "context"),
    [("mine", "mine", {"namespace": "team"}), ("team", None, {"namespace": "team"}), ("default", None, {})],
    ids=["flag", "context", "default"],
)
def test_namespace_of_the_flag_wins_over_the_contexts(
    tmp_path: Path, expected: str, flag: str | None, context: dict[str, str]
) -> None:
    """And without both it is `default`."""
    path = write_kubeconfig(tmp_path / "c", context=context)
    assert expected == cluster.connect(kubeconfig=str(path), namespace=flag).namespace


def test_unknown_context_lists_those_there_are(tmp_path: Path) -> None:
    """A typing mistake is mended without opening the file."""
    text = complaint(write_kubeconfig(tmp_path / "c"), context="prod")
    assert f"kubeconfig {tmp_path / 'c'} has no context 'prod'; known contexts: here" == text


@pytest.mark.parametrize(
    ("expected", "content"),
    [
        ("is empty; it must have clusters and contexts", ""),
        ("is no mapping; it must have clusters and contexts", "- a\n"),
        (":2:1 is not YAML: ", "a: [\n"),
        ("has no current context; choose one with --context (it has no contexts)", "apiVersion: v1\n"),
        ("contexts[0] must be a mapping with a name", "contexts: [{}]\n"),
        ("clusters[0].cluster must be a mapping", "clusters: [{name: c, cluster: text}]\n"),
        ("context x names cluster None, which the file does not have",
         "current-context: x\ncontexts: [{name: x, context: {}}]\n"),
        ("is not text", b"\xff\xfe\x00"),
    ],
    ids=["empty", "list", "not yaml", "half", "nameless", "wrong type", "no cluster", "binary"],
)  # fmt: skip
def test_unusable_file_is_said_in_one_sentence(tmp_path: Path, expected: str, content: str | bytes) -> None:
    """With the file's path, without a traceback."""
    path = tmp_path / "c"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    text = complaint(path)
    assert str(path) in text
    assert expected in text


@pytest.mark.parametrize(
    ("expected", "changes"),
    [
        ("cluster c has server None; it must be an https:// or http:// URL", {"cluster": {"server": None}}),
        ("cluster c has server 'host:6443'; it must be", {"cluster": {"server": "host:6443"}}),
        ("context here names user 'u', which the file does not have", {"users": []}),
        ("certificate-authority-data is not base64", {"cluster": {"certificate-authority-data": "%%%é"}}),
        ("certificate-authority is not a PEM certificate",
         {"cluster": {"certificate-authority-data": base64.b64encode(b"text").decode()}}),
        ("cannot be read: No such file or directory", {"cluster": {"certificate-authority": "gone.crt"}}),
        ("client-certificate is not in PEM format",
         {"user": {"client-certificate-data": "dGV4dA==", "client-key-data": "dGV4dA=="}}),
        ("client-certificate and client-key go together",
         {"user": {"client-certificate-data": base64.b64encode(b"-----BEGIN CERTIFICATE-----").decode()}}),
        ("client-certificate and client-key cannot be used (",
         {"user": {"client-certificate-data": base64.b64encode(b"-----BEGIN CERTIFICATE-----").decode(),
                   "client-key-data": base64.b64encode(b"-----BEGIN PRIVATE KEY-----").decode()}}),
        ("the credential plugin 'no-such-plugin' is not installed; install it, or choose another context",
         {"user": {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "no-such-plugin"}}}),
        ("as-groups and as-user-extra of a kubeconfig user are not supported", {"user": {"as-groups": ["g"]}}),
    ],
    ids=["no server", "no scheme", "no user", "bad base64", "bad CA", "missing CA", "bad cert", "no key", "bad pair",
         "exec", "as"],
)  # fmt: skip
def test_unusable_entry_is_said_in_one_sentence(tmp_path: Path, expected: str, changes: dict[str, Any]) -> None:
    """Before the first request, which would fail with a riddle."""
    assert expected in complaint(write_kubeconfig(tmp_path / "c", **changes))


def test_failing_credential_plugin_is_quoted_and_nothing_is_logged(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The client logs it and would go on without credentials."""
    plugin = {"apiVersion": "client.authentication.k8s.io/v1", "command": sys.executable, "env": None}
    plugin["args"] = ["-c", "import sys; sys.exit('please log in\\nsecond line')"]  # type: ignore[assignment]
    text = complaint(write_kubeconfig(tmp_path / "c", user={"exec": plugin}))
    assert "the credential plugin of context here failed: process returned 1. please log in second line; " in text
    assert ("", "") == capfd.readouterr()


def test_missing_file_of_the_flag_is_named() -> None:
    """It is not quietly replaced by another."""
    assert "kubeconfig /no/such/file does not exist; check --kubeconfig" == complaint("/no/such/file")


def test_unreadable_path_is_said(tmp_path: Path) -> None:
    """A folder, or a file without permission."""
    assert f"kubeconfig {tmp_path} cannot be read: Is a directory" == complaint(tmp_path)


def test_list_of_the_environment_skips_missing_files_and_the_first_entry_wins(tmp_path: Path) -> None:
    """As kubectl merges; relative paths belong to the file they stand in."""
    (tmp_path / "sub").mkdir()
    first = write_kubeconfig(tmp_path / "sub" / "one", cluster={"certificate-authority": "ca.crt"})
    second = write_kubeconfig(tmp_path / "two", current_context="other", cluster={"server": "https://second"})
    listed = os.pathsep.join([str(tmp_path / "gone"), str(first), str(second)])
    files = kubeconfig.paths(None, {"KUBECONFIG": listed}, tmp_path)
    assert (first, second) == files
    chosen = kubeconfig.choose(files, None)
    expected = ("here", "https://127.0.0.1:6443", str(tmp_path / "sub" / "ca.crt"))
    assert expected == (chosen.context, chosen.cluster["server"], chosen.cluster["certificate-authority"])


def test_environment_without_any_existing_file_is_said(tmp_path: Path) -> None:
    """A variable that points nowhere is a mistake, not a reason to take another cluster."""
    with pytest.raises(errors.KubeconfigError, match=r"no file of KUBECONFIG exists \(/gone/a, /gone/b\)"):
        kubeconfig.paths(None, {"KUBECONFIG": f"/gone/a{os.pathsep}/gone/b"}, tmp_path)


def test_home_is_the_last_resort(tmp_path: Path) -> None:
    """~/.kube/config where it exists, else nothing."""
    assert () == kubeconfig.paths(None, {}, tmp_path)
    (tmp_path / ".kube").mkdir()
    (tmp_path / ".kube" / "config").write_text("{}")
    assert (tmp_path / ".kube" / "config",) == kubeconfig.paths(None, {}, tmp_path)


def test_importing_the_package_does_not_import_the_client() -> None:
    """The client costs 0.3 s and 48 MB; `--help` must not pay for it."""
    code = "import sys, k8sddp.cluster; print({'kubernetes', 'urllib3', 'yaml'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "set()" == done.stdout.strip()
