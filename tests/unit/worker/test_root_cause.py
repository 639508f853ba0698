"""The verdict: who failed first, in which words, in how many bytes."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k8sddp.worker import root_cause
from k8sddp.worker.contract import verdict as verdicts
from tests.unit.worker import gangs


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
    "exception",
    [
        pytest.param(
            "RuntimeError: [../gloo/transport/tcp/pair.cc:534] Connection closed by peer [10.0.0.7]:9", id="gloo"
        ),
        pytest.param("RuntimeError: [pair.cc:545] Read error [10.0.0.7]:1: Connection reset by peer", id="gloo reset"),
        pytest.param(
            "torch.distributed.DistStoreError: wait timeout after 300000ms, keys: /default_pg/0//1", id="store"
        ),
        pytest.param("DistNetworkError: failed to recv, got 0 bytes", id="store gone"),
        pytest.param(
            "torch.distributed.DistBackendError: NCCL error in: ProcessGroupNCCL.cpp:3690, remote process exited or "
            "there was a network error, NCCL version 2.27.5 ncclRemoteError: A call failed",
            id="nccl",
        ),
    ],
)
def test_a_consequence_is_a_victim(exception: str) -> None:
    """What gloo, NCCL and the store say when a peer is gone does not name a cause."""
    assert root_cause.VICTIM == root_cause.weigh(gangs.make_failure(0, exception)).weight


def test_a_wrapped_consequence_is_a_victim_too() -> None:
    """A script that raises its own exception from gloo's shows gloo's in the traceback."""
    failure = make_failure(
        kind="exception", exception="MyError: training failed", traceback="...Connection closed by peer..."
    )
    assert root_cause.VICTIM == root_cause.weigh(failure).weight


def test_the_earliest_cause_wins() -> None:
    """Victims count only among themselves; a kill goes before an exception; else the order of receipt decides."""
    victim = root_cause.weigh(gangs.make_failure(0, "RuntimeError: Connection closed by peer"))
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
