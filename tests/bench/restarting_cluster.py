"""A rank is killed again and again on the test bed: k8sddp beside raw Indexed Jobs and JobSet.

`recovery` says what is measured; the ranks write into a `notes.notebook`. Systems take turns, each alone on the
cluster, all in one restricted namespace. A run that does not end within its system's limit is ended and is no success:
a raw Job's back-off doubles with every failure, so it is measured less often than the others, and its later faults may
be missing. The last row is what a start costs without any fault, in the same rounds.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.bench import applying, jobset_controller, notes, peers, recovery
from tests.cluster import backends
from tests.cluster.errors import ClusterUnavailableError
from tests.cluster.testbed import layout
from tests.e2e import jobs, users

NAME = "restart"
HOST = layout.NODE_ADDRESSES["node-a"]  # where pods reach the notebook
LOOK = 3.0  # seconds between two looks at the object; moments come from the ranks, so it may be slow
JOB_ENDS: Mapping[str, bool] = {"Complete": True, "Failed": False}
JOBSET_ENDS: Mapping[str, bool] = {"Completed": True, "Failed": False}
PLAIN = "raw Indexed Job, Never"


class Place(NamedTuple):
    """Where jobs run and files lie."""

    who: users.User
    folder: Path


class System(NamedTuple):
    """Who restarts, and how it is started and removed."""

    apply: Callable[[Place, Sequence[str], int], None]  # with the script's arguments and the number of faults
    delete: Callable[[Place], None]
    target: str  # kind/name
    ends: Mapping[str, bool]  # condition -> complete
    slow: bool = False  # back-off grows to minutes
    limit: float = 240.0  # seconds for a run; five faults take about 60 where nothing hangs


def _create(place: Place, manifests: Sequence[peers.Manifest]) -> None:
    listed = {"apiVersion": "v1", "kind": "List", "items": [peers.script(notes.SCRIPT), *manifests]}
    _kubectl(place, "apply", "--server-side", "--filename=-", stdin=json.dumps(listed))


def _deleting(*kinds: str) -> Callable[[Place], None]:
    """Return what deletes a peer's objects and waits for its pods to be gone."""

    def delete(place: Place) -> None:
        for kind in (*kinds, "configmap"):
            _kubectl(place, "delete", kind, peers.NAME, "--cascade=foreground", "--ignore-not-found", timeout=120)

    return delete


def _kubectl(place: Place, *words: str, stdin: str | None = None, timeout: float = 60) -> str:
    scope = f"--namespace={place.who.namespace}"  # as the admin: the role `edit` knows no JobSets
    return place.who.cluster.kubectl(scope, *words, stdin=stdin, timeout=timeout)


def _succeed(ended: users.Ended) -> None:
    if ended.code != 0:
        raise RuntimeError(f"k8sddp: exit {ended.code}: {ended.err}")


def _say(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)


def k8sddp(launcher: str) -> System:
    """Return k8sddp with a launcher, as a user applies it."""

    def apply(place: Place, words: Sequence[str], faults: int) -> None:
        spec = {
            "image": place.who.cluster.image,
            "command": ["main.py", *words],
            "nnodes": 2,
            "backend": "gloo",
            "launcher": launcher,
            "resources": {"cpu": "1", "memory": "2Gi"},
            "restart": {"maxAttempts": faults + 1},
            "terminationGracePeriodSeconds": 30,  # the default, as the peers have it
        }
        file = jobs.write(place.folder, NAME, notes.SCRIPT, **spec)
        _succeed(place.who.k8sddp("apply", str(file)))

    return System(apply, lambda place: _succeed(place.who.k8sddp("delete", NAME)), f"job/{NAME}", JOB_ENDS)


def raw_job(restart_policy: str) -> System:
    """Return a raw Indexed Job: its controller (Never) or the kubelet (OnFailure) restarts."""

    def apply(place: Place, words: Sequence[str], faults: int) -> None:
        _create(place, peers.raw_job(place.who.cluster.image, restart_policy, list(words)))

    return System(apply, _deleting("job", "service"), f"job/{peers.NAME}", JOB_ENDS, slow=True, limit=420.0)


def jobset() -> System:
    """Return JobSet, whose controller must run."""

    def apply(place: Place, words: Sequence[str], faults: int) -> None:
        _create(place, peers.jobset(place.who.cluster.image, list(words), max_restarts=faults + 1))

    return System(apply, _deleting("jobset"), f"jobset/{peers.NAME}", JOBSET_ENDS)


SYSTEMS: Mapping[str, System] = {
    "k8sddp, torchrun": k8sddp("torchrun"),
    "k8sddp, direct": k8sddp("direct"),
    "JobSet": jobset(),
    "raw Indexed Job, OnFailure": raw_job("OnFailure"),
    PLAIN: raw_job("Never"),
}


def figures(*, rounds: int = 3, slow_rounds: int = 1, faults: int = recovery.FAULTS) -> list[dict[str, object]]:
    """Return a row for each system and fault, and one for a start; a sentence and none without a test bed."""
    choice = backends.choose(backends.observe(os.environ))
    if choice.backend != "testbed":
        _say(f"restarts on a cluster are skipped, as they need the test bed's one clock: {choice.sentence}")
        return []
    try:
        with tempfile.TemporaryDirectory() as name, applying.user() as who:
            place = Place(who, Path(name))
            with jobset_controller.running(who.cluster, place.folder):
                found, plain = measure(place, rounds=rounds, slow_rounds=slow_rounds, faults=faults)
    except ClusterUnavailableError as error:
        _say(f"restarts on a cluster are skipped: {error}")
        return []
    named = {f"cluster, {system}": runs for system, runs in found.items()}
    return recovery.table(named, plain, start=f"cluster, {PLAIN}: apply to first step")


def measure(
    place: Place, *, rounds: int, slow_rounds: int, faults: int
) -> tuple[dict[str, list[recovery.Run]], list[float]]:
    """Run every system in turn; return its runs, and what starts without faults cost."""
    run(place, PLAIN, 0)  # warms the page cache and is thrown away
    found: dict[str, list[recovery.Run]] = {system: [] for system in SYSTEMS}
    starts = []
    for number in range(rounds):
        starts.append(run(place, PLAIN, 0))
        for system, runs in found.items():
            if number < slow_rounds or not SYSTEMS[system].slow:
                runs.append(run(place, system, faults))
    return found, [one.launch for one in starts if one.complete]


def run(place: Place, name: str, faults: int) -> recovery.Run:
    """Run one system once and remove it."""
    system, cluster = SYSTEMS[name], place.who.cluster
    with cluster.inside(), notes.notebook(HOST) as notebook:
        begun = time.monotonic()
        try:
            system.apply(place, (notebook.address, str(faults)), faults)
            complete = await_end(place, system, begun + system.limit)
        finally:
            system.delete(place)
        judged = recovery.judge(notebook.written, begun, complete=complete is True, faults=faults)
    steps = " ".join(f"{step:.1f}" for step in judged.restarts)
    end = {True: "complete", False: "failed", None: f"not ended after {system.limit:g} s"}[complete]
    _say(f"cluster, {name}, {faults} faults: {end}; start {judged.launch:.1f} s; fault -> first step: {steps or '-'}")
    return judged


def await_end(place: Place, system: System, deadline: float) -> bool | None:
    """Tell whether the run completed or failed; None when it did neither in time."""
    while time.monotonic() < deadline:
        time.sleep(LOOK)
        found = json.loads(_kubectl(place, "get", system.target, "--output=json"))
        for condition in found.get("status", {}).get("conditions", []):
            if condition["status"] == "True" and condition["type"] in system.ends:
                return system.ends[condition["type"]]
    return None
