"""Keeps what torch's flight recorder has written of an attempt, and says from it where the collectives stood.

When a collective under NCCL times out, torch writes what each rank has called into a file per rank, and we let it do so
in the attempt's folder. That goes; so the files are moved to the pod's scratch folder, those of the last attempts. A
file is a pickle, written by a process that runs the user's code: it is read by an unpickler that knows plain containers
and nothing else. What cannot be read is kept all the same, for `python -m torch.distributed.flight_recorder.fr_trace`.
"""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import stat
from collections.abc import Iterable, Mapping
from typing import NamedTuple, Optional

from k8sddp.worker.contract import wording

# What tells torch where to write: <value><rank>. The first since the recorder is not NCCL's alone (seen in 2.15, which
# warns of the second); an older torch writes where it likes, and a user who sets either has the files there.
NAMES = ("TORCH_FR_DUMP_TEMP_FILE", "TORCH_NCCL_DEBUG_INFO_TEMP_FILE")
PREFIX = "flight-record-"  # in the attempt's folder, and the rank
FOLDER = "k8sddp-flight-records"  # in the pod's scratch folder
KEPT = 3  # attempts
MAX_KEPT = 64 * 1024 * 1024  # bytes of one attempt
MAX_READ = 4 * 1024 * 1024  # bytes of a file that is read; one of 2,000 collectives with their frames has some 2 MiB
MAX_NAME = 60


class Standing(NamedTuple):
    """Where one rank stood in the default process group."""

    rank: int
    enqueued: int  # number of the last collective that it has called
    completed: int  # and of the last one that is complete
    name: str  # of the first that is not: nccl:all_reduce


def keep(folder: str, scratch: str, ranks: range, attempt: int) -> tuple[str, ...]:
    """Move the records of an attempt into the scratch folder; return what is to be said of them."""
    found = {rank: os.path.join(folder, "%s%d" % (PREFIX, rank)) for rank in ranks}
    found = {rank: path for rank, path in found.items() if _size(path)}
    if not found:
        return ()
    target = os.path.join(scratch, FOLDER, "attempt-%d" % attempt)
    os.makedirs(target, exist_ok=True)
    _forget(os.path.join(scratch, FOLDER))
    standings, kept, room = [], [], MAX_KEPT
    for rank, path in found.items():
        standings.append(standing(_read(path), rank))
        if _size(path) <= room:
            room -= _size(path)
            os.replace(path, os.path.join(target, "rank-%d" % rank))
            kept.append(rank)
    said = summary([one for one in standings if one is not None])
    return (*said, "torch's flight records of %s are in %s" % (wording.ranks(kept), target)) if kept else said


def standing(data: bytes, rank: int) -> Optional[Standing]:
    """Return where a rank stood, None where its record cannot be read."""
    try:
        record = _Plain(io.BytesIO(data)).load()
        group = record["pg_status"]["0"]  # of the default group, in the format of torch 2.4 to 2.15
        enqueued, completed = group["last_enqueued_collective"], group["last_completed_collective"]
        if type(enqueued) is not int or type(completed) is not int:
            return None
        names = [one["profiling_name"] for one in record["entries"] if _is(one, completed + 1)]
    except Exception:  # whatever a file may hold that is no record
        return None
    name = names[-1] if names and isinstance(names[-1], str) else ""
    return Standing(rank, enqueued, completed, "".join(filter(str.isprintable, name))[:MAX_NAME])


def summary(standings: Iterable[Standing]) -> tuple[str, ...]:
    """Return in which collective the ranks stood, and who of them had not called it."""
    ranks = sorted(standings)
    stuck = [one for one in ranks if one.enqueued > one.completed]
    if not stuck:
        return ()
    first = min(stuck, key=lambda one: (one.completed, one.rank))
    number = first.completed + 1
    inside = [one.rank for one in stuck if one.completed + 1 == number]
    text = "by torch's flight records collective %d%s is not complete: %s" % (
        number,
        " (%s)" % first.name if first.name else "",
        wording.ranks(inside) + (" are in it" if len(inside) > 1 else " is in it"),
    )
    absent = [one.rank for one in ranks if one.enqueued < number]
    if absent:
        text += ", and %s %s not called it" % (wording.ranks(absent), "have" if len(absent) > 1 else "has")
    return (text,)


class _Plain(pickle.Unpickler):
    """Reads numbers, texts, lists, tuples and dicts; a record holds nothing else."""

    def find_class(self, module: str, name: str) -> object:
        raise pickle.UnpicklingError("%s.%s has no place in a record" % (module, name))

    def persistent_load(self, pid: object) -> object:
        raise pickle.UnpicklingError("a record refers to nothing")


def _is(entry: object, number: int) -> bool:
    """Return whether an entry is that collective of the default group."""
    if not isinstance(entry, Mapping) or entry.get("is_p2p"):
        return False
    return entry.get("pg_id") == 0 and entry.get("collective_seq_id") == number


def _size(path: str) -> int:
    """Return the size of a regular file, 0 where there is none."""
    try:
        found = os.lstat(path)
    except OSError:
        return 0
    return found.st_size if stat.S_ISREG(found.st_mode) else 0


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(MAX_READ)
    except OSError:
        return b""


def _forget(folder: str) -> None:
    """Remove what is kept of older attempts."""
    import shutil  # 10 ms that the start need not pay

    names = [name for name in os.listdir(folder) if name.rpartition("-")[2].isdigit()]
    for name in sorted(names, key=lambda one: int(one.rpartition("-")[2]))[:-KEPT]:
        with contextlib.suppress(OSError):
            shutil.rmtree(os.path.join(folder, name))
