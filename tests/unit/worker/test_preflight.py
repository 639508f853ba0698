"""The checks as a whole: made side by side, within one limit, told in one line or one for each finding."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from k8sddp.worker.contract import finding, node_env
from k8sddp.worker.preflight import checks
from tests.unit.worker import workers

WARNING = finding.Finding("shared memory", finding.WARNING, "it is small")
PROBLEM = finding.Finding("torch", finding.PROBLEM, "torch is missing")
OTHER = finding.Finding("script", finding.PROBLEM, "the script is missing")
FINE = finding.Finding("GPUs", finding.OK)


def make_node(folder: Path, **changes: str) -> node_env.NodeEnv:
    """Return the node of a pod whose folders are there."""
    (folder / "tmp").mkdir(exist_ok=True)
    return node_env.parse(workers.make_env(0, folder, 29400, **changes))


def test_what_is_well_is_one_line() -> None:
    """With the number of checks and how long they took."""
    assert ("preflight of node 1: 1 check passed in 0.04 s",) == finding.lines("node 1", [FINE], seconds=0.041)
    assert ("preflight of node 1: 2 checks passed in 3.00 s",) == finding.lines("node 1", [FINE, FINE], seconds=3.0)


def test_what_is_not_well_is_a_line_each() -> None:
    """With its level and the name of the check."""
    assert (
        "preflight of node 1: warning: shared memory: it is small",
        "preflight of node 1: problem: torch: torch is missing",
    ) == finding.lines("node 1", [WARNING, FINE, PROBLEM], seconds=0.1)


@pytest.mark.parametrize(
    ("findings", "said"),
    [
        pytest.param([WARNING, PROBLEM], "torch is missing", id="one"),
        pytest.param([PROBLEM, OTHER], "torch is missing (and 1 more problem, see the log)", id="two"),
        pytest.param([PROBLEM, OTHER, OTHER], "torch is missing (and 2 more problems, see the log)", id="three"),
    ],
)
def test_the_sentence_of_a_job_that_ends_holds_the_first_problem(findings: list[finding.Finding], said: str) -> None:
    """The others are counted; warnings are none of its business."""
    assert said == finding.summary(findings)


def test_what_travels_is_bounded_and_begins_with_the_problems() -> None:
    """8 findings that are not well, of 300 characters, and the names of those that are."""
    long = WARNING._replace(text="x" * 1000)
    sent = finding.to_records([FINE, *[long] * 20, PROBLEM])
    assert (8, list(PROBLEM), 300, list(FINE)) == (len(sent) - 1, sent[0], len(sent[1][2]), sent[-1])


def test_what_has_travelled_is_read_again_and_what_is_no_finding_passed_over() -> None:
    """A member may be of another version."""
    records = [*finding.to_records([PROBLEM, FINE]), ["a", "strange", "level"], "text", ["short"], None]
    assert (PROBLEM, FINE) == finding.from_records(records)


def test_a_line_in_a_log_is_known_again() -> None:
    """The node and the level, for who reads the log of node 0."""
    who = finding.node_name(3, "digits-3-x7k2p")
    (passed,) = finding.lines(who, [FINE], seconds=0.1)
    told = finding.lines(who, [WARNING, PROBLEM], seconds=0.1)
    assert [(3, finding.OK), (3, finding.WARNING), (3, finding.PROBLEM)] == [*map(finding.of_line, (passed, *told))]
    assert (-1, finding.OK) == finding.of_line("node 3 of 4, pod digits-3")


def test_each_check_is_told_in_the_order_of_the_table() -> None:
    """Whichever ends first; one that finds nothing is well."""
    gate = threading.Event()

    def first() -> Iterator[finding.Finding]:
        assert gate.wait(30)
        yield WARNING

    def second() -> Iterator[finding.Finding]:
        gate.set()
        yield from ()

    found = checks.run({"shared memory": first, "GPUs": second}, limit=60)
    assert (WARNING, FINE) == found


def test_a_check_that_hangs_is_named_and_left_behind() -> None:
    """The others are told all the same, and it is no problem: it may be there in a minute."""
    gate = threading.Event()
    try:
        found = checks.run({"volume data": lambda: [PROBLEM] if gate.wait(60) else [], "GPUs": lambda: ()}, limit=1.0)
    finally:
        gate.set()
    assert ["volume data", "GPUs"] == [one.check for one in found]
    assert (finding.WARNING, finding.OK) == (found[0].level, found[1].level)
    assert "did not answer within" in found[0].text


def test_a_check_that_fails_itself_is_a_warning() -> None:
    """Whatever its exception, it must not end a job."""

    def broken() -> Iterator[finding.Finding]:
        raise PermissionError(13, "Permission denied", "/dev/dri")
        yield

    (found,) = checks.run({"GPUs": broken}, limit=60)
    assert ("GPUs", finding.WARNING) == found[:2]
    assert "could not be looked at: [Errno 13] Permission denied" in found.text


def test_checks_are_made_where_no_thread_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pod may have as many threads as it may: then one after the other."""

    def refuse(*_: object) -> int:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("_thread.start_new_thread", refuse)
    assert (WARNING, FINE) == checks.run({"shared memory": lambda: [WARNING], "GPUs": lambda: ()}, limit=60)


def test_a_healthy_node_passes_every_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """As in `run --local`: torch, script, driver, GPUs, shared memory, folders, a volume."""
    monkeypatch.syspath_prepend(workers.FAKE_TORCH)
    monkeypatch.delitem(__import__("sys").modules, "torch", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").touch()
    node = make_node(tmp_path, K8SDDP_WORK_DIR=str(tmp_path), K8SDDP_WRITABLE=f'[["ckpt", "{tmp_path}"]]')
    report = checks.look(node, ("train.py",), {})
    names = ["torch", "script", "GPUs", "driver", "shared memory", "temporary folder", "working folder", "volume ckpt"]
    assert [(name, finding.OK, "") for name in names] == list(report.findings)
    assert "2.9.1+fake" == report.torch
    assert ["tmp", "train.py"] == sorted(path.name for path in tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "looks"),
    [
        pytest.param({"K8SDDP_PREFLIGHT": "skip"}, False, id="skip"),
        pytest.param({"K8SDDP_PREFLIGHT": "skip", "K8SDDP_ONLY_PREFLIGHT": "1"}, True, id="asked for on purpose"),
        pytest.param({"K8SDDP_PREFLIGHT": "warn"}, True, id="warn"),
        pytest.param({}, True, id="default"),
    ],
)
def test_nothing_is_looked_at_but_torchs_version_where_it_is_skipped(
    tmp_path: Path, changes: dict[str, str], looks: bool
) -> None:
    """The version travels to node 0 in any case."""
    node = make_node(tmp_path, **changes)
    assert looks is bool(checks.look(node, ("train.py",), {}).findings)


@pytest.mark.parametrize("value", ["fail", "warn", "skip"])
def test_the_mode_is_read_from_the_environment(tmp_path: Path, value: str) -> None:
    """`fail` where it is not set."""
    assert value == make_node(tmp_path, K8SDDP_PREFLIGHT=value).preflight
    assert "fail" == make_node(tmp_path).preflight


def test_a_mode_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    """With the ones that do."""
    with pytest.raises(node_env.NodeEnvError, match="K8SDDP_PREFLIGHT='off' must be one of fail, warn, skip"):
        make_node(tmp_path, K8SDDP_PREFLIGHT="off")


def test_volumes_that_are_no_list_are_refused(tmp_path: Path) -> None:
    """A variable of the contract that is malformed is named."""
    with pytest.raises(node_env.NodeEnvError, match="K8SDDP_WRITABLE='/data' must be a list of"):
        make_node(tmp_path, K8SDDP_WRITABLE="/data")


def test_the_own_name_is_made_of_the_jobs() -> None:
    """NAME-INDEX.NAME, as the Service has it; no name where pods have none."""
    env = workers.make_env(1, Path("/x"), 29400, K8SDDP_NNODES="2", K8SDDP_COORDINATOR="digits-0.digits")
    node = node_env.parse(env)
    assert "digits-1.digits" == checks.own_host(node)
    assert "own name" in checks.of_node(node, ("train.py",), {}, torch=None)
    local = node._replace(coordinator="127.0.0.2")
    assert "own name" not in checks.of_node(local, ("train.py",), {}, torch=None)


def test_a_taken_port_is_named() -> None:
    """With address, purpose and remedy; the same port on every address is seen too."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(checks.PreflightError, match=f"port {port} at 127.0.0.1 for tests cannot be used"):
            checks.listen("127.0.0.1", port, "tests")
        with pytest.raises(checks.PreflightError, match=f"port {port} at every address"):
            checks.listen("", port, "tests")


def test_an_empty_host_listens_on_every_address() -> None:
    """IPv4 at least, IPv6 where there is any."""
    with checks.listen("", 0, "tests") as listener:
        port = listener.getsockname()[1]
        socket.create_connection(("127.0.0.7", port), timeout=1).close()
