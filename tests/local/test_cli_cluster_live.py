"""`k8sddp run` on a cluster and how far it says the job is: on a terminal a live line, elsewhere plain lines."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.local.cluster_users import User, user
from tests.local.screens import Screen, environment, own_terminal, terminal
from tests.unit.cli import program

__all__ = ["user"]

SPINNER = "[\u2800-\u28ff]"


@contextlib.contextmanager
def run(user: User, *words: str) -> Iterator[tuple[Screen, subprocess.Popen[bytes]]]:
    """Start `k8sddp run job.yaml` on a terminal."""
    env = {**environment(), **user.env}
    command = [program.SCRIPTS / "k8sddp", "run", "job.yaml", *words]
    with terminal() as (screen, written):
        files = dict.fromkeys(("stdin", "stdout", "stderr"), written)
        options: dict[str, Any] = {**files, "start_new_session": True, "preexec_fn": own_terminal}
        with subprocess.Popen(command, cwd=user.folder, env=env, **options) as process:
            screen.close_ours()
            try:
                yield screen, process
            finally:
                process.kill()


def tells(user: User, step: int, **more: object) -> None:
    """Let node 0 tell that step."""
    pod = user.pods()[0]
    told = user.fake.answers[pod, "/status"]
    user.fake.answers[pod, "/status"] = {**told, "progress": {**told["progress"], "step": step, **more}}


def test_a_terminal_sees_waits_and_steps_in_one_line_and_the_log_above(user: User) -> None:
    """The line moves, every line of the ranks is whole and once, and nothing but them and the verdict is left."""
    with run(user) as (screen, process):
        screen.until(re.compile(rb"waiting \S+: node 0 \(pod \S+\) and 1 more: waiting for "))
        user.trains()
        screen.until(re.compile(rb"attempt 1  step 12/48 25%"))
        first, _ = user.pods()
        for number in range(30):
            user.fake.write_log(first, b"[rank 0] line %d" % number)
        tells(user, 36, loss=0.25)
        screen.until(re.compile(rb"step 36/48 75%.*ETA 6s  loss 0\.25"))
        user.fake.end_container(first, 0)
        rows = screen.rest()
        assert 0 == process.wait(20)
    assert [f"line {number}" for number in range(30)] == [row for row in rows if row.startswith("line")]
    assert re.fullmatch("digits complete after .*", rows[-1])
    assert not [row for row in rows if re.match(SPINNER, row) or "waiting" in row]


def test_control_c_detaches_and_leaves_the_terminal_clean(user: User) -> None:
    """The live line is gone; what comes next is said on whole lines."""
    with run(user) as (screen, process):
        screen.until(re.compile(rb"waiting "))
        user.trains()
        screen.until(re.compile(rb"step 12/48"))
        screen.type(b"\x03")
        rows = screen.rest()
        assert 130 == process.wait(20)
    assert rows[-3] == "detached; digits runs on"  # and no ^C before it
    assert not [row for row in rows if re.match(SPINNER, row)]
    assert screen.seen.endswith(b"\r\n")


def test_a_wait_that_is_wrong_is_said_in_full_besides(user: User) -> None:
    """The live line may cut it; the sentence stands in the log once, however long it lasts."""
    user.fake.jobs.refusal = "exceeded quota: small, " + "requested: pods=1, " * 20 + "limited: pods=0"
    with run(user) as (screen, process):
        screen.until(re.compile(rb"\x1b\[Kwaiting [^\r]*quota is used up: [^\r]*limited: pods=0\r\n"))
        process.send_signal(signal.SIGINT)
        rows = screen.rest()
        assert 130 == process.wait(20)
    assert 1 == len([row for row in rows if "quota" in row])


def test_the_log_in_a_file_is_the_ranks_alone_and_the_line_is_on_the_terminal(user: User) -> None:
    """`run job.yaml > log`: the line stays below what is said on stderr, and nothing of it reaches the file."""
    env = {**environment(), **user.env, "NO_COLOR": "1"}
    command = [program.SCRIPTS / "k8sddp", "run", "job.yaml"]
    with (
        terminal() as (screen, written),
        (user.folder / "log").open("wb") as log,
        subprocess.Popen(command, cwd=user.folder, env=env, stdout=log, stderr=written) as process,
    ):
        screen.close_ours()
        screen.until(re.compile(rb"waiting "))
        user.trains()
        screen.until(re.compile(rb"step 12/48"))
        first, _ = user.pods()
        user.fake.write_log(first, b"[rank 0] line", b"[k8sddp] remark")
        screen.until(re.compile(rb"remark"))
        user.fake.end_container(first, 0)
        rows = screen.rest()
        assert 0 == process.wait(20)
    assert b"line\n" == (user.folder / "log").read_bytes()
    assert "[k8sddp] remark" in rows
    assert not [row for row in rows if "step 12" in row or "waiting" in row]


def test_who_may_not_ask_is_told_once_and_the_rest_works(user: User) -> None:
    """The role `view` and an `apply` by somebody else, say: no figures, and the log all the same."""
    user.fake.forbidden.add(("get", "pods/proxy"))
    with run(user) as (screen, process):
        screen.until(re.compile(rb"waiting "))
        user.trains()
        screen.until(re.compile(rb"steps are not shown: this needs the right to get pods/proxy"))
        first, _ = user.pods()
        user.fake.write_log(first, b"[rank 0] line")
        screen.until(re.compile(rb"line\r\n"))
        user.fake.end_container(first, 0)
        rows = screen.rest()
        assert 0 == process.wait(20)
    assert 1 == len([row for row in rows if "pods/proxy" in row])
    assert "line" in rows


@pytest.mark.parametrize("form", ["pipe", "a dumb terminal"])
def test_where_nobody_looks_there_are_plain_lines(user: User, form: str) -> None:
    """No escape, no figures in the first minute; what is said is what was said before there was a live line."""
    env = {**environment(), **user.env, "NO_COLOR": "1"} | ({"TERM": "dumb"} if form != "pipe" else {})
    with terminal() as (screen, written):
        where = subprocess.PIPE if form == "pipe" else written
        command = [program.SCRIPTS / "k8sddp", "run", "job.yaml"]
        with subprocess.Popen(command, cwd=user.folder, env=env, stdout=where, stderr=written) as process:
            screen.close_ours()
            screen.until(re.compile(rb"job.batch/digits created"))
            user.trains()
            first, _ = user.pods()
            user.fake.write_log(first, b"[k8sddp] attempt 1 starts", b"[rank 0] line")
            screen.until(re.compile(rb"attempt 1 starts"))
            user.fake.end_container(first, 0)
            screen.rest()
            assert 0 == process.wait(20)
    assert b"\x1b" not in screen.seen
    assert b"step 12" not in screen.seen
