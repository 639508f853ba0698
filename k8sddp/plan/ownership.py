"""Is it ours: what tells the objects of a job that k8sddp made from those that happen to have its name.

Two labels of every object that is rendered say so: who manages it, and for which job. Whoever touches, shows or lists
an object asks here; another manager who copied the labels of a job, but for its own, keeps what is his.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from k8sddp import constants, manifest
from k8sddp.manifest import Manifest

# What selects the objects of all our jobs
ALL: Final = f"{constants.LABEL_APP_MANAGED_BY}={constants.MANAGED_BY},{constants.LABEL_JOB}"


class Label(NamedTuple):
    """A label that an object of ours has, and what is there instead: empty for nothing."""

    key: str
    value: str
    found: str


def selector(job: str) -> str:
    """Return what selects the objects of one job."""
    return f"{ALL}={job}"


def wrong_label(one: Manifest, job: str) -> Label | None:
    """Return the first label by which `one` is not an object of ours for `job`; None where it is one."""
    for key, value in ((constants.LABEL_APP_MANAGED_BY, constants.MANAGED_BY), (constants.LABEL_JOB, job)):
        found = manifest.label(one, key)
        if found != value:
            return Label(key, value, found)
    return None


def refusal(job: Manifest) -> str:
    """Return why a Job is not one of ours, in a sentence that lacks the remedy; empty where it is."""
    ref = manifest.ref_of(job)
    wrong = wrong_label(job, ref.name)
    return f"{ref} was not made by k8sddp (it has no label {wrong.key}={wrong.value})" if wrong else ""
