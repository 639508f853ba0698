"""The user's own paths in place of those of a pod's working folder, so that an error names the file to open.

The code is unpacked anew for every pod, so a traceback would point at a copy. Of a rank's output only the names of
source files that travelled are changed, in all other places a path means what it says: a rank may have written there.
In our own sentences the folder itself is changed too. Pure.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from pathlib import Path
from typing import Final

OURS: Final = b"[k8sddp] "


class UsersPaths:
    """Translates lines and sentences; `files` has the working folders of all pods, `code` came from `folder`."""

    def __init__(self, files: Path, code: Collection[str], *, folder: Path | None) -> None:
        self._prefix = os.fsencode(files) + b"/"
        self._code = frozenset(code)
        self._folder = None if folder is None else os.fsencode(folder)
        self._pattern = re.compile(re.escape(self._prefix) + rb"[a-z0-9-]+(?:/([^\s\"':;,()\[\]]+))?")

    def in_lines(self, lines: bytes) -> bytes:
        """Return lines of pods with the user's paths."""
        if self._folder is None or self._prefix not in lines:
            return lines
        return b"".join(self._in_line(line) for line in lines.splitlines(keepends=True))

    def in_sentence(self, text: str) -> str:
        """Return what we say with the user's paths."""
        return os.fsdecode(self._in_line(OURS + os.fsencode(text))[len(OURS) :]) if self._folder else text

    def _in_line(self, line: bytes) -> bytes:
        ours = line.startswith(OURS)
        return self._pattern.sub(lambda match: self._users(match, ours=ours), line)

    def _users(self, match: re.Match[bytes], *, ours: bool) -> bytes:
        assert self._folder is not None
        name = match[1]
        if name is None:
            return self._folder if ours else match[0]
        is_source = os.fsdecode(name) in self._code and (ours or name.endswith(b".py"))
        return self._folder + b"/" + name if is_source else match[0]
