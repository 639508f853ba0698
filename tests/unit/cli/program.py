"""Starts the installed `k8sddp` program as a shell would: the tests of what a user sees go through it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

SCRIPTS = Path(sys.executable).parent


class Ended(NamedTuple):
    """What a finished program left: its exit code and its two outputs as text."""

    code: int
    out: str
    err: str


def k8sddp(
    *words: str,
    stdin: bytes = b"",
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    program: str = "k8sddp",
    timeout: float = 60,
) -> Ended:
    """Run `k8sddp WORDS...` to its end, without a kubeconfig unless `env` names one."""
    done = subprocess.run(
        [SCRIPTS / program, *words],
        input=stdin,
        cwd=cwd,
        env={**os.environ, "KUBECONFIG": os.devnull, **(env or {})},
        capture_output=True,
        timeout=timeout,
        check=False,
    )
    return Ended(done.returncode, done.stdout.decode(), done.stderr.decode())
