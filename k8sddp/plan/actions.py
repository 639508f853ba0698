"""The steps of a plan, as values: what `cluster.execution` does one after the other, and what a dry run prints.

The order inside a plan is the order of execution. An action holds everything that is known before the first request;
only the Job's uid, which the API server gives out, is filled in when the children are applied.
"""

from __future__ import annotations

from dataclasses import dataclass

from k8sddp.manifest import Manifest, Ref


@dataclass(frozen=True)
class CreateSuspendedJob:
    """Create the Job with `suspend: true`, marked as incomplete: it does nothing until it is started.

    With a `queue` it is created once and never applied: an apply that sends `suspend` owns it, and the next one, which
    does not, would start the Job outside its queue.
    """

    manifest: Manifest  # as rendered
    queue: str = ""  # of Kueue, which starts it


@dataclass(frozen=True)
class ApplyChild:
    """Apply an object that the Job owns."""

    manifest: Manifest  # as rendered, without the ownerReference
    observed_version: str = ""  # resourceVersion when it was observed, empty where it did not exist


@dataclass(frozen=True)
class StartJob:
    """Apply the Job as rendered: this drops `suspend` and the mark, so its pods appear."""

    manifest: Manifest


@dataclass(frozen=True)
class LeaveToQueue:
    """Take off the mark and leave `suspend` to Kueue, which starts the Job when the queue has room."""

    manifest: Manifest
    queue: str


@dataclass(frozen=True)
class DeleteJob:
    """Delete the Job and wait until it, its children and its pods are gone."""

    ref: Ref
    uid: str
    owned: tuple[tuple[Ref, str], ...] = ()  # what goes with it, with uids
    already_deleting: bool = False  # somebody has deleted it: only wait


@dataclass(frozen=True)
class DeleteChild:
    """Delete a leftover child of an earlier Job that can neither be changed nor kept."""

    ref: Ref
    uid: str


@dataclass(frozen=True)
class Unchanged:
    """Leave it as it is, and say so."""

    ref: Ref


Action = CreateSuspendedJob | ApplyChild | StartJob | LeaveToQueue | DeleteJob | DeleteChild | Unchanged


@dataclass(frozen=True)
class Plan:
    """Actions in order of execution; with a refusal there are none, and the refusal is the whole answer."""

    job: Ref
    actions: tuple[Action, ...] = ()
    refusal: str = ""
    owner_uid: str = ""  # of the Job that exists and stays; empty where the plan creates it
