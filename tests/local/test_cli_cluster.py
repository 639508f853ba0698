"""The cluster commands as a user meets them: the installed program against the fake API server, over real HTTP."""

from __future__ import annotations

import json
import signal
import subprocess
import time

import pytest

from k8sddp.cli import following
from tests.local.cluster_users import CREATED, HEADER, OBJECTS, User, user

__all__ = ["user"]


def test_apply_creates_then_finds_nothing_to_do(user: User) -> None:
    """The second apply changes nothing, not even a resource version."""
    first = user.says("apply", "job.yaml")
    assert (0, CREATED) == (first.code, first.out)
    assert first.err.startswith(HEADER)
    versions = [user.fake.object(*name.split("/"))["metadata"]["resourceVersion"] for name in OBJECTS]
    second = user.says("apply", "job.yaml")
    assert (0, CREATED.replace("created", "unchanged")) == (second.code, second.out)
    assert versions == [user.fake.object(*name.split("/"))["metadata"]["resourceVersion"] for name in OBJECTS]


def test_changed_spec_is_refused_by_field_and_replaced_on_request(user: User) -> None:
    """What changed is named with old and new value; --replace starts anew."""
    user.says("apply", "job.yaml")
    uid = user.fake.object("jobs", "digits")["metadata"]["uid"]
    user.write(nnodes=3, env={"A": "1"})
    assert "spec changed (spec.env.A: added, spec.nnodes: 2 -> 3)" in user.refused("apply", "job.yaml")
    assert uid == user.fake.object("jobs", "digits")["metadata"]["uid"]
    replaced = user.says("apply", "job.yaml", "--replace")
    assert 0 == replaced.code
    assert replaced.out.startswith("job.batch/digits deleted\n")
    assert 3 == user.fake.object("jobs", "digits")["spec"]["completions"]


def test_finished_job_is_not_applied_again(user: User) -> None:
    """A finished Job never runs again, so saying `unchanged` would be a lie."""
    user.says("apply", "job.yaml")
    user.fails(3)
    assert "is failed (PodFailurePolicy) and a finished job never runs again" in user.refused("apply", "job.yaml")


def test_a_queued_job_is_left_to_kueue_and_says_so(user: User) -> None:
    """apply says where it waits, again as often as it is asked; get has the state and the reason."""
    user.write(metadata={"name": "digits", "labels": {"kueue.x-k8s.io/queue-name": "team-a"}})
    for word in ("created", "unchanged"):
        ended = user.says("apply", "job.yaml")
        assert (0, CREATED.replace("created", word)) == (ended.code, ended.out)
        assert "queued in team-a: Kueue starts it\n" in ended.err
    assert [] == user.fake.pods("digits")
    shown = user.says("get", "digits").out
    assert "Queued" in shown.split("\n")[1]
    assert "it waits in the Kueue queue team-a, and Kueue starts it" in shown
    pretended = user.says("apply", "job.yaml", "--replace", "--dry-run")
    assert "job.batch/digits created (dry run)" in pretended.out
    with user.fake.changing("jobs", "digits") as job:  # as Kueue does
        job["spec"]["suspend"] = False
    assert "Kueue" not in user.says("apply", "job.yaml").err
    assert 2 == len(user.fake.pods("digits"))


def test_dry_run_creates_nothing(user: User) -> None:
    """--dry-run says what would be created."""
    ended = user.says("apply", "job.yaml", "--dry-run")
    assert (0, CREATED.replace("created", "created (dry run)")) == (ended.code, ended.out)
    assert [] == user.fake.names()


def test_dry_run_of_the_same_spec_says_unchanged(user: User) -> None:
    """What the dry run says is what the apply then does."""
    user.says("apply", "job.yaml")
    ended = user.says("apply", "job.yaml", "--dry-run")
    assert (0, CREATED.replace("created", "unchanged (dry run)")) == (ended.code, ended.out)


def test_get_shows_the_table_the_nodes_and_the_first_failure(user: User) -> None:
    """One table for all jobs; one job adds its nodes and what failed first."""
    assert (0, "", "no DDP jobs in namespace research\n") == user.says("get")
    user.says("apply", "job.yaml")
    sentence = user.fails(3)
    assert ["NAME", "STATE", "READY", "RESTARTS", "PROGRESS", "AGE"] == user.says("get").out.split("\n")[0].split()
    shown = user.says("get", "digits").out
    assert f"first failure (attempt 0): {sentence}; 4 of 4 attempts used\n" in shown
    assert "exit code 79: rank 1 on node 1 failed; node 0 reports it" in shown
    assert "digits" == json.loads(user.says("get", "digits", "-o", "json").out)["metadata"]["name"]
    assert "job.batch/digits\n" == user.says("get", "-o", "name").out


def test_get_of_a_running_job_tells_what_runs_and_what_was(user: User) -> None:
    """Step, budget and earlier ends are node 0's knowledge; who may not ask it is told so once, and sees the rest."""
    user.says("apply", "job.yaml")
    user.trains()
    row = ["digits", "Running", "2/2", "1", "step", "12/48", "25%"]
    for form in ((), ("-o", "wide"), ("digits",)):
        assert row == user.says("get", *form).out.splitlines()[1].split()[:-1]
    shown = user.says("get", "digits").out.splitlines()
    assert "running: attempt 1, step 12/48 25%, 2 steps/s, ETA 18s; 0 of 4 attempts used" in shown
    assert "attempt 0 ended: node 1 was asked to stop (SIGTERM) (a disruption, not counted)" in shown
    user.fake.forbidden.add(("get", "pods/proxy"))
    ended = user.says("get", "digits")
    assert (0, "hint: PROGRESS needs the right to get pods/proxy, as the role edit has it\n") == (ended.code, ended.err)
    assert ["digits", "Running", "2/2", "-", "-"] == ended.out.splitlines()[1].split()[:-1]
    assert "attempt" not in ended.out


def test_a_complete_job_is_ready(user: User) -> None:
    """All its nodes have done their part; nobody waits."""
    user.says("apply", "job.yaml")
    user.fake.run_pod(user.pods()[0])
    user.fake.end_container(user.pods()[0], 0)
    assert ["digits", "Complete", "2/2"] == user.says("get").out.splitlines()[1].split()[:3]
    assert "waiting" not in user.says("get", "digits").out


@pytest.mark.parametrize("mark", [b"", b"[rank0]: "], ids=["as Python prints it", "as torch does"])
def test_run_says_what_was_made_in_one_line_and_the_end_once(user: User, mark: bytes) -> None:
    """No line is there twice; a traceback that rank 0 has printed is not repeated."""
    with user.starts("run", "job.yaml") as process:
        line = read_until(process, "job.batch/digits created")
        assert "job.batch/digits created (service, configmap, networkpolicy)\n" == line
        first, _ = user.pods()
        user.trains()
        user.fake.write_log(
            first, b"[k8sddp] attempt 0 starts", b"[rank 0] %bTraceback (most recent call last):" % mark
        )
        user.fake.write_log(first, b"[rank 0] %bValueError: bad batch" % mark)
        sentence = user.fails(3, traceback="Traceback (most recent call last):\nValueError: bad batch")
        user.fake.write_log(first, f"[k8sddp] job digits failed: {sentence}; 4 of 4 attempts used (exit 3)".encode())
        assert 3 == process.wait(timeout=20)
        assert process.stderr is not None
        rest = process.stderr.read().splitlines()
    (end,) = [one for one in rest if "bad batch" in one]
    assert end.startswith("digits failed after ")
    assert end.endswith(f": {sentence}; 4 of 4 attempts used")
    job = json.loads(user.says("get", "digits", "-o", "json").out)
    assert sentence == job["metadata"]["annotations"]["k8sddp.dev/first-failure"]


def test_logs_shows_one_rank_one_node_or_all(user: User) -> None:
    """A rank's lines come bare on stdout; whole logs keep their prefixes."""
    user.says("apply", "job.yaml")
    first, second = user.pods()
    assert "node 0 has no log yet" in user.refused("logs", "digits")
    for pod in (first, second):
        user.fake.run_pod(pod)
    user.fake.write_log(first, b"[k8sddp] node 0 of 2", b"[rank 0] epoch 1")
    user.fake.write_log(second, b"[rank 1] epoch 1 too")
    assert (0, "epoch 1\n", "[k8sddp] node 0 of 2\n") == user.says("logs", "digits")
    assert "epoch 1 too\n" == user.says("logs", "digits", "--rank", "1").out
    assert "[rank 1] epoch 1 too\n" == user.says("logs", "digits", "--node", "1").out
    assert "[rank 1] epoch 1 too" in user.says("logs", "digits", "--all").out
    assert "--rank 7: digits has ranks 0 to 1" == user.refused("logs", "digits", "--rank", "7", code=2)


def test_logs_shows_time_stamps_on_request(user: User) -> None:
    """Of a rank's lines and of the worker's remarks; kubectl has the same option."""
    user.says("apply", "job.yaml")
    user.fake.run_pod(user.pods()[0])
    user.fake.write_log(user.pods()[0], b"[k8sddp] node 0 of 2", b"[rank 0] epoch 1", b"[rank 1] not mine")
    remark, line = "2026-11-24T00:00:00.000Z [k8sddp] node 0 of 2\n", "2026-11-24T00:00:00.001Z epoch 1\n"
    assert (0, line, remark) == user.says("logs", "digits", "--timestamps")


def test_run_of_a_job_that_runs_marks_where_its_past_ends(user: User) -> None:
    """All that was printed before comes at once."""
    user.says("apply", "job.yaml")
    user.trains()
    user.fake.write_log(user.pods()[0], b"[rank 0] long ago")
    with user.starts("run", "job.yaml", "--timestamps") as process:
        assert "Z: the lines above are older ---" in read_until(process, "--- attached at 20")
        user.fake.end_container(user.pods()[0], 0)
        assert 0 == process.wait(timeout=20)
        assert process.stdout is not None
        assert "2026-11-24T00:00:00.000Z long ago\n" == process.stdout.read()


def test_delete_removes_everything_and_names_what_is_there(user: User) -> None:
    """Nothing is left; a wrong name is answered with the right ones."""
    user.says("apply", "job.yaml")
    assert "no DDP job digit in namespace research; did you mean digits?" in user.refused("delete", "digit")
    assert (0, "job.batch/digits deleted\n") == user.says("delete", "digits")[:2]
    assert [] == user.fake.names()


def read_until(process: subprocess.Popen[str], text: str) -> str:
    """Return the line of stderr that holds `text`."""
    assert process.stderr is not None
    for line in process.stderr:
        if text in line:
            return line
    raise AssertionError(f"stderr ended without {text!r}")


def test_run_follows_rank_0_and_ends_with_the_jobs_exit_code(user: User) -> None:
    """The failing rank's code is the command's, its sentence the last but the hint."""
    with user.starts("run", "job.yaml") as process:
        read_until(process, "job.batch/digits created")
        for pod in user.pods():
            user.fake.run_pod(pod)
        user.fake.write_log(user.pods()[0], b"[rank 0] epoch 1")
        assert process.stdout is not None
        assert "epoch 1\n" == process.stdout.readline()
        sentence = user.fails(3)
        assert sentence in read_until(process, "digits failed")
        assert 3 == process.wait(timeout=20)


def test_run_of_a_job_that_completes_ends_at_once_with_0(user: User) -> None:
    """The log is shown to its last line, and nothing is waited for after it."""
    with user.starts("run", "job.yaml") as process:
        read_until(process, "job.batch/digits created")
        first, _ = user.pods()
        user.fake.run_pod(first)
        user.fake.write_log(first, b"[rank 0] epoch 1", b"[rank 1] not mine", b"[rank 0] accuracy 0.97")
        remarks = {"schema": 1, "job": "digits", "outcome": "complete", "remarks": ["the 2 ranks trained separately"]}
        user.fake.end_container(first, 0, message=json.dumps(remarks))
        ended = time.monotonic()
        assert "digits complete" in read_until(process, "digits complete")
        assert "warning: the 2 ranks trained separately\n" == read_until(process, "separately")
        assert 0 == process.wait(timeout=20)
        assert following.LAST_WORDS > time.monotonic() - ended
        assert process.stdout is not None
        assert "epoch 1\naccuracy 0.97\n" == process.stdout.read()
    assert "\nremark: the 2 ranks trained separately\n" in user.says("get", "digits").out


def test_logs_f_waits_and_says_why(user: User) -> None:
    """A pod that cannot be made is the reason that is shown; its log follows when it comes."""
    user.fake.jobs.refusal = "exceeded quota: gpus"
    user.says("apply", "job.yaml")
    with user.starts("logs", "digits", "-f", "--rank", "1") as process:
        assert "exceeded quota: gpus" in read_until(process, "waiting ")
        user.fake.jobs.refusal = ""
        with user.fake.changing("jobs", "digits"):
            pass  # the controller looks again
        _, second = user.pods()
        user.fake.run_pod(second)
        user.fake.write_log(second, b"[rank 1] at last")
        assert process.stdout is not None
        assert "at last\n" == process.stdout.readline()
        user.fake.end_container(user.pods()[0], 0)
        assert 0 == process.wait(timeout=20)


def test_job_that_is_deleted_while_it_is_followed_is_said(user: User) -> None:
    """The command does not wait for ever."""
    user.says("apply", "job.yaml")
    with user.starts("logs", "digits", "-f") as process:
        read_until(process, "waiting ")
        user.says("delete", "digits", "--no-wait")
        assert "digits was deleted while it was followed" in read_until(process, "error: ")
        assert 1 == process.wait(timeout=20)


def test_reader_that_goes_away_ends_logs_quietly(user: User) -> None:
    """`k8sddp logs digits -f | head -1` ends with the next line, and leaves the job alone."""
    user.says("apply", "job.yaml")
    first, _ = user.pods()
    user.fake.run_pod(first)
    with user.starts("logs", "digits", "-f") as process:
        user.fake.write_log(first, b"[rank 0] one")
        assert process.stdout is not None
        assert "one\n" == process.stdout.readline()
        process.stdout.close()
        user.fake.write_log(first, b"[rank 0] two")
        assert 141 == process.wait(timeout=20)
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()
    assert OBJECTS == user.fake.names("pods")


def test_delete_refuses_what_is_not_ours_and_does_the_rest(user: User) -> None:
    """A Job without our label belongs to somebody else; the other names are deleted all the same."""
    user.says("apply", "job.yaml")
    user.write(metadata={"name": "foreign"})
    user.says("apply", "job.yaml")
    with user.fake.changing("jobs", "foreign") as job:
        del job["metadata"]["labels"]["k8sddp.dev/job"]
    ended = user.says("delete", "foreign", "digits", "nothing")
    assert (1, "job.batch/digits deleted\n") == (ended.code, ended.out)
    assert "job.batch/foreign was not made by k8sddp" in ended.err
    assert "no DDP job nothing in namespace research" in ended.err
    assert user.fake.object("jobs", "foreign") is not None


def test_hint_repeats_the_flags(user: User) -> None:
    """The command in the hint reaches the same job."""
    ended = user.says("apply", "job.yaml", "-n", "research", "--context", "fake")
    assert "k8sddp logs digits -f --context fake -n research\n" in ended.err


def test_version_names_the_servers(user: User) -> None:
    """And an old one is said, not refused: the output is for bug reports."""
    assert "Kubernetes 1.37 (context fake, namespace research)\n" in user.says("version").out
    user.fake.version = (1, 30)
    ended = user.says("version")
    assert 0 == ended.code
    assert "1.30" in ended.out


def test_interrupting_run_detaches_and_leaves_the_job(user: User) -> None:
    """Ctrl-C never ends a job on the cluster; it says how to come back."""
    with user.starts("run", "job.yaml") as process:
        read_until(process, "job.batch/digits created")
        read_until(process, "waiting ")
        process.send_signal(signal.SIGINT)
        assert "k8sddp logs digits -f" in read_until(process, "come back")
        assert 130 == process.wait(timeout=20)
    assert OBJECTS == user.fake.names("pods")


def test_an_attached_run_replaces_a_lost_pod(user: User) -> None:
    """Which pod, where, why, and by which; nobody who may not create pods is bothered twice."""
    with user.starts("run", "job.yaml") as process:
        read_until(process, "job.batch/digits created")
        read_until(process, "waiting ")
        first, second = user.pods()
        user.fake.run_pod(second, kube_node="node-b")
        user.fake.end_container(second, 137, reason="OOMKilled")
        line = read_until(process, "; replaced by ")
        assert f"pod {second} (Kubernetes Node node-b) ran out of memory (OOMKilled, limit " in line
        assert line.split()[-1] in [pod["metadata"]["name"] for pod in user.fake.pods("digits")]
        user.fake.forbidden.add(("create", "pods"))
        user.fake.run_pod(first)
        user.fake.end_container(first, 143)
        line = read_until(process, "could not create a replacement (will retry)")
        assert f"pod {first} (Kubernetes Node node-a) was asked to stop; " in line
        process.send_signal(signal.SIGINT)
        read_until(process, "come back")
