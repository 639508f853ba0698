"""Faults are read from one short text, written for the ranks, and missed when they never happen."""

from __future__ import annotations

from pathlib import Path

import pytest

from k8sddp import errors
from k8sddp.local import faults


def parse(text: str) -> faults.Fault:
    """Return the fault of a job of two nodes with two ranks each."""
    return faults.parse(text, nnodes=2, nproc_per_node=2)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("kill rank=1 step=20", "kill rank=1 step=20 attempt=0"),
        ("  stop  step=1 rank=0 ", "stop rank=0 step=1 attempt=0"),
        ("raise rank=3 step=5 attempt=2", "raise rank=3 step=5 attempt=2"),
        ("segfault rank=1 step=20", "segfault rank=1 step=20 attempt=0"),
        ("exit rank=1 step=20", "exit rank=1 step=20 attempt=0 code=3"),
        ("exit rank=1 step=20 code=0", "exit rank=1 step=20 attempt=0 code=0"),
        ("lose-node 1", "lose-node node=1 step=1 attempt=0"),
        ("lose-node node=0 step=7 attempt=1", "lose-node node=0 step=7 attempt=1"),
    ],
)
def test_a_fault_is_written_with_every_key(text: str, line: str) -> None:
    """What a rank reads needs no defaults, and reads as the same fault again."""
    assert line == parse(text).line()
    assert parse(text) == parse(line)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("kill rank=1 step=20", "kill rank 1 at step 20 (attempt 0)"),
        ("exit rank=1 step=20 code=0 attempt=2", "exit rank 1 with code 0 at step 20 (attempt 2)"),
        ("lose-node 1 step=20", "lose node 1 at step 20 (attempt 0)"),
    ],
)
def test_a_fault_is_said_in_words(text: str, said: str) -> None:
    """What `run --local` prints at its start."""
    assert said == parse(text).said()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "it is empty"),
        ("kil rank=1 step=2", "there is no fault `kil`"),
        ("kill step=2", "rank= is missing"),
        ("kill", "rank= and step= is missing"),
        ("lose-node", "node= is missing"),
        ("kill rank=1 step=2 code=3", "kill has no `code=3`"),
        ("kill rank=1 step=2 rank=0", "`rank=` is given twice"),
        ("kill 1 step=2", "kill has no `1`"),
        ("kill rank=4 step=2", "the job has 4 ranks, 0 to 3"),
        ("lose-node 2", "the job has 2 nodes, 0 to 1"),
        ("kill rank=one step=2", "`rank=one` needs a whole number from 0"),
        ("kill rank=-1 step=2", "`rank=-1` needs a whole number from 0"),
        ("kill rank=1 step=0", "`step=0` needs a whole number from 1"),
        ("kill rank=1 step=", "`step=` needs a whole number from 1"),
        ("kill rank=1 step=99999999999", "`step=99999999999` needs a whole number from 1"),
        ("exit rank=1 step=2 code=256", "`code=256` is above 255, the largest exit code"),
        ("kill rank=1\nstep=2\nlose-node 0", "kill has no `lose-node`"),
    ],
)
def test_bad_input_is_one_sentence_with_the_accepted_forms(text: str, problem: str) -> None:
    """What was written, what is wrong with it, what to write instead."""
    with pytest.raises(errors.UsageError) as caught:
        parse(text)

    assert f"--fault {text!r}: {problem}; write {faults.FORMS}" == str(caught.value)


def test_what_happened_is_read_from_the_marks(tmp_path: Path) -> None:
    """A rank marks a fault by its line before it acts."""
    asked = [parse("kill rank=1 step=20"), parse("lose-node 1"), parse("raise rank=0 step=1 attempt=1")]
    (tmp_path / (faults.MARK % 1)).touch()

    assert (asked[1],) == faults.happened(tmp_path, asked)
    assert "kill rank=1 step=20 attempt=0\nlose-node node=1 step=1 attempt=0\nraise rank=0 step=1 attempt=1" == (
        faults.text(asked)
    )
    assert (
        "the fault `raise rank=0 step=1 attempt=1` never happened: in attempt 1, rank 0 made no optimizer step 1"
        == asked[2].never_happened()
    )
