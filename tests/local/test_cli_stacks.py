"""`k8sddp stacks` as a user meets it: the installed program against the fake API server, over real HTTP."""

from __future__ import annotations

import json
import signal
from typing import Any

from k8sddp.worker.contract import stacks
from k8sddp.worker.contract.stacks import Frame, RankStack
from tests.local.cluster_users import User, user

__all__ = ["user"]

ENGINE = Frame("/opt/site-packages/torch/autograd/graph.py", 800, "_engine_run_backward")
STEP = Frame("/k8sddp/work/train.py", 2, "step")


def told(*seen: RankStack, state: str = "training") -> dict[str, Any]:
    """Return what a worker's /stacks?format=json says."""
    return {"state": state, "stacks": [stacks.to_record(one) for one in seen]}


def train(user: User) -> None:
    """Apply a job of two nodes with its code, and let rank 1 be stopped while rank 0 waits for it."""
    (user.folder / "train.py").write_text("def step():\n    loss.backward()\nstep()\n")
    user.write(code={"path": "."})
    assert 0 == user.says("apply", "job.yaml").code
    user.trains()
    frames = (ENGINE, STEP, Frame("/k8sddp/work/train.py", 3, "<module>"))
    first = RankStack(0, 11, "S", frames=frames, user_frame=STEP, waits=True, phase="forward", step=7)
    user.fake.answers[user.pods()[0], "/stacks"] = told(first)
    user.fake.answers[user.pods()[1], "/stacks"] = told(RankStack(1, 12, "T", "is stopped", phase="between", step=6))


def test_stacks_shows_the_odd_one_out_first_with_the_lines_of_the_program(user: User) -> None:
    """The lines come from the ConfigMap of the code, of which only who may read it sees any."""
    train(user)
    ended = user.says("stacks", "digits")
    assert (0, "") == (ended.code, ended.err)
    assert ended.out == (
        "rank 1 (pid 12, stopped, between, step 6)\n"
        "  is stopped\n"
        "\n"
        "rank 0 (pid 11, sleeping, forward, step 7, in a collective or backward)\n"
        "  /k8sddp/work/train.py:3 in <module>\n"
        "      step()\n"
        "  /k8sddp/work/train.py:2 in step\n"
        "      loss.backward()\n"
        "  /opt/site-packages/torch/autograd/graph.py:800 in _engine_run_backward\n"
    )
    user.fake.forbidden.add(("get", "configmaps"))
    assert "loss.backward()" not in user.says("stacks", "job.batch/digits").out


def test_stacks_of_one_rank_asks_its_node_alone(user: User) -> None:
    """The other pods are not disturbed; a rank that does not exist is a wrong call."""
    train(user)
    user.fake.requests.clear()
    ended = user.says("stacks", "digits", "--rank", "1", "-o", "json")
    assert [("T", "is stopped")] == [(one["state"], one["problem"]) for one in json.loads(ended.out)["stacks"]]
    asked = [(path, query) for _, path, query in user.fake.requests if "/proxy/" in path]
    assert [
        (f"/api/v1/namespaces/research/pods/{user.pods()[1]}%3A29401/proxy/stacks", {"format": "json", "rank": "1"})
    ] == asked
    assert "--rank 2: digits has ranks 0 to 1" in user.refused("stacks", "digits", "--rank", "2", code=2)


def test_stacks_names_who_could_not_be_asked_and_fails_only_where_nobody_could(user: User) -> None:
    """One node's silence does not hide the others; without the right the right is named."""
    train(user)
    pods = user.pods()
    del user.fake.answers[pods[1], "/stacks"]
    ended = user.says("stacks", "digits")
    assert (0, "rank 0 (pid 11") == (ended.code, ended.out[:14])
    assert (
        f"node 1 (ranks 1) is missing: the worker of pod {pods[1]} does not answer on port 29401: dial tcp" in ended.err
    )
    user.fake.answers[pods[1], "/stacks"] = told(state="restarting")
    assert "node 1 (ranks 1) is missing: no ranks run there (restarting)" in user.says("stacks", "digits").err
    user.fake.answers[pods[1], "/stacks"] = "hello"
    silent = json.loads(user.says("stacks", "digits", "-o", "json").out)["silent"]
    assert [{"node_rank": 1, "why": "its answer is not that of a k8sddp worker"}] == silent
    user.fake.forbidden.add(("get", "pods/proxy"))
    assert user.refused("stacks", "digits").startswith(
        "no rank of digits can be seen: user 'jane' may not get pods/proxy in namespace research; ask"
    )


def test_run_shows_the_stacks_when_it_is_asked_by_sigquit_and_goes_on(user: User) -> None:
    """Ctrl-\\ as in run --local; here the workers are asked through the API server."""
    train(user)
    with user.starts("run", "job.yaml") as process:
        assert process.stderr is not None
        assert process.stdout is not None
        user.fake.write_log(user.pods()[0], b"[rank 0] up")
        assert "up\n" == process.stdout.readline()
        for _ in range(2):
            process.send_signal(signal.SIGQUIT)
            lines = iter(process.stderr.readline, "")
            assert "  is stopped\n" == next(line for line in lines if "is stopped" in line)
            assert any("torch/autograd/graph.py:800" in line for line in lines)
        process.send_signal(signal.SIGINT)
        assert 130 == process.wait(60)


def test_stacks_of_a_job_that_does_not_run_says_why(user: User) -> None:
    """It waits, or it is over; a name that does not exist is answered as everywhere."""
    user.says("apply", "job.yaml")
    assert user.refused("stacks", "digits").startswith("no rank of digits can be seen: ")
    user.fails(3)
    assert "digits is failed: none of its ranks runs any more" == user.refused("stacks", "digits")
    assert "no DDP job digit in namespace research; did you mean digits?" == user.refused("stacks", "digit")
