"""The verdict as a value and as bytes: what a worker writes, everybody reads, whatever version either is."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from k8sddp.worker.contract import verdict as verdicts

KUBELET_KEEPS = 4096  # bytes of a termination message (MaxContainerTerminationMessageLength)
TEXT = st.text(max_size=5000)
LONG = "\N{PARTY POPPER}" * 5000  # a character is twelve bytes of JSON
WHOLE = verdicts.Verdict(
    job="digits",
    outcome=verdicts.FAILED,
    attempt=2,
    exit_code=1,
    first_failure=verdicts.FirstFailure(
        kind="exception",
        message="rank 5 (pod digits-1, node node-b) raised ValueError: bad",
        rank=5,
        node_rank=1,
        pod="digits-1",
        kube_node="node-b",
        exit_code=1,
        signal="SIGKILL",
        exception="ValueError: bad",
        traceback="Traceback ...",
        last_step=7,
    ),
    victims=(0, 3),
    alike=(4,),
    spent=2,
    max_attempts=4,
    history=(verdicts.PastAttempt(0, counted=None, message="lost"), verdicts.PastAttempt(1, False, "drained")),
    remarks=("the ranks trained separately",),
)


def test_a_verdict_survives_the_termination_log() -> None:
    """Every field has a value that is not its default, and all come back."""
    defaults = {**verdicts.NONE._asdict(), **verdicts.FirstFailure()._asdict(), "exit_code": None}
    assert WHOLE.first_failure
    told = {**WHOLE._asdict(), **WHOLE.first_failure._asdict()}
    assert {"schema"} == {name for name, value in told.items() if value == defaults[name]}
    assert WHOLE == verdicts.parse(verdicts.encode(WHOLE))


def test_the_class_of_a_failure_has_its_name_in_json() -> None:
    """As the documentation of the termination message has it; `class` is a keyword of Python."""
    first = json.loads(verdicts.encode(WHOLE))["first_failure"]
    assert ("exception", False) == (first["class"], "kind" in first)


@example(LONG, LONG, LONG, LONG, 48, [LONG] * 16)
@example("E: " + "x" * 400, "y" * 5000, "digits-1", "z" * 400, 48, ["w" * 160] * 16)
@given(TEXT, TEXT, TEXT, TEXT, st.integers(0, 48), st.lists(TEXT, max_size=16))
def test_a_verdict_fits_what_the_kubelet_keeps(
    exception: str, trace: str, pod: str, message: str, victims: int, history: list[str]
) -> None:
    """Whatever the texts, it is JSON with all its keys, and the kubelet cuts nothing off."""
    first = verdicts.FirstFailure("exception", message[:400], 5, 1, pod, "node-b", 1, None, exception, trace, 3)
    past = tuple(verdicts.PastAttempt(number, True, text[:160]) for number, text in enumerate(history))
    whole = WHOLE._replace(first_failure=first, victims=tuple(range(victims)), history=past)
    text = verdicts.encode(whole)
    assert len(text) <= KUBELET_KEEPS
    assert verdicts.to_record(whole).keys() == json.loads(text).keys()
    assert whole._replace(first_failure=None, history=()) == verdicts.parse(text)._replace(  # type: ignore[union-attr]
        first_failure=None, history=()
    )


def test_the_end_of_a_traceback_is_kept() -> None:
    """The line that raised is worth more than where the program began."""
    assert WHOLE.first_failure
    trace = "".join(f'  File "train.py", line {i}, in f\n' for i in range(500)) + "ValueError: bad\n"
    long = WHOLE._replace(first_failure=WHOLE.first_failure._replace(traceback=trace))
    first = json.loads(verdicts.encode(long))["first_failure"]
    assert first["traceback"].endswith("line 499, in f\nValueError: bad\n")


def test_a_newer_schema_is_read_as_far_as_it_is_understood() -> None:
    """Keys that are new are skipped, and what has another type by now counts as missing."""
    newer = json.loads(verdicts.encode(WHOLE))
    newer.update(schema=9, new={"key": 1}, attempt="two", victims=[0, "1"], history=[{"attempt": 0}, 7])
    newer["first_failure"].update({"new": [], "rank": "5", "class": ["exception"]})
    found = verdicts.from_record(newer)
    assert WHOLE.first_failure
    first = WHOLE.first_failure._replace(rank=None, kind="")
    assert WHOLE._replace(schema=9, attempt=0, victims=(0,), history=(), first_failure=first) == found


def test_half_a_character_is_told_as_an_escape() -> None:
    """Python's texts and JSON can hold one (`raise ValueError("\\ud800")`), what we write to cannot."""
    first = verdicts.FirstFailure(message="raised ValueError: \ud800", traceback="\ud83d\ude00 \udfff")
    past = (verdicts.PastAttempt(0, None, "\ud800"),)
    found = verdicts.parse(
        verdicts.encode(verdicts.NONE._replace(first_failure=first, history=past, remarks=("\udfff",)))
    )
    assert found
    assert found.first_failure
    told = (found.first_failure.message, found.first_failure.traceback, found.history[0].message, *found.remarks)
    assert ("raised ValueError: \\ud800", "\U0001f600 \\udfff", "\\ud800", "\\udfff") == told


def test_remarks_give_way_to_the_limit() -> None:
    """The first ones are kept, as many as fit; what is none is skipped."""
    many = verdicts.NONE._replace(remarks=tuple(f"remark {number} {'x' * 500}" for number in range(20)))
    text = verdicts.encode(many)
    kept = verdicts.from_record(json.loads(text)).remarks
    assert (6, many.remarks[:6]) == (len(kept), kept)
    assert ("a",) == verdicts.from_record({"remarks": ["a", 7, None]}).remarks


def test_missing_keys_have_their_defaults() -> None:
    """An older worker wrote fewer."""
    assert verdicts.NONE == verdicts.parse('{"schema": 1}')
    assert verdicts.FirstFailure() == verdicts.from_record({"first_failure": {}}).first_failure


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '"text"', "7", '{"first_failure": {}}', '{"schema": "1"}', '{"schema": true}', "[" * 4000],
)
def test_what_is_no_verdict_is_none(text: str) -> None:
    """Cut off, empty, or another program's: a verdict carries a schema number."""
    assert verdicts.parse(text) is None
