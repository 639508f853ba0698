"""Which cluster this machine can have, and why, in one sentence.

The choice is a pure function of `Facts`, so each machine that we cannot stand on is a test. A user's current context
is never a fact: a cluster that holds somebody's work is used only when `K8SDDP_TEST_CONTEXT` names its context. Docker
wins over the test bed because kind is what most readers know; the test bed needs no container engine.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass

GO_MINIMUM = (1, 24)  # `tool` directives in go.mod; an older patch level fetches the toolchain that go.mod asks for

ADVICE = (
    "no cluster can be had here: run as root on Linux with Go >= 1.24 on PATH (test bed), or start Docker and "
    "put kind on PATH, or name a context of your kubeconfig in K8SDDP_TEST_CONTEXT"
)


@dataclass(frozen=True)
class Facts:
    """What the choice depends on."""

    context: str | None = None
    requested: str | None = None
    linux: bool = False
    root: bool = False
    go: tuple[int, int] | None = None
    docker: bool = False
    kind: bool = False


@dataclass(frozen=True)
class Choice:
    """A backend's name, or None where there is none, and the sentence for the user."""

    backend: str | None
    sentence: str


def choose(facts: Facts) -> Choice:
    """Choose `existing`, `kind` or `testbed`; `K8SDDP_TEST_BACKEND` narrows the choice to one, which may be missing."""
    missing = _missing(facts)
    if facts.requested:
        if facts.requested not in missing:
            known = ", ".join(sorted(missing))
            return Choice(None, f"K8SDDP_TEST_BACKEND={facts.requested} is no backend: use one of {known}")
        if problem := missing[facts.requested]:
            return Choice(None, f"K8SDDP_TEST_BACKEND={facts.requested} cannot be used here: {problem}")
        return Choice(facts.requested, f"cluster backend {facts.requested}: K8SDDP_TEST_BACKEND asks for it")
    if not missing["existing"]:
        return Choice("existing", f"cluster backend existing: K8SDDP_TEST_CONTEXT names context {facts.context}")
    if not missing["kind"]:
        return Choice("kind", "cluster backend kind: a Docker engine answers and kind is on PATH")
    if not missing["testbed"]:
        return Choice("testbed", "cluster backend testbed: Linux, root and Go are here, and no Docker engine with kind")
    return Choice(None, ADVICE)


def _missing(facts: Facts) -> dict[str, str | None]:
    """Say for each backend what it lacks, None where it can be used."""
    kind = "no Docker engine answers" if not facts.docker else None if facts.kind else "kind is not on PATH"
    if not facts.linux:
        testbed: str | None = "the test bed is made of Linux namespaces"
    elif not facts.root:
        testbed = "the test bed needs root"
    elif facts.go is None or facts.go < GO_MINIMUM:
        testbed = "the test bed needs Go >= 1.24 on PATH"
    else:
        testbed = None
    return {
        "existing": None if facts.context else "K8SDDP_TEST_CONTEXT names no context",
        "kind": kind,
        "testbed": testbed,
    }


def observe(environ: Mapping[str, str]) -> Facts:
    """Read the facts of this machine."""
    return Facts(
        context=environ.get("K8SDDP_TEST_CONTEXT") or None,
        requested=environ.get("K8SDDP_TEST_BACKEND") or None,
        linux=sys.platform == "linux",
        root=hasattr(os, "geteuid") and os.geteuid() == 0,
        go=_go_version(),
        docker=_answers(("docker", "version", "--format", "{{.Server.Version}}")) is not None,
        kind=shutil.which("kind") is not None,
    )


def _go_version() -> tuple[int, int] | None:
    match = re.match(r"go(\d+)\.(\d+)", _answers(("go", "env", "GOVERSION")) or "")
    return (int(match[1]), int(match[2])) if match else None


def _answers(argv: tuple[str, ...]) -> str | None:
    if shutil.which(argv[0]) is None:
        return None
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
    except subprocess.TimeoutExpired:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
