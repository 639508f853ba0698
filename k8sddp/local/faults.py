"""Faults that a user asks for: `run --local --fault "kill rank=1 step=20"`, to see what happens then.

Here they are read and written down for the ranks, which bring them about themselves (`worker/instrument`): right after
the optimizer step that is named. Before it acts a rank leaves an empty file in its pod's scratch folder, so that a
fault that never happened can be told from one that did.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from k8sddp import errors

LOSE_NODE: Final = "lose-node"
# kind -> its keys besides attempt, with their defaults; None where there is none
_KEYS: Final[Mapping[str, Mapping[str, int | None]]] = {
    "kill": {"rank": None, "step": None},  # SIGKILL
    "stop": {"rank": None, "step": None},  # SIGSTOP
    "exit": {"rank": None, "step": None, "code": 3},
    "raise": {"rank": None, "step": None},  # a Python exception
    "segfault": {"rank": None, "step": None},  # SIGSEGV
    LOSE_NODE: {"node": None, "step": 1},  # SIGKILL to the whole pod, as if its Kubernetes Node died
}
_LEAST: Final[Mapping[str, int]] = {"step": 1}
_MAX_CODE: Final = 255
FORMS: Final = (
    '"kill rank=1 step=20" (also stop, raise, segfault), "exit rank=1 step=20 code=3" or "lose-node 1 step=20", each '
    "with attempt=A for another attempt than 0"
)
MARK: Final = "k8sddp-fault-%d"  # in the pod's scratch folder; the number is the fault's line in K8SDDP_FAULTS


@dataclass(frozen=True)
class Fault:
    """One fault: its kind, the rank or the node that it hits, and when."""

    kind: str
    target: int
    step: int
    attempt: int = 0
    code: int | None = None  # of exit

    def line(self) -> str:
        """Return the fault as the ranks read it, every key spelled out."""
        of = "node" if self.kind == LOSE_NODE else "rank"
        code = "" if self.code is None else f" code={self.code}"
        return f"{self.kind} {of}={self.target} step={self.step} attempt={self.attempt}{code}"

    def said(self) -> str:
        """Return the fault as a person reads it: `kill rank 1 at step 20 (attempt 0)`."""
        if self.kind == LOSE_NODE:
            return f"lose node {self.target} at step {self.step} (attempt {self.attempt})"
        code = "" if self.code is None else f" with code {self.code}"
        return f"{self.kind} rank {self.target}{code} at step {self.step} (attempt {self.attempt})"

    def never_happened(self) -> str:
        """Return the sentence for the end of a run in which it did not come to this fault."""
        of = "node" if self.kind == LOSE_NODE else "rank"
        return (
            f"the fault `{self.line()}` never happened: in attempt {self.attempt}, {of} {self.target} made no "
            f"optimizer step {self.step}"
        )


def parse(text: str, *, nnodes: int, nproc_per_node: int) -> Fault:
    """Return the fault that `text` asks for in a job of this shape.

    Raises UsageError with the accepted forms.
    """
    kind, *words = text.split() or [""]
    if kind not in _KEYS:
        raise _refusal(text, f"there is no fault `{kind}`" if kind else "it is empty")
    if kind == LOSE_NODE and words and "=" not in words[0]:
        words[0] = f"node={words[0]}"
    keys = {**_KEYS[kind], "attempt": 0}
    values = dict(keys)
    for place, word in enumerate(words):
        key, equals, value = word.partition("=")
        if key not in keys or not equals:
            raise _refusal(text, f"{kind} has no `{word}`")
        if any(other.startswith(f"{key}=") for other in words[:place]):
            raise _refusal(text, f"`{key}=` is given twice")
        values[key] = _number(text, key, value)
    missing = [key for key, value in values.items() if value is None]
    if missing:
        raise _refusal(text, f"{' and '.join(f'{key}=' for key in missing)} is missing")
    given = {key: value for key, value in values.items() if value is not None}
    target = "node" if kind == LOSE_NODE else "rank"
    size = nnodes if kind == LOSE_NODE else nnodes * nproc_per_node
    if given[target] >= size:
        raise _refusal(text, f"the job has {size} {target}{'' if size == 1 else 's'}, 0 to {size - 1}")
    return Fault(kind, given[target], given["step"], given["attempt"], given.get("code"))


def text(faults: Sequence[Fault]) -> str:
    """Return the faults as the environment of the pods holds them, one per line."""
    return "\n".join(fault.line() for fault in faults)


def happened(folder: Path, faults: Sequence[Fault]) -> tuple[Fault, ...]:
    """Return the faults of which a pod's scratch folder has the mark."""
    return tuple(fault for number, fault in enumerate(faults) if (folder / (MARK % number)).exists())


def _number(text: str, key: str, value: str) -> int:
    least = _LEAST.get(key, 0)
    if not (value.isascii() and value.isdigit() and len(value) <= 9) or int(value) < least:
        raise _refusal(text, f"`{key}={value}` needs a whole number from {least}")
    if key == "code" and int(value) > _MAX_CODE:
        raise _refusal(text, f"`{key}={value}` is above {_MAX_CODE}, the largest exit code")
    return int(value)


def _refusal(text: str, problem: str) -> errors.UsageError:
    return errors.UsageError(f"--fault {text!r}: {problem}; write {FORMS}")
