"""The samples train on the cluster as their README says, and as they do on this machine."""

import os
import re
import statistics
import time
from pathlib import Path

import pytest

from tests.e2e import jobs
from tests.e2e.users import User

pytestmark = [pytest.mark.cluster, pytest.mark.torch, pytest.mark.timeout(300)]

ACCURACY = re.compile(r"^test accuracy (0\.\d+), model saved", re.MULTILINE)
REPEATS = int(os.environ.get("K8SDDP_TEST_REPEATS", "1"))  # digits runs in a row; 30 before a release
TORCH = re.compile(r"node 0 of 2, pod .*, torch (\S+)")


def test_digits_trains_on_two_kube_nodes_as_well_as_here(user: User, tmp_path: Path) -> None:
    """Both nodes become ready, the job completes with the local run's accuracy, and kubectl shows what rank 0 said."""
    file = jobs.sample(tmp_path, "digits/job.yaml", image=user.cluster.image)
    created = user.k8sddp("apply", str(file))
    assert (0, f"context alice, namespace {user.namespace}, mode direct") == (created.code, created.err.splitlines()[0])
    user.await_ready("digits", 2)
    assert 2 == len({pod["spec"]["nodeName"] for pod in user.pods("digits")})

    log = user.k8sddp("logs", "digits", "-f")
    (accuracy,) = ACCURACY.findall(log.out)
    assert 0.95 <= float(accuracy)
    assert "parameters equal on all ranks: yes" in log.out
    user.await_condition("digits", "Complete")
    shown = user.kubectl("logs", user.pod("digits", 0)["metadata"]["name"])
    assert f"[rank 0] test accuracy {accuracy}, model saved to /model/digits.pt" in shown
    assert ["digits", "Complete", "2/2"] == user.k8sddp("get", "digits").out.splitlines()[1].split()[:3]

    here = user.k8sddp("run", "--local", str(file), "--work-dir", str(tmp_path / "work"))
    (local,) = ACCURACY.findall(here.out.replace("[rank 0] ", ""))
    (torch_there,), (torch_here,) = TORCH.findall(log.err), TORCH.findall(here.out + here.err)
    same_torch = torch_there == torch_here
    assert float(local) == pytest.approx(float(accuracy), abs=0 if same_torch else 0.02)


@pytest.mark.timeout(60 + 120 * REPEATS)
def test_digits_completes_every_time(user: User, tmp_path: Path) -> None:
    """`run --replace` again and again: complete, with the same accuracy."""
    file = jobs.sample(tmp_path, "digits/job.yaml", image=user.cluster.image)
    found, seconds = set(), []
    for _ in range(REPEATS):
        begun = time.monotonic()
        done = user.k8sddp("run", str(file), "--replace")
        seconds.append(time.monotonic() - begun)
        assert (0, 1) == (done.code, len(ACCURACY.findall(done.out))), done
        found |= set(ACCURACY.findall(done.out))
    print(f"digits: {REPEATS} runs, median {statistics.median(seconds):.1f} s, worst {max(seconds):.1f} s, {found}")
    assert 1 == len(found)


def test_the_tcp_sample_trains_when_kubectl_applies_what_render_prints(user: User, tmp_path: Path) -> None:
    """No k8sddp talks to the server; the logs show each pod's ranks, and `k8sddp logs --rank 1` that rank alone."""
    file = jobs.sample(tmp_path, "tutorial/tcp.yaml", image=user.cluster.image)
    rendered = user.k8sddp("render", str(file))
    assert (0, "") == (rendered.code, rendered.err)
    user.kubectl("apply", "--server-side", "--filename=-", stdin=rendered.out)
    user.await_condition("tutorial-tcp", "Complete")

    for rank in (0, 1):
        log = user.kubectl("logs", user.pod("tutorial-tcp", rank)["metadata"]["name"])
        assert [str(rank)] == sorted(set(re.findall(r"^\[rank (\d+)\]", log, re.MULTILINE)))
        assert f"[rank {rank}] rank {rank} of 2: loss " in log
    only = user.k8sddp("logs", "tutorial-tcp", "--rank", "1")
    assert (0, ["rank 1 of 2: loss"]) == (only.code, [line[:17] for line in only.out.splitlines()])


def test_run_trains_the_spawn_sample_and_ends_with_its_exit_code(user: User, tmp_path: Path) -> None:
    """mp.spawn starts world_size 4 in one pod; `run` shows rank 0 and returns 0."""
    file = jobs.sample(tmp_path, "tutorial/spawn.yaml", image=user.cluster.image)
    done = user.k8sddp("run", str(file))
    assert 0 == done.code, done
    assert "rank 0 of 4: loss " in done.out
    assert "tutorial-spawn complete after" in done.err
    ranks = [f"rank {rank} of 4" for rank in range(4)]
    pod = user.pod("tutorial-spawn", 0)["metadata"]["name"]
    for log in (user.k8sddp("logs", "tutorial-spawn", "--all").out, user.kubectl("logs", pod)):
        assert ranks == sorted(re.findall(r"rank \d of 4", log))
    asked = user.k8sddp("logs", "tutorial-spawn", "--rank", "2")
    assert (0, True) == (asked.code, "rank 2 of 4: loss " in asked.out), asked
