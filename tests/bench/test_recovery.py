"""What the ranks' notes say about a run, and how they arrive."""

import json
import socket

from tests.bench import notes, recovery

# One fault at 10; rank 0 comes back in vain at 11, then both together.
NOTED = (
    ("start", 0, 1.0),
    ("start", 1, 2.0),
    ("step", 0, 4.0),
    ("step", 1, 4.5),
    ("fault", 1, 10.0),
    ("start", 0, 11.0),
    ("start", 0, 12.0),
    ("start", 1, 13.0),
    ("step", 0, 15.0),
    ("step", 1, 15.5),
)


def test_a_restart_lasts_until_the_last_rank_steps() -> None:
    """The share ends with the last rank's first new process, the restart with the last rank's first new step."""
    expected = recovery.Run(complete=True, shares=(3.0,), restarts=(5.5,), launch=3.5)
    assert expected == recovery.judge(NOTED, 1.0, complete=True, faults=1)


def test_a_run_without_all_its_faults_is_not_complete() -> None:
    """A job that ends after one of two faults proves nothing."""
    assert not recovery.judge(NOTED, 1.0, complete=True, faults=2).complete


def test_a_fault_that_nobody_survived_has_no_figures() -> None:
    """The row of a fault that no run came back from is empty but for the success rate."""
    runs = [recovery.judge(NOTED, 1.0, complete=False, faults=2)]
    row = recovery.row("it", runs, 2, [3.5])
    assert ("0 of 1", None, None, 0) == (row["complete"], row["median"], row["own_share"], row["n"])


def test_a_note_is_answered_with_the_number_of_faults() -> None:
    """A rank learns from its first note how many faults lie behind it."""
    with notes.notebook("127.0.0.1") as notebook:
        answers = [_note(notebook.address, note) for note in (("fault", 1, 1.5), ("start", 1, 2.5))]
    assert ["1", "1"] == answers
    assert [("fault", 1, 1.5), ("start", 1, 2.5)] == notebook.written


def _note(address: str, note: recovery.Note) -> str:
    host, _, port = address.partition(":")
    with socket.create_connection((host, int(port)), timeout=5) as stream, stream.makefile() as answer:
        stream.sendall(json.dumps(note).encode() + b"\n")
        return answer.readline().strip()
