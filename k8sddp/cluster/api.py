"""The short verbs on one namespace of one cluster: get, list, apply, delete; objects are plain mappings.

Guarantees: apply is server-side apply with our field manager, and says created, configured or unchanged; delete always
carries a propagation policy (a raw DELETE of a Job orphans its pods). Warning headers are kept and given out once. What
is given back is an object of the kind that was asked for: a 2xx of somebody else (a proxy, a login page) is an error.
The long reads are in `streams.py` and `pod_logs.py`. What to do is decided in `plan`, never here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple
from urllib.parse import quote

from k8sddp import constants
from k8sddp.cluster import answers
from k8sddp.cluster.transport import Answer, Transport
from k8sddp.manifest import Manifest, Ref, ref_of

PAGE: Final = 500
RELISTS: Final = 3

# The kinds we talk about and the last word of their URL (`kubectl api-resources`)
_PLURALS: Final[Mapping[tuple[str, str], str]] = {
    ("v1", "ConfigMap"): "configmaps",
    ("v1", "Event"): "events",
    ("v1", "PersistentVolumeClaim"): "persistentvolumeclaims",
    ("v1", "Pod"): "pods",
    ("v1", "Service"): "services",
    ("batch/v1", "Job"): "jobs",
    ("networking.k8s.io/v1", "NetworkPolicy"): "networkpolicies",
    (constants.API_VERSION, constants.KIND): "ddpjobs",
}

Outcome = Literal["created", "configured", "unchanged"]


class Applied(NamedTuple):
    """The object as it is stored after an apply, what the apply did, and the server's warnings."""

    manifest: Manifest
    outcome: Outcome
    warnings: tuple[str, ...] = ()


class Listing(NamedTuple):
    """Objects, and the version from which a watch goes on."""

    items: tuple[Manifest, ...]
    resource_version: str


class Cluster:
    """A connection to one namespace of one cluster; made by `connect`."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self._warnings: list[str] = []

    @property
    def context(self) -> str:
        """Return the kubeconfig context, empty inside a pod."""
        return self.transport.target.context

    @property
    def namespace(self) -> str:
        """Return the namespace that every verb acts in."""
        return self.transport.target.namespace

    @property
    def server(self) -> str:
        """Return the URL of the API server."""
        return self.transport.target.server

    @property
    def away(self) -> tuple[float, str] | None:
        """Return for how many seconds the API server has not answered, and why; None while it does."""
        away = self.transport.away
        return None if away is None else (self.transport.clock() - away.since, away.why)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Return every warning that the API server has sent so far, each once."""
        return answers.unique(self._warnings)

    def server_version(self) -> tuple[int, int]:
        """Return (major, minor); raises OldKubernetesError below the minimum."""
        answer = self.transport.request("GET", "/version")
        return answers.check_version(_json(answer.body), target=self.transport.target)

    def get(self, ref: Ref, *, patient: bool = True) -> Manifest | None:
        """Return the object, None where it does not exist; `patient` as for `Transport.request`."""
        answer = self.transport.request("GET", self.path(*ref), accepted=(404,), patient=patient)
        if answer.status == 404:
            if _json(answer.body).get("kind") == "Status":
                return None
            raise answers.error("GET", self.path(*ref), 404, answer.body, target=self.transport.target)
        return self._object("GET", self.path(*ref), answer, ref.kind)

    def list(
        self,
        api_version: str,
        kind: str,
        *,
        label_selector: str = "",
        field_selector: str = "",
        patient: bool = True,
    ) -> Listing:
        """Return all objects of a kind in the namespace, read page by page; `patient` as for `Transport.request`.

        Pages that are too old to go on are read again, RELISTS times; then it raises the ClusterError.
        """
        items: list[Manifest] = []
        again = 0
        pairs = (("labelSelector", label_selector), ("fieldSelector", field_selector))
        query = [(key, value) for key, value in pairs if value]
        more, path = "", self.path(api_version, kind)
        while True:
            page = [*query, ("limit", str(PAGE)), *([("continue", more)] if more else [])]
            gone = (410,) if more and again < RELISTS else ()
            answer = self.transport.request("GET", path, query=page, accepted=gone, patient=patient)
            if answer.status == 410:
                items, more, again = [], "", again + 1
                continue
            body = self._object("GET", path, answer)
            items.extend({"apiVersion": api_version, "kind": kind, **one} for one in body.get("items") or ())
            more = body["metadata"].get("continue") or ""
            if not more:
                return Listing(tuple(items), str(body["metadata"].get("resourceVersion", "")))

    def apply(
        self,
        manifest: Manifest,
        *,
        field_manager: str = constants.FIELD_MANAGER,
        force: bool = False,
        dry_run: bool = False,
        observed_version: str | None = None,
    ) -> Applied:
        """Apply on the server's side.

        `observed_version` is the resourceVersion seen before, empty where it did not exist; None reads it first.
        Raises ConflictError where another manager owns a field, InvalidError for an unknown field.
        """
        ref = ref_of(manifest)
        if observed_version is None:
            existing = self.get(ref)
            observed_version = "" if existing is None else str(existing["metadata"]["resourceVersion"])
        query = [
            ("fieldManager", field_manager),
            ("force", str(force).lower()),
            ("fieldValidation", "Strict"),
            *([("dryRun", "All")] if dry_run else []),
        ]
        answer = self.transport.request(
            "PATCH",
            self.path(*ref),
            query=query,
            body=yaml_body(manifest),
            content_type="application/apply-patch+yaml",
        )
        self._warnings.extend(answer.warnings)
        stored = self._object("PATCH", self.path(*ref), answer, ref.kind)
        outcome: Outcome = "configured"
        if answer.status == 201:
            outcome = "created"
        elif stored["metadata"].get("resourceVersion") == observed_version:
            outcome = "unchanged"
        return Applied(stored, outcome, answers.unique(answer.warnings))

    def create(self, manifest: Manifest) -> Manifest | None:
        """Create the object; return it as it is stored, None where one of its name exists already."""
        ref = ref_of(manifest)
        path = self.path(ref.api_version, ref.kind)
        query = [("fieldManager", constants.FIELD_MANAGER), ("fieldValidation", "Strict")]
        answer = self.transport.request("POST", path, query=query, body=json.dumps(manifest).encode(), accepted=(409,))
        self._warnings.extend(answer.warnings)
        if answer.status == 409:
            if _json(answer.body).get("reason") == "AlreadyExists":
                return None
            raise answers.error("POST", path, 409, answer.body, target=self.transport.target)
        return self._object("POST", path, answer, ref.kind)

    def patch(self, ref: Ref, changes: Mapping[str, Any]) -> Manifest:
        """Change single fields (RFC 7386: null removes one) and own nothing else; return the object as it is stored."""
        path = self.path(*ref)
        query = [("fieldManager", constants.FIELD_MANAGER), ("fieldValidation", "Strict")]
        body, kind = json.dumps(changes).encode(), "application/merge-patch+json"
        answer = self.transport.request("PATCH", path, query=query, body=body, content_type=kind)
        self._warnings.extend(answer.warnings)
        return self._object("PATCH", path, answer, ref.kind)

    def delete(
        self,
        ref: Ref,
        *,
        propagation: Literal["Background", "Foreground"] = "Background",
        uid: str = "",
        resource_version: str = "",
    ) -> bool:
        """Delete the object; return whether it was there. `uid` keeps a namesake that came later from being deleted."""
        only = {"uid": uid, "resourceVersion": resource_version}
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": propagation,
            "preconditions": {key: value for key, value in only.items() if value},
        }
        answer = self.transport.request(
            "DELETE", self.path(*ref), body=json.dumps(options).encode(), accepted=(404, 409)
        )
        if answer.status == 409:
            if uid and _UID_DIFFERS.search(answer.body):
                return False  # the object meant is gone; another of its name is there
            raise answers.error("DELETE", self.path(*ref), 409, answer.body, target=self.transport.target)
        if answer.status == 404:
            return False
        self._object("DELETE", self.path(*ref), answer, ref.kind, "Status")
        return True

    def path(self, api_version: str, kind: str, name: str = "") -> str:
        """Return the URL path of an object, or of the collection."""
        root = f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"
        path = f"{root}/namespaces/{quote(self.namespace, safe='')}/{_PLURALS[api_version, kind]}"
        return path + (f"/{quote(name, safe='')}" if name else "")

    def _object(self, method: str, path: str, answer: Answer, *kinds: str) -> dict[str, Any]:
        """Return the object of a 2xx, of one of `kinds`, or a list where none is given.

        Raises NotKubernetesError for everything else.
        """
        found = _json(answer.body)
        kind = str(found.get("kind", ""))
        meant = kind in kinds if kinds else kind.endswith("List") and _is_listing(found)
        if meant and (kind == "Status" or isinstance(found.get("metadata"), dict)):
            return found
        raise answers.no_object(method, path, answer.status, answer.body, target=self.transport.target)


# The two places of the API server that compare the uid word it differently (rest/delete.go, storage/interfaces.go).
_UID_DIFFERS: Final = re.compile(rb"UID in (?:the )?precondition")

# What go-yaml refuses, folds or misreads inside a double-quoted scalar when it is not escaped.
_NOT_YAML: Final = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")


def yaml_body(manifest: Manifest) -> bytes:
    """Return the manifest as the YAML of an apply request.

    JSON is almost YAML: go-yaml does not join the two halves of a character above U+FFFF when both are escaped, so
    those go as they are, and only what YAML does not allow raw is escaped.
    """
    text = json.dumps(manifest, ensure_ascii=False, separators=(",", ":"))
    return _NOT_YAML.sub(lambda found: f"\\u{ord(found[0]):04x}", text).encode()


def _is_listing(found: Mapping[str, Any]) -> bool:
    items = found.get("items") or ()
    return isinstance(items, list | tuple) and all(
        isinstance(one, dict) and isinstance(one.get("metadata"), dict) for one in items
    )


def _json(body: bytes) -> dict[str, Any]:
    """Return the JSON object of a body, an empty one where it is none."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
