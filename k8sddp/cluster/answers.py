"""What the API server answered, or that it did not, as one of errors.* with one sentence.

Guarantees: says which object, what was wrong and what mends it; never a Go dump of a template, never a token. Foreign
texts are matched in tables here and nowhere else; what no table knows is shown as the server said it, on one line.
Pure: bytes and exceptions in, exceptions out.
"""

from __future__ import annotations

import json
import re
import socket
import ssl
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from k8sddp import constants, errors
from k8sddp.manifest import Manifest
from k8sddp.worker.contract import wording

MAX_TEXT: Final = 300
MAX_WAIT: Final = 10**9  # seconds, as long as for ever
MAX_FOREIGN: Final = 60  # characters shown of an answer that is nobody's we know


class Target(NamedTuple):
    """Where requests go, for messages: server URL, context (empty inside a pod), namespace."""

    server: str
    context: str
    namespace: str

    def __str__(self) -> str:
        """Return how a message names the API server."""
        return f"the API server {self.server}" + (f" (context {self.context})" if self.context else "")


def error(method: str, path: str, status: int, body: bytes, *, target: Target) -> errors.ClusterError:
    """Return the error for an answer that is not 2xx."""
    state = _status_object(body)
    message = str(state.get("message") or "") or _first_line(body)
    make = _BY_STATUS.get(status, _other)
    if status == 500 and "failed to create typed patch object" in message:
        make = _schema
    return make(_Said(method, path, status, message, state, target))


def message(body: bytes) -> str:
    """Return what the API server itself says in an answer that is its Status, empty where it is none."""
    return str(_status_object(body).get("message") or "")


class _Said(NamedTuple):
    method: str
    path: str
    status: int
    message: str
    state: Mapping[str, Any]
    target: Target

    @property
    def what(self) -> str:
        """Return the object of the request as `job.batch/digits`, or the collection."""
        return describe_path(self.path)

    @property
    def causes(self) -> Sequence[Mapping[str, Any]]:
        details = self.state.get("details")
        found = details.get("causes") if isinstance(details, Mapping) else None
        return [one for one in found if isinstance(one, Mapping)] if isinstance(found, list) else []


def describe_path(path: str) -> str:
    """Return `jobs.batch/digits` for the URL path of an object or a collection, the path itself for any other."""
    match = re.fullmatch(r"/(?:api|apis/([^/]+))/[^/]+(?:/namespaces/[^/]+)?/([^/]+)(?:/([^/]+))?(/.*)?", path)
    if match is None:
        return path
    group, plural, name, _rest = match.groups()
    return plural + (f".{group}" if group else "") + (f"/{name}" if name else "")


def _bad_request(said: _Said) -> errors.ClusterError:
    text = re.sub(r'^.* in version "[^"]*" cannot be handled as a \w+: ', "", said.message)
    text = text.removeprefix("strict decoding error: ")
    if "HTTP request to an HTTPS server" in text:
        return errors.KubeconfigError(f"{said.target} speaks TLS: write https:// in the cluster's `server`", status=400)
    if said.method == "GET":  # nothing was sent that could be wrong: the log of a container that has not started
        return errors.InvalidError(f"{said.what}: {_short(text)}", status=said.status)
    return errors.InvalidError(f"{said.what} is not accepted: {_short(text)}", status=said.status)


def _unauthorized(said: _Said) -> errors.ClusterError:
    user = f"the user of context {said.target.context}" if said.target.context else "the pod's service account"
    return errors.UnauthorizedError(
        f"{said.target} does not accept these credentials (401); log in again or mend {user}", status=401
    )


_MAY_NOT: Final = re.compile(
    r'User "(?P<user>[^"]*)" cannot (?P<verb>\S+) resource "(?P<resource>[^"]*)" in API group "(?P<group>[^"]*)"'
    r'(?: in the namespace "(?P<namespace>[^"]*)")?'
)


def _forbidden(said: _Said) -> errors.ClusterError:
    match = _MAY_NOT.search(said.message)
    if match is None:  # admission: quota, Pod Security, a namespace that is going away
        text = re.sub(r'^\S+ "[^"]*" is forbidden: ', "", said.message)
        return errors.ForbiddenError(f"{said.what} is not admitted: {_short(text)}", status=403)
    if match["user"] == "system:anonymous":
        return errors.ForbiddenError(
            f"{said.target} treated this request as anonymous: the user of context {said.target.context} sent no valid "
            "credentials; log in again",
            status=403,
        )
    resource = match["resource"] + (f".{match['group']}" if match["group"] else "")
    where = f"in namespace {match['namespace']}" if match["namespace"] else "in the whole cluster"
    return errors.ForbiddenError(
        f"user {match['user']!r} may not {match['verb']} {resource} {where}; "
        "ask its administrator for the role `edit` there, or choose another namespace with -n",
        status=403,
    )


def _not_found(said: _Said) -> errors.ClusterError:
    match = re.fullmatch(r'namespaces "([^"]*)" not found', said.message)
    if match:
        context = f" of context {said.target.context}" if said.target.context else ""
        text = f"namespace {match[1]} does not exist in the cluster{context}; create it, or choose another with -n"
    elif not said.state:
        text = f"{said.target} does not know {said.path}; is it a Kubernetes API server that serves this kind"
    else:
        text = f"{said.what} does not exist in namespace {said.target.namespace}"
    return errors.NotFoundError(text, status=404)


def _conflict(said: _Said) -> errors.ClusterError:
    owners = [one for one in said.causes if one.get("reason") == "FieldManagerConflict"]
    if owners:
        fields = ", ".join(str(one.get("field", "")) for one in owners)
        managers = sorted({found for one in owners for found in re.findall(r'"([^"]+)"', str(one.get("message", "")))})
        who = " and ".join(managers)
        text = (
            f"{said.what}: {fields} is managed by {who}; undo that change there, or delete the object and apply again"
        )
    elif said.state.get("reason") == "AlreadyExists":
        text = f"{said.what} already exists" + (" and is being deleted" if "being deleted" in said.message else "")
    else:
        text = f"{said.what} was changed by somebody else meanwhile; look at it and try again"
    return errors.ConflictError(text, status=409)


def _invalid(said: _Said) -> errors.ClusterError:
    frozen = [str(one.get("field", "")) for one in said.causes if "immutable" in str(one.get("message", ""))]
    if frozen or (not said.causes and "immutable" in said.message):
        fields = ", ".join(frozen) or "a field"
        text = f"{said.what}: {fields} cannot be changed in an existing object; `--replace` deletes and makes it anew"
        return errors.InvalidError(text, status=422)
    problems = [f"{one.get('field', '')}: {_without_dump(str(one.get('message', '')))}" for one in said.causes]
    text = "; ".join(problems) or _short(re.sub(r'^.*? "[^"]*" is invalid: ', "", said.message))
    return errors.InvalidError(f"{said.what} is not accepted: {text}", status=422)


def _schema(said: _Said) -> errors.ClusterError:
    """Return the error for an unknown field or wrong type in an apply: a 500, but no fault of the server."""
    text = re.sub(r"^.*failed to create typed patch object \([^)]*\): ", "", said.message)
    return errors.InvalidError(f"{said.what} is not accepted: {_short(text.lstrip('.'))}", status=said.status)


def _other(said: _Said) -> errors.ClusterError:
    text = _short(said.message)
    return errors.ClusterError(
        f"{said.target} answered {said.status} to {said.method} {said.what}" + (f": {text}" if text else ""),
        status=said.status,
    )


_BY_STATUS: Final[Mapping[int, Callable[[_Said], errors.ClusterError]]] = {
    400: _bad_request,
    401: _unauthorized,
    403: _forbidden,
    404: _not_found,
    409: _conflict,
    422: _invalid,
}


def no_object(method: str, path: str, status: int, body: bytes, *, target: Target) -> errors.NotKubernetesError:
    """Return the error for a 2xx, or an event of a watch, that is no Kubernetes object: somebody else answered."""
    text = _first_line(body)[:MAX_FOREIGN]
    shown = f"begins with {text!r}" if text else "is empty"
    return errors.NotKubernetesError(
        f"{target} answered {status} to {method} {describe_path(path)} with no Kubernetes object (the body {shown}); "
        "is a proxy or a login page in between",
        status=status,
    )


def credentials_error(complaint: str, *, target: Target) -> errors.KubeconfigError:
    """Return the error for a credential plugin that failed."""
    text = _short(complaint.removeprefix("exec: "))
    return errors.KubeconfigError(
        f"the credential plugin of context {target.context} failed: {text}; log in with it, or mend the user's exec"
    )


def transport_errors() -> tuple[type[Exception], ...]:
    """Return the exceptions that mean: no answer."""
    import urllib3

    return (urllib3.exceptions.HTTPError, ssl.SSLError, OSError)


def is_passing(fault: Exception) -> bool:
    """Return whether the same request may work in a moment: not where TLS or the name is wrong."""
    return not isinstance(_root(fault), ssl.SSLError | socket.gaierror)


def is_silence(fault: Exception) -> bool:
    """Return whether the connection stands and nothing came."""
    import urllib3

    return isinstance(fault, urllib3.exceptions.ReadTimeoutError)


def unreachable(fault: Exception, *, target: Target, request_timeout: float) -> errors.ClusterError:
    """Return the error for a request that got no answer."""
    import urllib3

    root = _root(fault)
    if isinstance(root, ssl.SSLError) or isinstance(fault, urllib3.exceptions.SSLError):
        return errors.UnreachableError(f"{target}: {_tls(root)}")
    if isinstance(root, socket.gaierror) or isinstance(fault, urllib3.exceptions.NameResolutionError):
        why = "its name does not resolve; check the cluster's `server` in the kubeconfig, or your VPN"
    elif isinstance(fault, urllib3.exceptions.ProxyError):
        why = f"the proxy does not let us through ({_short(str(root))}); check HTTPS_PROXY and NO_PROXY"
    elif isinstance(root, ConnectionRefusedError):
        why = "the connection is refused; is the cluster running, and its port the right one"
    elif isinstance(fault, urllib3.exceptions.ReadTimeoutError):
        why = f"no answer within {request_timeout:g} s (--request-timeout)"
    elif type(fault) is urllib3.exceptions.ConnectTimeoutError or isinstance(root, TimeoutError):
        why = "no connection within the time limit; is a VPN or firewall in between"
    elif isinstance(fault, urllib3.exceptions.ProtocolError) or isinstance(root, ConnectionError):
        why = "the connection was lost"
    else:
        why = _short(getattr(root, "strerror", None) or str(root) or type(root).__name__)
    return errors.UnreachableError(f"{target} does not answer: {why}")


def why_no_answer(fault: Exception) -> str:
    """Return in a few words why no answer came, for a line that is said while the API server is away."""
    root = _root(fault)
    if isinstance(root, ConnectionRefusedError):
        return "connection refused"
    if isinstance(root, TimeoutError) or is_silence(fault):
        return "no answer in time"
    if isinstance(root, socket.gaierror):
        return "its name does not resolve"
    return "connection lost" if isinstance(root, ConnectionError) else _short(str(root) or type(root).__name__)


def _tls(root: BaseException) -> str:
    text = str(getattr(root, "verify_message", "") or getattr(root, "reason", "") or root)
    if isinstance(root, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({text.rstrip('.')}); check certificate-authority in the kubeconfig"
    if "WRONG_VERSION_NUMBER" in text or "HTTP_REQUEST" in text:
        return "it does not speak TLS; is `server` meant to be http://"
    return f"no TLS connection ({_short(text)})"


def _root(fault: BaseException) -> BaseException:
    """Return the innermost cause: urllib3 wraps the system's exception once or twice."""
    seen = fault
    while True:
        inner = seen.__cause__ or seen.__context__ or next((a for a in seen.args if isinstance(a, BaseException)), None)
        if inner is None or inner is seen:
            return seen
        seen = inner


def retry_after(headers: Mapping[str, str], body: bytes) -> float | None:
    """Return the seconds after which the server wants to be asked again, None where it does not say."""
    text = headers.get("Retry-After", "")
    details = _status_object(body).get("details")
    seconds = details.get("retryAfterSeconds") if isinstance(details, Mapping) else None
    if re.fullmatch("[0-9]{1,9}", text):
        return float(text)
    return float(min(seconds, MAX_WAIT)) if isinstance(seconds, int) and seconds > 0 else None


def warning_text(header: str) -> str:
    """Return the text of a Warning header: `299 - "text"` (RFC 7234 section 5.5)."""
    match = re.match(r'\s*\d{3} \S+ "((?:[^"\\]|\\.)*)"', header)
    return re.sub(r"\\(.)", r"\1", match[1]) if match else header.strip()


def unique(texts: Iterable[str]) -> tuple[str, ...]:
    """Return the texts in order, each once."""
    return tuple(dict.fromkeys(texts))


def check_version(version: Manifest, *, target: Target) -> tuple[int, int]:
    """Return (major, minor) of a /version answer; raises OldKubernetesError below the minimum."""
    numbers = [re.match(r"\d+", str(version.get(key, ""))) for key in ("major", "minor")]
    if not all(numbers):
        raise errors.ClusterError(f"{target} does not say its version; is it a Kubernetes API server")
    found = (int(numbers[0][0]), int(numbers[1][0]))  # type: ignore[index]
    if found < constants.MIN_KUBERNETES:
        need = ".".join(map(str, constants.MIN_KUBERNETES))
        raise errors.OldKubernetesError(
            f"{target} runs Kubernetes {found[0]}.{found[1]}; k8sddp needs {need} or newer (Job success policies)"
        )
    return found


def _status_object(body: bytes) -> Mapping[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) and found.get("kind") == "Status" else {}


def _first_line(body: bytes) -> str:
    return next((line.strip() for line in body.decode("utf-8", "replace").splitlines() if line.strip()), "")


def _without_dump(message: str) -> str:
    """Return `must be ...` of `Invalid value: core.PodSpec{...}: must be ...` where the value is a Go dump."""
    if re.match(r"Invalid value: (?:&?\w+\.\w+|\[\]|map\[)", message) or len(message) > MAX_TEXT:
        return _short(message.rpartition(": ")[2])
    return message


def _short(text: str) -> str:
    return wording.shorten(text, MAX_TEXT)
