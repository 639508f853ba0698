"""What torch's flight recorder has written of an attempt: kept, read without trust, and told in a sentence."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest

from k8sddp.worker.ranks import flight_records


def make_record(enqueued: int, completed: int, name: str = "nccl:all_reduce", **changes: object) -> dict[str, object]:
    """Return a record in the shape of torch 2.4 to 2.15 (`_dump_nccl_trace`), of a rank in the default group."""
    entries = [
        {
            "frames": [{"name": "all_reduce", "filename": "distributed_c10d.py", "line": 4174}],
            "record_id": number - 1,
            "pg_id": 0,
            "process_group": ("0", "default_pg"),
            "collective_seq_id": number,
            "p2p_seq_id": 0,
            "profiling_name": name,
            "input_sizes": [[3]],
            "state": "completed" if number <= completed else "started",
            "is_p2p": False,
        }
        for number in range(1, enqueued + 1)
    ]
    status = {"last_enqueued_collective": enqueued, "last_started_collective": enqueued}
    return {
        "version": "2.10",
        "pg_config": {"0": {"name": "0", "desc": "default_pg", "ranks": "[0, 1]"}},
        "pg_status": {"0": {**status, "last_completed_collective": completed}},
        "entries": entries,
        **changes,
    }


def write(folder: Path, records: dict[int, object]) -> None:
    """Write records as torch does."""
    for rank, record in records.items():
        data = record if isinstance(record, bytes) else pickle.dumps(record, protocol=2)
        (folder / f"{flight_records.PREFIX}{rank}").write_bytes(data)


def test_records_are_kept_and_say_which_collective_and_who_has_not_called_it(tmp_path: Path) -> None:
    """They leave the attempt's folder, which goes."""
    folder = tmp_path / "ranks"
    folder.mkdir()
    write(folder, {4: make_record(7, 6), 5: make_record(6, 6), 6: make_record(7, 6)})
    kept = tmp_path / "k8sddp-flight-records" / "attempt-2"
    assert (
        "by torch's flight records collective 7 (nccl:all_reduce) is not complete: ranks 4, 6 are in it, and rank 5 "
        "has not called it",
        f"torch's flight records of ranks 4, 5, 6 are in {kept}",
    ) == flight_records.keep(str(folder), str(tmp_path), range(4, 8), 2)
    assert ["rank-4", "rank-5", "rank-6"] == sorted(path.name for path in kept.iterdir())
    assert [] == list(folder.iterdir())


def test_without_records_nothing_is_made_or_said(tmp_path: Path) -> None:
    """As under gloo, and wherever no collective has timed out."""
    assert () == flight_records.keep(str(tmp_path), str(tmp_path), range(2), 0)
    assert [] == list(tmp_path.iterdir())


def test_the_last_attempts_are_kept(tmp_path: Path) -> None:
    """By number, not by name."""
    folder = tmp_path / "ranks"
    folder.mkdir()
    for attempt in range(8, 12):
        write(folder, {0: make_record(1, 1)})
        flight_records.keep(str(folder), str(tmp_path), range(1), attempt)
    assert {"attempt-9", "attempt-10", "attempt-11"} == {
        path.name for path in (tmp_path / "k8sddp-flight-records").iterdir()
    }


class Attack:
    """What a plain pickle.load would execute."""

    def __reduce__(self) -> object:
        return os.mkdir, ("attacked",)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(pickle.dumps(Attack()), id="a call"),
        pytest.param(pickle.dumps({"pg_status": Attack()}, protocol=2), id="a call inside"),
        pytest.param(b"cos\nsystem\n(S'mkdir attacked'\ntR.", id="an old call"),
        pytest.param(b"\x80\x02Pnobody\n.", id="a reference"),
        pytest.param(pickle.dumps(make_record(3, 2))[:-40], id="cut off"),
        pytest.param(pickle.dumps([1, 2]), id="a list"),
        pytest.param(pickle.dumps({"pg_status": {"0": {}}}), id="no counts"),
        pytest.param(pickle.dumps({**make_record(3, 2), "entries": 7}), id="no entries"),
        pytest.param(b"", id="empty"),
    ],
)
def test_what_is_no_record_is_never_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    """It was written by a process that runs the user's code."""
    monkeypatch.chdir(tmp_path)
    assert flight_records.standing(data, 0) is None
    assert [] == list(tmp_path.iterdir())


def test_a_link_or_a_huge_record_is_no_harm(tmp_path: Path) -> None:
    """A link is not followed; what is too long to be kept goes with the attempt's folder."""
    folder = tmp_path / "ranks"
    folder.mkdir()
    (folder / f"{flight_records.PREFIX}0").symlink_to("/etc/passwd")
    with (folder / f"{flight_records.PREFIX}1").open("wb") as file:
        file.truncate(flight_records.MAX_KEPT + 1)
    assert () == flight_records.keep(str(folder), str(tmp_path), range(2), 0)
    assert [] == list((tmp_path / "k8sddp-flight-records" / "attempt-0").iterdir())


def test_ranks_that_have_finished_all_are_not_spoken_of() -> None:
    """Of two that are not at the same place the one that is less far is told."""
    made = [flight_records.Standing(0, 5, 5, ""), flight_records.Standing(1, 6, 6, "")]
    assert () == flight_records.summary(made)
    apart = [flight_records.Standing(0, 9, 8, "nccl:broadcast"), flight_records.Standing(1, 7, 6, "nccl:barrier")]
    (said,) = flight_records.summary(apart)
    assert "by torch's flight records collective 7 (nccl:barrier) is not complete: rank 1 is in it" == said
