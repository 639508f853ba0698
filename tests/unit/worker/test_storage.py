"""A pod that is evicted for what it holds: found out by the worker itself, in time, and told in one sentence."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from k8sddp.worker import storage
from tests.unit.worker import workers

MIB = 1024 * 1024


def write(path: Path, size: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(os.urandom(size))


def never() -> bool:
    return False


def test_what_is_held_is_counted_as_the_kubelet_does(tmp_path: Path) -> None:
    """Blocks of all files in all folders, a hard link once, a hole not, and nothing behind a symbolic link."""
    write(tmp_path / "volume" / "a" / "b" / "file", MIB)
    write(tmp_path / "outside", 8 * MIB)
    (tmp_path / "volume" / "linked").hardlink_to(tmp_path / "volume" / "a" / "b" / "file")
    (tmp_path / "volume" / "symbolic").symlink_to(tmp_path / "outside")
    with (tmp_path / "volume" / "sparse").open("wb") as sparse:
        sparse.truncate(64 * MIB)
    held = storage.held(str(tmp_path / "volume"), enough=100 * MIB, late=never)
    assert MIB <= held < 2 * MIB
    assert 0 == storage.held(str(tmp_path / "nowhere"), enough=MIB, late=never)


@pytest.mark.parametrize(
    ("limit", "found"),
    [
        pytest.param(MIB // 2, True, id="over"),
        pytest.param(64 * MIB, False, id="under"),
        pytest.param(0, False, id="none"),
    ],
)
def test_a_volume_over_its_limit_is_found(tmp_path: Path, limit: int, found: bool) -> None:
    """One without limit, or below it, is not."""
    write(tmp_path / "file", MIB)
    volume = storage.Volume("scratch", str(tmp_path), limit)
    assert (volume if found else None) == storage.full([storage.Volume("other", "/nowhere", 1), volume])


def test_the_walk_ends_in_time(tmp_path: Path) -> None:
    """The kubelet gives one second in all: what was not found by then is not found."""
    write(tmp_path / "file", MIB)
    clock = iter(range(1000))
    assert storage.full([storage.Volume("scratch", str(tmp_path), 1)], now=lambda: next(clock)) is None


def test_a_pod_leaves_with_the_fault_that_it_is_evicted_for(tmp_path: Path) -> None:
    """The sentence names volume, path, limit and remedy."""
    write(tmp_path / "file", MIB)
    leave = storage.look([("scratch", str(tmp_path), MIB // 2)], 0, grace=30.0)
    assert (
        f"volume scratch ({tmp_path}) holds more than its sizeLimit of 512 KiB, so Kubernetes evicts the pod: "
        "raise it, or use a claim"
    ) == leave.why


@pytest.mark.parametrize(
    ("limit", "log", "over"),
    [
        pytest.param(4 * MIB, 0, False, id="under"),
        pytest.param(2 * MIB, 0, True, id="both volumes"),
        pytest.param(4 * MIB, 2 * MIB, True, id="with the log"),
        pytest.param(0, 100 * MIB, False, id="unknown"),
    ],
)
def test_all_volumes_and_the_log_count_against_a_limit_range(tmp_path: Path, limit: int, log: int, over: bool) -> None:
    """None of them has a limit of its own, and together they are too much."""
    write(tmp_path / "a" / "file", MIB + MIB // 2)
    write(tmp_path / "b" / "file", MIB + MIB // 2)
    volumes = [("a", str(tmp_path / "a"), 0), ("b", str(tmp_path / "b"), 0)]
    assert over == ("a LimitRange allows it" in storage.look(volumes, log, grace=30.0, limit=limit).why)


@pytest.mark.parametrize(
    ("size", "log", "grace", "linger"),
    [
        pytest.param(0, 0, 30.0, 0.0, id="nothing written"),
        pytest.param(2 * MIB, 0, 30.0, 2.0, id="files"),
        pytest.param(0, 2 * MIB, 30.0, 2.0, id="log"),
        pytest.param(2 * MIB, 0, 1.0, 0.5, id="little grace"),
    ],
)
def test_a_pod_that_may_be_evicted_for_what_it_cannot_see_lingers(
    tmp_path: Path, size: int, log: int, grace: float, linger: float
) -> None:
    """Longer than the second that the kubelet gives, so that it is killed, which counts; others leave at once."""
    write(tmp_path / "file", size)
    assert storage.Leave("", linger) == storage.look([("k8sddp-tmp", str(tmp_path), 0)], log, grace=grace)
    assert storage.LINGER > 1  # immediateEvictionGracePeriodSeconds of pkg/kubelet/eviction


@pytest.mark.parametrize(
    ("count", "text"), [(1, "1 B"), (64 * MIB, "64 MiB"), (1536 * MIB, "1.5 GiB"), (10**9, "953.7 MiB")]
)
def test_sizes_are_written_as_people_do(count: int, text: str) -> None:
    """In the largest unit that leaves at least one."""
    assert text == storage.size(count)


@pytest.mark.parametrize(
    ("max_attempts", "code"), [pytest.param("2", 80, id="more left"), pytest.param("1", 64, id="last")]
)
def test_a_worker_that_is_evicted_counts_and_names_the_volume(tmp_path: Path, max_attempts: str, code: int) -> None:
    """Within the kubelet's second on an idle machine: the Job counts 80, and 64 ends it."""
    write(tmp_path / "scratch" / "file", MIB)
    volumes = json.dumps([["scratch", str(tmp_path / "scratch"), MIB // 2]])
    options = {"launcher": "direct", "pod_ip": "10.0.0.2", "max_attempts": max_attempts, "volumes": volumes}
    with workers.Gang(tmp_path, workers.WAIT_FOR_EVER, **options).start() as gang:
        (pod,) = gang.pods
        pod.wait_for("] up")
        pod.send(signal.SIGTERM)
        assert code == pod.wait(), pod.log
        assert "evicted" == pod.cause["class"]
        assert "holds more than its sizeLimit of 512 KiB" in str(pod.cause["message"])


WRITES = "import sys, time\nsys.stdout.write(('y' * 63 + '\\n') * 20000)\nprint('up', flush=True)\ntime.sleep(100)\n"


@pytest.mark.parametrize(("script", "least"), [(workers.WAIT_FOR_EVER, 0.0), (WRITES, 1.0)], ids=["idle", "wrote"])
def test_a_worker_that_wrote_outlives_the_kubelets_second(tmp_path: Path, script: str, least: float) -> None:
    """Then it leaves with 143, which the Job ignores: a drain gave it the time to."""
    with workers.Gang(tmp_path, script, launcher="direct", pod_ip="10.0.0.2", volumes="[]").start() as gang:
        (pod,) = gang.pods
        pod.wait_for("] up")
        start = time.monotonic()
        pod.send(signal.SIGTERM)
        assert 143 == pod.wait(), pod.log
        assert time.monotonic() - start >= least
