"""Lost pods over time: since when one is being deleted, and requests that fail."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from k8sddp import errors, plan
from k8sddp.cli import following, replacements
from k8sddp.plan import snapshot
from tests.contract.fake_cluster import FakeCluster
from tests.unit.cluster.connected import fake_and_cluster
from tests.unit.cluster.test_execution import apply
from tests.unit.plan import observed

TAINTED = {"conditions": [{"type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager"}]}
FAULT = errors.UnreachableError("no answer")


def make_stuck(**more: Any) -> dict[str, Any]:
    """Return pod 1, being deleted, on a Kubernetes Node that may be dead; by a wall clock long ago."""
    at = {"deletionTimestamp": "2020-01-01T00:00:00Z", "deletionGracePeriodSeconds": 30}
    return observed.make_pod(1, status=TAINTED, **{**at, **more})


def seen(*pods: dict[str, Any]) -> plan.Snapshot:
    """Return one look at the job with these pods."""
    return snapshot.of([observed.make_job()], pods=pods)


def looked(memory: replacements.Replacements, what: plan.Snapshot, now: float) -> tuple[list[str], float | None]:
    """Return the uids to replace now, and when to look again."""
    requests, again = memory.look(what, now=now)
    return [request.pod["metadata"]["uid"] for request in requests], again


def test_a_deletion_counts_from_its_first_sight() -> None:
    """A clock that is ahead makes no pod dead; a pod that came back, or another, begins anew."""
    memory = replacements.Replacements("digits")
    assert ([], 132.0) == looked(memory, seen(make_stuck()), 100.0)
    assert ([], 132.0) == looked(memory, seen(make_stuck()), 131.9)
    assert (["pod-1"], None) == looked(memory, seen(make_stuck()), 132.0)
    assert ([], None) == looked(memory, seen(make_stuck()), 133.0)  # its request is on its way
    assert ([], 172.0) == looked(memory, seen(make_stuck(uid="another")), 140.0)
    assert ([], None) == looked(memory, seen(), 141.0)


def test_a_failed_request_is_made_again_after_growing_pauses() -> None:
    """Told at the first fault and at the last; nobody is bothered in between."""
    memory, now, pauses, told = replacements.Replacements("digits"), 0.0, [], []
    looked(memory, seen(make_stuck()), now)
    now = 32.0
    for _ in range(replacements.MAX_TRIES):
        requests, _again = memory.look(seen(make_stuck()), now=now)
        assert [frozenset({"pod-1"})] == [request.overdue for request in requests]
        told.append(memory.take(replacements.Answer(requests[0].pod, "", FAULT), now=now))
        requests, again = memory.look(seen(make_stuck()), now=now)
        assert () == requests
        if again is not None:
            pauses.append(again - now)
            now = again
    assert [1, 2, 4, 8, 16, 30, 30, 30, 30] == pauses
    assert [0, 9] == [number for number, sentence in enumerate(told) if sentence]
    lost = "pod digits-1-abcde (Kubernetes Node node-a) was lost with its Kubernetes Node (no reason given)"
    first = (
        "could not create a replacement (will retry): no answer; the Job controller does not replace a pod that still"
    )
    assert f"{lost}; {first} exists" == told[0]
    assert f"{lost}; not replaced in 10 tries (no answer); `kubectl patch pod digits-1-abcde -p " in told[9]
    assert "&& kubectl delete pod digits-1-abcde --force` lets the Job do it" in told[9]


def test_an_ended_pod_is_also_replaced_by_the_job() -> None:
    """The sentence says so; what was not due is asked for again without a word, what was made is not."""
    memory, ended = replacements.Replacements("digits"), observed.make_ended_pod(1, exit_code=137)
    assert (["pod-1"], None) == looked(memory, seen(ended), 0.0)
    told = memory.take(replacements.Answer(ended, "", FAULT), now=0.0)
    assert "(will retry): no answer; the Job itself replaces it after its back-off" in told
    assert ([], 1.0) == looked(memory, seen(ended), 0.5)
    assert (["pod-1"], None) == looked(memory, seen(ended), 1.0)
    assert "" == memory.take(replacements.Answer(ended, ""), now=1.0)
    assert (["pod-1"], None) == looked(memory, seen(ended), 3.0)
    assert memory.take(replacements.Answer(ended, "digits-1-new"), now=3.0).endswith("; replaced by digits-1-new")
    assert ([], None) == looked(memory, seen(ended), 99.0)


def follow(connection: Any, told: list[str], lines: list[bytes], *, replace: bool) -> threading.Thread:
    """Follow the job in a thread until it ends."""
    follower = following.Follower(
        connection, "digits", emit=lines.append, tell=told.append, again="k8sddp logs digits -f", replace=replace
    )
    thread = threading.Thread(target=follower.follow, args=([0],), daemon=True)
    thread.start()
    return thread


def until(true: Any) -> None:
    """Wait until it is true, a few seconds at most."""
    pause = threading.Event()
    assert any(true() or pause.wait(0.02) for _ in range(400))


def lose(fake: FakeCluster, index: int) -> str:
    """Put a pod on a dead Kubernetes Node, its grace over; return its name."""
    name = fake.pod("digits", index)
    fake.run_pod(name)
    with fake.changing("pods", name) as pod:
        pod["metadata"].update(deletionTimestamp="2099-01-01T00:00:00Z", deletionGracePeriodSeconds=-2)
        pod["status"]["conditions"].append({"type": "DisruptionTarget", "status": "True"})
    return name


def test_a_follower_asks_again_after_a_fault(tmp_path: Path) -> None:
    """One request that failed is not the end of a pod on a dead Kubernetes Node."""
    with fake_and_cluster(tmp_path) as (fake, connection, _):
        apply(connection)
        fake.forbidden.add(("create", "pods"))
        told: list[str] = []
        thread = follow(connection, told, [], replace=True)
        name = lose(fake, 1)
        until(lambda: any("could not create a replacement (will retry)" in one for one in told))
        fake.forbidden.clear()
        until(lambda: any("; replaced by digits-1-" in one for one in told))
        assert 2 == len([one for one in told if one.startswith(f"pod {name} ")])
        fake.end_container(fake.pod("digits", 0), 0)
        thread.join(20)
        assert not thread.is_alive()


@pytest.mark.parametrize("replace", [True, False])
def test_a_line_of_a_log_is_no_reason_to_look_for_lost_pods(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, replace: bool
) -> None:
    """It reads every pod: once for a snapshot, and never where nothing is to be replaced."""
    looks: list[float] = []
    look = replacements.Replacements.look

    def counted(self: replacements.Replacements, snapshot: plan.Snapshot, *, now: float) -> Any:
        looks.append(now)
        return look(self, snapshot, now=now)

    monkeypatch.setattr(replacements.Replacements, "look", counted)
    with fake_and_cluster(tmp_path) as (fake, connection, _):
        apply(connection)
        lines: list[bytes] = []
        thread = follow(connection, [], lines, replace=replace)
        first = fake.pod("digits", 0)
        fake.run_pod(first)
        fake.write_log(first, *[b"a line"] * 200)
        until(lambda: len(lines) == 200)
        fake.end_container(first, 0)
        thread.join(20)
        assert not thread.is_alive()
    assert (replace, True) == (bool(looks), len(looks) < 20)
