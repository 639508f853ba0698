"""Open a connection to a cluster: kubeconfig or the pod's own service account -> Cluster.

Nothing is sent yet. What can be wrong on this side (no file, unknown context, unreadable certificate, missing
credential plugin) is a KubeconfigError here, so that no request fails with a riddle, and nothing is printed or logged.
"""

from __future__ import annotations

import base64
import os
import shutil
import socket
import ssl
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from k8sddp import errors
from k8sddp.cluster import answers, kubeconfig, transport
from k8sddp.cluster.answers import Target
from k8sddp.cluster.api import Cluster

MAX_CONNECTIONS: Final = 128  # the pool complains on stderr beyond; one log stream each
_SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")


def connect(
    *,
    kubeconfig: str | None = None,
    context: str | None = None,
    namespace: str | None = None,
    request_timeout: float | None = None,
) -> Cluster:
    """Return a connection to the cluster that kubectl would use with the same flags.

    `namespace` wins over the context's, which wins over `default`. `request_timeout` is in seconds per answer.
    Raises errors.KubeconfigError.
    """
    files = _files(kubeconfig)
    if not files and not context and os.environ.get("KUBERNETES_SERVICE_HOST"):
        return _in_cluster(namespace, request_timeout)
    if not files:
        raise errors.KubeconfigError(
            "there is no kubeconfig: --kubeconfig is not given, KUBECONFIG is not set and ~/.kube/config does not "
            "exist; get one from your cluster's administrator, or try `k8sddp run --local FILE` without a cluster"
        )
    chosen = _choose(files, context)
    target = Target(_server(chosen), chosen.context, namespace or chosen.namespace)
    _check_files(chosen.cluster, chosen.user, target)
    return Cluster(
        transport.Transport(
            _client(chosen.config, target),
            target,
            extra_headers=_impersonation(chosen.user),
            request_timeout=request_timeout,
            log_in=lambda: _log_in_again(files, target),
        )
    )


def _log_in_again(files: tuple[Path, ...], target: Target) -> Any:
    """Return a client with the credentials that the same context of the same files has now.

    The files are read again too, since a login may have written them; for another server they are none of ours.
    """
    chosen = _choose(files, target.context)
    if _server(chosen) != target.server:
        raise errors.KubeconfigError(
            f"context {target.context} now names {_server(chosen)} instead of {target.server}; start the command again"
        )
    _check_files(chosen.cluster, chosen.user, target)
    return _client(chosen.config, target)


def _server(chosen: kubeconfig.Chosen) -> str:
    return str(chosen.cluster["server"]).rstrip("/")


def _files(flag: str | None) -> tuple[Path, ...]:
    return kubeconfig.paths(flag, os.environ, Path.home())


def _choose(files: tuple[Path, ...], context: str | None) -> kubeconfig.Chosen:
    return kubeconfig.choose(files, context)


def _client(config: Mapping[str, Any], target: Target) -> Any:
    """Return the official ApiClient for the context, credentials loaded."""
    from kubernetes import client
    from kubernetes import config as kubernetes_config

    settings = client.Configuration()
    try:
        with transport.quiet_root_logger() as complaints:
            kubernetes_config.load_kube_config_from_dict(
                config, context=target.context, client_configuration=settings, persist_config=False
            )
    except kubernetes_config.ConfigException as fault:
        raise errors.KubeconfigError(f"context {target.context}: {_sentence(fault)}") from None
    except Exception as fault:  # the loader lets whatever its parsers raise through: base64, dates, login libraries
        raise errors.KubeconfigError(
            f"context {target.context}: its credentials cannot be loaded ({type(fault).__name__}: {_sentence(fault)})"
        ) from None
    if complaints:
        raise answers.credentials_error(complaints[0], target=target)
    _check_certificate(settings, target)
    if not settings.verify_ssl:
        _silence_insecure_warning()
    return _api_client(settings)


def _check_certificate(settings: Any, target: Target) -> None:
    """Raise KubeconfigError where the user's certificate and key cannot be used together."""
    if not settings.cert_file:
        return
    try:
        # without a password of its own, OpenSSL would ask the terminal for one
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(settings.cert_file, settings.key_file, password="")
    except (ssl.SSLError, OSError) as fault:
        raise errors.KubeconfigError(
            f"context {target.context}: client-certificate and client-key cannot be used ({_sentence(fault)})"
        ) from None


def _api_client(settings: Any) -> Any:
    """Return the official ApiClient, its connections fit for reads that last hours."""
    from kubernetes import client

    settings.connection_pool_maxsize = MAX_CONNECTIONS
    # A peer that vanished without a word is noticed after a minute; macOS names the first option differently.
    probes = (("TCP_KEEPIDLE", 30), ("TCP_KEEPALIVE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3))
    known = [(socket.IPPROTO_TCP, getattr(socket, name), value) for name, value in probes if hasattr(socket, name)]
    nodelay = (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    settings.socket_options = [nodelay, (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1), *known]
    return client.ApiClient(settings)


def _in_cluster(namespace: str | None, request_timeout: float | None) -> Cluster:
    client, own = _service_account()
    target = Target(client.configuration.host, "", namespace or own or "default")
    return Cluster(
        transport.Transport(client, target, request_timeout=request_timeout, log_in=lambda: _service_account()[0])
    )


def _service_account() -> tuple[Any, str]:
    """Return a client with this pod's own token, and the pod's namespace."""
    from kubernetes import client
    from kubernetes import config as kubernetes_config

    settings = client.Configuration()
    try:
        kubernetes_config.load_incluster_config(client_configuration=settings)
        own = (_SERVICE_ACCOUNT / "namespace").read_text(encoding="utf-8").strip()
    except (kubernetes_config.ConfigException, OSError) as fault:
        raise errors.KubeconfigError(
            f"there is no kubeconfig, and this pod has no usable service account token ({_sentence(fault)})"
        ) from None
    return _api_client(settings), own


def _check_files(cluster: Mapping[str, Any], user: Mapping[str, Any], target: Target) -> None:
    """Raise KubeconfigError where a certificate, key or credential plugin of the context cannot be used."""
    where = f"context {target.context}"
    plugin = user.get("exec")
    if isinstance(plugin, dict) and shutil.which(str(plugin.get("command", ""))) is None:
        hint = " ".join(str(plugin.get("installHint") or "").split())
        raise errors.KubeconfigError(
            f"{where}: the credential plugin {plugin.get('command')!r} is not installed; "
            + (hint or "install it, or choose another context with --context")
        )
    if not target.server.startswith("https://"):
        return
    authority = _pem(cluster, "certificate-authority", where)
    certificate, key = (_pem(user, name, where) for name in ("client-certificate", "client-key"))
    if authority is not None:
        try:
            ssl.create_default_context(cadata=authority)
        except (ssl.SSLError, ValueError):
            raise errors.KubeconfigError(f"{where}: certificate-authority is not a PEM certificate") from None
    for name, text, word in (
        ("client-certificate", certificate, "CERTIFICATE"),
        ("client-key", key, "PRIVATE KEY"),
    ):
        if text is not None and f"{word}-----" not in text:
            raise errors.KubeconfigError(f"{where}: {name} is not in PEM format")
    if (certificate is None) != (key is None):
        raise errors.KubeconfigError(f"{where}: client-certificate and client-key go together; one of them is missing")


def _pem(entry: Mapping[str, Any], name: str, where: str) -> str | None:
    """Return the text behind NAME-data or the file NAME, None where neither is given."""
    data, path = entry.get(f"{name}-data"), entry.get(name)
    if not data and not path:
        return None
    try:
        content = base64.b64decode(str(data)) if data else Path(str(path)).read_bytes()
    except OSError as fault:
        raise errors.KubeconfigError(f"{where}: {name} {path} cannot be read: {fault.strerror}") from None
    except ValueError:
        raise errors.KubeconfigError(f"{where}: {name}-data is not base64") from None
    # comments between the certificates of a bundle may be in any encoding
    return content.decode("ascii", "replace").replace("\ufffd", "?")


def _impersonation(user: Mapping[str, Any]) -> dict[str, str]:
    """Return the headers of `as` and `as-uid`, which the client leaves out; groups cannot be sent and are refused."""
    if user.get("as-groups") or user.get("as-user-extra"):
        raise errors.KubeconfigError("as-groups and as-user-extra of a kubeconfig user are not supported; use `as`")
    pairs = (("Impersonate-User", "as"), ("Impersonate-Uid", "as-uid"))
    return {header: str(user[key]) for header, key in pairs if user.get(key)}


def _silence_insecure_warning() -> None:
    """Keep urllib3 quiet: insecure-skip-tls-verify is the user's own, written decision."""
    import urllib3

    warnings.simplefilter("ignore", urllib3.exceptions.InsecureRequestWarning)


def _sentence(fault: BaseException) -> str:
    return " ".join(str(fault).split()).rstrip(".")[:200]
