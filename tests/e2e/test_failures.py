"""A job that fails says which rank, where and why: in `run`, in `get`, and in Kubernetes' own objects.

Jobs of one attempt, so that the first failure is the end; tests/e2e/test_restarts.py has the others.
"""

import json
from pathlib import Path

import pytest

from tests.e2e import jobs
from tests.e2e.users import User

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

EXIT_7 = "import os, sys, time\nif os.environ['RANK'] == '1':\n    sys.exit(7)\ntime.sleep(600)\n"
RAISE = """
import torch.distributed as dist

dist.init_process_group("gloo")
if dist.get_rank() == 1:
    raise ValueError("batch 3 is empty")
dist.barrier()
"""
ONCE = {"restart": {"maxAttempts": 1}}
GREEDY = "hoard = [bytearray(1 << 24) for _ in range(64)]\nprint(len(hoard))\n"
BIG = {"resources": {"cpu": "1", "memory": "2Gi"}}


def verdict(pod: dict[str, object]) -> dict[str, object]:
    """Return what the worker left in its pod's termination message."""
    (container,) = pod["status"]["containerStatuses"]  # type: ignore[index]
    return dict(json.loads(container["state"]["terminated"]["message"]))


@pytest.mark.torch
def test_the_rank_that_raised_is_named_and_not_the_one_that_waited_for_it(user: User, tmp_path: Path) -> None:
    """Rank 1 raises, rank 0 sits in a barrier: `run` and `get` tell rank, exception and exit code, as does the pod."""
    file = jobs.write(tmp_path, "raises", RAISE, image=user.cluster.image, nnodes=2, launcher="torchrun", **BIG, **ONCE)
    ran = user.k8sddp("run", str(file))
    first = verdict(user.pod("raises", 0))["first_failure"]
    assert isinstance(first, dict)
    assert (1, 1, "exception", "ValueError: batch 3 is empty", 1) == tuple(
        first[key] for key in ("rank", "node_rank", "class", "exception", "exit_code")
    )
    assert first["pod"].startswith("raises-1-")
    who = f"rank 1 (pod {first['pod']}, node {first['kube_node']})"
    sentence = f"{who} raised ValueError: batch 3 is empty (exit code 1)"

    assert 1 == ran.code
    (end,) = [line for line in ran.err.splitlines() if "raises failed after " in line]
    assert sentence == end.partition(": ")[2]
    assert 'raise ValueError("batch 3 is empty")' in ran.err
    shown = user.k8sddp("get", "raises").out
    assert f"first failure: {sentence}" in shown
    assert ["raises", "Failed"] == shown.splitlines()[1].split()[:2]
    conditions = {one["type"]: one for one in user.object("job", "raises")["status"]["conditions"]}
    assert "PodFailurePolicy" == conditions["Failed"]["reason"]
    assert "exit code 1 " in conditions["Failed"]["message"]
    assert sentence == user.object("job", "raises")["metadata"]["annotations"]["k8sddp.dev/first-failure"]


def test_an_interpreter_that_the_image_lacks_ends_the_job_at_its_first_pod(user: User, tmp_path: Path) -> None:
    """No second pod would find it; the kubelet's sentence is told to its end, where runc's reason stands."""
    file = jobs.write(tmp_path, "lacks", jobs.HOLD, image=user.cluster.image, nnodes=1, python="python9")
    ran = user.k8sddp("run", str(file))
    assert 128 == ran.code, ran
    (end,) = [line for line in ran.err.splitlines() if "lacks failed after " in line]
    reason = 'exec: "python9": executable file not found in $PATH'
    sentence = f"{reason}): set spec.python to the image's interpreter, or env.PATH"
    assert end.endswith(sentence), ran.err
    (pod,) = user.pods("lacks")
    (container,) = pod["status"]["containerStatuses"]
    assert ("StartError", 128) == tuple(container["state"]["terminated"][key] for key in ("reason", "exitCode"))
    conditions = {one["type"]: one for one in user.object("job", "lacks")["status"]["conditions"]}
    assert "PodFailurePolicy" == conditions["Failed"]["reason"]
    shown = user.k8sddp("get", "lacks").out
    assert ["lacks", "Failed"] == shown.splitlines()[1].split()[:2]
    assert sentence in shown, shown


def test_run_ends_with_the_exit_code_of_the_script(user: User, tmp_path: Path) -> None:
    """Rank 1 leaves with 7 while rank 0 sleeps: `run` ends with 7, and so does the pod that decides the Job."""
    file = jobs.write(tmp_path, "exits", EXIT_7, image=user.cluster.image, nnodes=2, **ONCE)
    ran = user.k8sddp("run", str(file))
    assert 7 == ran.code, ran
    (container,) = user.pod("exits", 0)["status"]["containerStatuses"]
    assert 7 == container["state"]["terminated"]["exitCode"]
    shown = user.k8sddp("get", "exits").out
    assert "first failure: rank 1 (pod exits-1-" in shown
    assert "exited with code 7" in shown


def test_a_deadline_is_named(user: User, tmp_path: Path) -> None:
    """A job that runs too long is failed by Kubernetes; `run` says by which limit, although no pod is left."""
    file = jobs.write(tmp_path, "late", jobs.HOLD, image=user.cluster.image, activeDeadlineSeconds=2)
    ran = user.k8sddp("run", str(file))
    assert 0 != ran.code
    assert "the job ran longer than spec.activeDeadlineSeconds (2 s)" in ran.err
    assert "the job ran longer than spec.activeDeadlineSeconds (2 s)" in user.k8sddp("get", "late").out


def test_a_rank_over_its_memory_is_named_with_the_limit(user: User, tmp_path: Path) -> None:
    """The kernel kills the rank alone or the whole container; either way the sentence says what to raise."""
    file = jobs.write(tmp_path, "greedy", GREEDY, image=user.cluster.image, resources={"memory": "128Mi"}, **ONCE)
    ran = user.k8sddp("run", str(file))
    assert 0 != ran.code
    (end,) = [line for line in ran.err.splitlines() if "greedy failed after " in line]
    assert end.endswith("ran out of memory (OOMKilled, limit 128Mi): raise spec.resources.memory")
    assert "pod greedy-0-" in end


def test_a_script_that_is_missing_fails_before_anything_starts(user: User, tmp_path: Path) -> None:
    """The preflight names the script and the folder; exit code 77."""
    file = jobs.write(tmp_path, "missing", jobs.DONE, image=user.cluster.image, command=["/opt/train.py"])
    ran = user.k8sddp("run", str(file))
    assert 77 == ran.code, ran
    assert "the script /opt/train.py is not in /k8sddp/work" in ran.err
