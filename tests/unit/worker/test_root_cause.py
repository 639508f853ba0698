"""The verdict: who failed first, in which words, in how many bytes."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k8sddp.worker import root_cause
from k8sddp.worker.contract import verdict as verdicts
from tests.unit.worker import gangs

WRAPPED = f"""Traceback (most recent call last):
  File "/usr/lib/python3.11/site-packages/torch/distributed/distributed_c10d.py", line 3100, in all_reduce
    work.wait()
{gangs.GONE}

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
  File "train.py", line 9, in <module>
    raise StepError("failed") from error
StepError: failed
"""


def make_failure(**changes: object) -> root_cause.Failure:
    return root_cause.Failure("exit", 1, "digits-1", "node-b", rank=5)._replace(**changes)


@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        pytest.param(
            make_failure(kind="exception", exception="ValueError: bad\ndata"),
            "rank 5 (pod digits-1, node node-b) raised ValueError: bad data",
            id="exception",
        ),
        pytest.param(make_failure(exit_code=3), "rank 5 (pod digits-1, node node-b) exited with code 3", id="exit"),
        pytest.param(
            make_failure(kind="hang", detail="for 600 s it has been in train.py:40 in load"),
            "rank 5 (pod digits-1, node node-b) hangs: for 600 s it has been in train.py:40 in load",
            id="hang",
        ),
        pytest.param(
            make_failure(kind="hang", rank=None, detail="all 4 ranks wait in backward, the longest for 600 s"),
            "it cannot be told which rank hangs: all 4 ranks wait in backward, the longest for 600 s",
            id="hang of all",
        ),
        pytest.param(
            make_failure(kind="signal", signal="SIGKILL", kube_node=""),
            "rank 5 (pod digits-1) was killed by SIGKILL (perhaps out of memory)",
            id="kill",
        ),
        pytest.param(
            make_failure(kind="lost", rank=None, detail="its pod was lost"),
            "node 1 (pod digits-1, node node-b): its pod was lost",
            id="lost",
        ),
        pytest.param(
            make_failure(kind="signal", rank=None, signal="SIGSEGV", detail="torchrun"),
            "torchrun on node 1 (pod digits-1, node node-b) was killed by SIGSEGV",
            id="launcher",
        ),
        pytest.param(
            make_failure(kind="exception", exception="E: \x1b[31mred\x07"),
            "rank 5 (pod digits-1, node node-b) raised E: ?[31mred?",
            id="control characters",
        ),
    ],
)
def test_a_failure_is_one_sentence(failure: root_cause.Failure, expected: str) -> None:
    """Who, where, what; on one line, without control characters."""
    assert expected == root_cause.sentence(failure)


@pytest.mark.parametrize(
    ("failure", "weight"),
    [
        (make_failure(kind="exception", exception="E: x", origin="own"), root_cause.CAUSE),
        (make_failure(kind="exception", exception="E: x", origin="doubtful"), root_cause.WEAK),
        (make_failure(kind="exception", exception="E: x", origin="peer"), root_cause.VICTIM),
        (make_failure(kind="exception", exception="E: x", origin="own", weight=root_cause.VICTIM), root_cause.VICTIM),
        (make_failure(kind="exception", exception=gangs.GONE, origin="own"), root_cause.CAUSE),
        (make_failure(kind="exception", exception=gangs.GONE), root_cause.VICTIM),
        (make_failure(kind="exception", exception="StepError: failed", traceback=WRAPPED), root_cause.VICTIM),
        (make_failure(kind="exception", exception="E: Connection refused", origin="new"), root_cause.CAUSE),
        (make_failure(exit_code=1, traceback=f"step 7\n{gangs.GONE}\nbye"), root_cause.VICTIM),
        (make_failure(exit_code=1, traceback="Connection closed by peer"), root_cause.CAUSE),
        (make_failure(kind="signal", signal="SIGABRT", traceback="what(): bad"), root_cause.WEAK),
        (
            make_failure(kind="signal", signal="SIGABRT", traceback="'gloo::IoException'"),
            root_cause.VICTIM,
        ),
        (make_failure(kind="signal", signal="SIGTERM"), root_cause.WEAK),
        (make_failure(kind="signal", signal="SIGBUS", traceback=gangs.GONE), root_cause.CAUSE),
        (make_failure(kind="lost", detail="Connection reset by peer"), root_cause.CAUSE),
    ],
)
def test_the_origin_gives_the_weight(failure: root_cause.Failure, weight: int) -> None:
    """What the rank found out counts; where it said nothing, what torch and gloo print at fixed places."""
    assert weight == root_cause.weigh(failure).weight


def test_the_earliest_cause_wins() -> None:
    """Victims count only among themselves; a kill goes before an exception; else the order of receipt decides."""
    victim = root_cause.weigh(gangs.make_failure(0, gangs.GONE))
    abort = root_cause.weigh(make_failure(kind="signal", signal="SIGABRT"))
    raised, later = gangs.make_failure(2), gangs.make_failure(3)
    killed = root_cause.weigh(make_failure(kind="signal", signal="SIGKILL"))
    assert victim == root_cause.first([victim, victim._replace(rank=9)])
    assert abort == root_cause.first([victim, abort])
    assert raised == root_cause.first([victim, abort, raised, later])
    assert killed == root_cause.first([victim, raised, killed])


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        pytest.param(make_failure(exit_code=3), 3, id="own code"),
        pytest.param(make_failure(exit_code=200), 64, id="code beyond 63"),
        pytest.param(make_failure(kind="hang"), 76, id="hang"),
        pytest.param(make_failure(kind="signal", signal="SIGKILL"), 64, id="signal"),
        pytest.param(make_failure(kind="lost"), 64, id="lost"),
        pytest.param(make_failure(kind="infrastructure"), 75, id="infrastructure"),
        pytest.param(make_failure(kind="preflight"), 77, id="preflight"),
        pytest.param(make_failure(kind="configuration"), 78, id="configuration"),
    ],
)
def test_the_class_decides_the_exit_code(failure: root_cause.Failure, code: int) -> None:
    """As in the table of exit codes."""
    assert code == root_cause.exit_code(failure)


@given(
    st.dictionaries(
        st.sampled_from(root_cause.Failure._fields), st.none() | st.text() | st.integers() | st.lists(st.text())
    )
)
def test_a_members_report_is_read_tolerantly(record: dict[str, object]) -> None:
    """Fields of the wrong type are left out; what comes out can always be told and encoded."""
    failure = root_cause.weigh(root_cause.from_record(record))
    assert root_cause.sentence(failure)
    assert verdicts.encode(root_cause.verdict("x", "failed", attempt=0, code=1, failures=[failure]))


def test_a_failure_survives_the_way_to_the_coordinator() -> None:
    """JSON and back."""
    failure = make_failure(kind="exception", exception="E: ü", traceback="t", exit_code=1, weight=root_cause.VICTIM)
    assert failure == root_cause.from_record(json.loads(json.dumps(root_cause.to_record(failure))))
