"""The objects of the fake API server: versions, apply, deletion with its three policies, watch history.

Every change is one entry of `history`, so a watch is a position in it; `compact()` makes old positions 410. After each
change the reactions run at once (Job controller, garbage collector): the fake has no lag, tests await nothing.
"""

from __future__ import annotations

import copy
import threading
import uuid
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any, NamedTuple

from tests.contract import fake_answers, fake_apply, fake_kinds
from tests.contract.fake_kinds import Kind

Object = dict[str, Any]
Key = tuple[str, str, str]  # plural, namespace, name


class Entry(NamedTuple):
    """One change; `was` is the object before it."""

    version: int
    type: str
    plural: str
    namespace: str
    object: Object


class Store:
    """All objects, guarded by one condition that is notified at every change."""

    def __init__(self) -> None:
        self.changed = threading.Condition(threading.RLock())
        self.objects: dict[Key, Object] = {}
        self.managers: dict[Key, fake_apply.Managers] = {}
        self.history: list[Entry] = []
        self.version = 1000
        self.compacted = 1000
        self.namespaces = {"default", "research"}
        self.default_queue = ""  # of Kueue, whose webhook gives it to each Job that names none, and suspends it
        self.lingering_pods = False  # pods stay, ending, until `finish_deletion`
        self.reactions: list[Callable[[], None]] = []
        self._reacting = False

    def get(self, kind: Kind, namespace: str, name: str) -> Object:
        found = self.objects.get((kind.plural, namespace, name))
        if found is None:
            raise fake_answers.not_found(kind.resource, name)
        return found

    def list(self, plural: str, namespace: str) -> list[Object]:
        with self.changed:
            return [one for (p, n, _), one in sorted(self.objects.items()) if (p, n) == (plural, namespace)]

    def create(self, kind: Kind, namespace: str, manifest: Object, *, dry_run: bool = False) -> Object:
        if namespace not in self.namespaces:
            raise fake_answers.not_found("namespaces", namespace)
        created = copy.deepcopy(manifest)
        metadata = created["metadata"]
        if (kind.plural, namespace, metadata["name"]) in self.objects:
            raise fake_answers.already_exists(kind.plural, metadata["name"])
        metadata.update(namespace=namespace, uid=str(uuid.uuid4()), creationTimestamp=now(), generation=1)
        if self.default_queue and kind.kind == "Job":
            metadata.setdefault("labels", {}).setdefault("kueue.x-k8s.io/queue-name", self.default_queue)
            created["spec"]["suspend"] = True
        fake_kinds.set_defaults(kind, created)
        if dry_run:
            return created
        return self._put("ADDED", kind.plural, namespace, created)

    def apply(
        self, kind: Kind, namespace: str, config: Object, *, manager: str, force: bool, dry_run: bool
    ) -> tuple[int, Object]:
        """Apply on the server's side; return 201 or 200 and the object."""
        metadata = config.setdefault("metadata", {})
        key = (kind.plural, namespace, metadata["name"])
        path = fake_kinds.undeclared_field(kind, config)
        if path:
            where = {"api_version": kind.api_version, "kind": kind.kind, "path": path}
            raise fake_answers.undeclared(namespace, metadata["name"], **where)
        with self.changed:
            live = self.objects.get(key)
            managers = fake_apply.Managers() if live is None else copy.deepcopy(self.managers[key])
            base = live or {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": {"name": key[2]}}
            merged = fake_apply.merge(base, config, manager=manager, managers=managers, force=force)
            if live is None:
                stored = self.create(kind, namespace, merged, dry_run=dry_run)
            else:
                stored = self._replace(kind, live, merged, dry_run=dry_run)
            if not dry_run:
                self.managers[key] = managers
                self.react()
            return (201 if live is None else 200), copy.deepcopy(stored)

    def merge_patch(self, kind: Kind, namespace: str, name: str, changes: Object) -> Object:
        """Change single fields: null removes one (RFC 7386)."""
        with self.changed:
            live = self.get(kind, namespace, name)
            stored = self._replace(kind, live, _merged(live, changes), dry_run=False)
            self.react()
            return copy.deepcopy(stored)

    def _replace(self, kind: Kind, live: Object, merged: Object, *, dry_run: bool) -> Object:
        fake_kinds.set_defaults(kind, merged)
        fake_kinds.check_change(kind, live, merged)
        if dry_run or fake_kinds.without_server_fields(merged) == fake_kinds.without_server_fields(live):
            return merged if dry_run else live
        if merged.get("spec") != live.get("spec"):
            merged["metadata"]["generation"] = live["metadata"]["generation"] + 1
        return self._put("MODIFIED", kind.plural, live["metadata"]["namespace"], merged)

    def update(self, plural: str, one: Object) -> Object:
        """Store a changed object, as a controller does, and let the others react."""
        with self.changed:
            stored = self._put("MODIFIED", plural, one["metadata"]["namespace"], one)
            self.react()
            return stored

    def delete(self, plural: str, namespace: str, name: str, *, policy: str) -> Object:
        """Delete with Background, Foreground or Orphan; the dependents follow, or lose their owner."""
        with self.changed:
            one = copy.deepcopy(self.objects[plural, namespace, name])
            uid = one["metadata"]["uid"]
            if policy == "Orphan":
                self._disown(namespace, uid)
            if policy == "Foreground":
                one["metadata"].setdefault("deletionTimestamp", now())
                one["metadata"]["finalizers"] = ["foregroundDeletion"]
                self._put("MODIFIED", plural, namespace, one)
                self._delete_blocking(namespace, uid)
            elif plural == "pods":
                self.end_pod(namespace, name)
            else:
                self.remove(plural, namespace, name)
            self.react()
            return one

    def end_pod(self, namespace: str, name: str) -> None:
        """Begin a pod's end; it is over at once unless pods linger."""
        pod = copy.deepcopy(self.objects["pods", namespace, name])
        if "deletionTimestamp" not in pod["metadata"]:
            pod["metadata"]["deletionTimestamp"] = now()
            self._put("MODIFIED", "pods", namespace, pod)
        if not self.lingering_pods:
            self.remove("pods", namespace, name)

    def remove(self, plural: str, namespace: str, name: str) -> None:
        with self.changed:
            one = self.objects.pop((plural, namespace, name))
            self.managers.pop((plural, namespace, name), None)
            self._record("DELETED", plural, namespace, copy.deepcopy(one))

    def collect_garbage(self) -> None:
        """Remove what only has owners that do not exist, and let go what waited for its dependents."""
        for (plural, namespace, name), one in list(self.objects.items()):
            uids = {other["metadata"]["uid"] for other in self.objects.values()}
            owners = one["metadata"].get("ownerReferences") or ()
            if owners and not any(owner["uid"] in uids for owner in owners):
                if plural == "pods":
                    self.end_pod(namespace, name)
                else:
                    self.remove(plural, namespace, name)
        for (plural, namespace, name), one in list(self.objects.items()):
            waits = "foregroundDeletion" in (one["metadata"].get("finalizers") or ())
            if waits and not self._blocking(namespace, one["metadata"]["uid"]):
                self.remove(plural, namespace, name)
                self.collect_garbage()

    def react(self) -> None:
        if self._reacting:
            return
        self._reacting = True
        try:
            before = -1
            while before != self.version:  # until nothing changes any more
                before = self.version
                for reaction in self.reactions:
                    reaction()
        finally:
            self._reacting = False

    def compact(self) -> None:
        """Forget the history: a watch from an older version gets 410."""
        with self.changed:
            self.compacted = self.version
            self.history.clear()
            self.changed.notify_all()

    def _put(self, change: str, plural: str, namespace: str, one: Object) -> Object:
        with self.changed:
            key = (plural, namespace, one["metadata"]["name"])
            self.managers.setdefault(key, fake_apply.Managers())
            self.objects[key] = one
            self._record(change, plural, namespace, one)
            self.objects[key] = copy.deepcopy(one)
            return self.objects[key]

    def _record(self, change: str, plural: str, namespace: str, one: Object) -> None:
        self.version += 1
        one["metadata"]["resourceVersion"] = str(self.version)
        self.history.append(Entry(self.version, change, plural, namespace, copy.deepcopy(one)))
        self.changed.notify_all()

    def _dependents(self, namespace: str, uid: str) -> list[Key]:
        return [
            key
            for key, one in self.objects.items()
            if key[1] == namespace and any(o["uid"] == uid for o in one["metadata"].get("ownerReferences") or ())
        ]

    def _blocking(self, namespace: str, uid: str) -> list[Key]:
        def blocks(key: Key) -> bool:
            owners = self.objects[key]["metadata"]["ownerReferences"]
            return any(owner["uid"] == uid and owner.get("blockOwnerDeletion") for owner in owners)

        return [key for key in self._dependents(namespace, uid) if blocks(key)]

    def _delete_blocking(self, namespace: str, uid: str) -> None:
        for plural, _, name in self._blocking(namespace, uid):
            if plural == "pods":
                self.end_pod(namespace, name)
            else:
                self.remove(plural, namespace, name)

    def _disown(self, namespace: str, uid: str) -> None:
        for key in self._dependents(namespace, uid):
            one = copy.deepcopy(self.objects[key])
            del one["metadata"]["ownerReferences"]
            self._put("MODIFIED", key[0], namespace, one)


def _merged(here: Any, changes: Any) -> Any:
    if not isinstance(changes, dict):
        return copy.deepcopy(changes)
    merged = copy.deepcopy(here) if isinstance(here, dict) else {}
    for key, value in changes.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = _merged(merged.get(key), value)
    return merged


def now() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
