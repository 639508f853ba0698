"""New files in a pod's working folder when the job is complete: they end with the pod, and its log says so.

Only names and sizes are compared with those of the code that was unpacked there, so a file that changed in place and
kept its size goes unseen. What lies on another file system is a volume, and stays.
"""

from __future__ import annotations

import itertools
import os

MAX_ENTRIES = 10_000  # files and folders that are looked at
SHOWN = 3  # files that are named
CACHES = ("__pycache__",)


def sentence(folder: str, code_zip: str) -> str:
    """Return what to say about the working folder, the empty string where nothing in it is new.

    Raises OSError, or what zipfile raises for a file that is none.
    """
    import zipfile  # needed once, at the end

    with zipfile.ZipFile(code_zip) as archive:
        known = {member.filename: member.file_size for member in archive.infolist()}
    new = [(name, size) for name, size in _files(folder) if known.get(name) != size]
    if not new:
        return ""
    names = ", ".join(name for name, _ in new[:SHOWN])
    more = " and %d more" % (len(new) - SHOWN) if len(new) > SHOWN else ""
    size = sum(size for _, size in new) / 2**20
    said = (folder, names, more, size)
    return "new files in %s end with the pod: %s%s (%.1f MiB); to keep such files, write them to a volume" % said


def _files(folder: str) -> list[tuple[str, int]]:
    found: list[tuple[str, int]] = []
    device = os.lstat(folder).st_dev
    waiting, seen = [""], 0
    while waiting and seen < MAX_ENTRIES:
        below = waiting.pop()
        with os.scandir(os.path.join(folder, below)) as entries:
            some = list(itertools.islice(entries, MAX_ENTRIES - seen))
            seen += len(some)
            for entry in sorted(some, key=lambda entry: entry.name):
                name = os.path.join(below, entry.name)
                status = entry.stat(follow_symlinks=False)
                if status.st_dev != device or entry.name in CACHES:
                    continue
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(name)
                elif entry.is_file(follow_symlinks=False):
                    found.append((name, status.st_size))
    return found
