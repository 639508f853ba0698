"""One read of the cluster: the objects of one job as they were at that moment.

A snapshot is a value. Whoever made it (`cluster.observing`, the operator's cache, a test) has done all the reading, and
nothing that gets it can read more: that is what keeps `plan` pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from k8sddp import manifest
from k8sddp.manifest import Manifest, Ref


@dataclass(frozen=True)
class Snapshot:
    """Objects by reference, and the job's pods and events; what is missing does not exist."""

    objects: Mapping[Ref, Manifest] = field(default_factory=dict)
    pods: tuple[Manifest, ...] = ()
    events: tuple[Manifest, ...] = ()

    def get(self, ref: Ref) -> Manifest | None:
        """Return the observed object, or None where it does not exist."""
        return self.objects.get(ref)

    def indexed_job(self, name: str) -> Manifest | None:
        """Return the Indexed Job `name`, or None."""
        return self.get(job_ref(name))


def job_ref(name: str) -> Ref:
    """Return the reference of the Indexed Job `name`."""
    return Ref("batch/v1", "Job", name)


def of(objects: Iterable[Manifest], *, pods: Iterable[Manifest] = (), events: Iterable[Manifest] = ()) -> Snapshot:
    """Return the snapshot of these objects."""
    return Snapshot({manifest.ref_of(one): one for one in objects}, tuple(pods), tuple(events))
