"""Reads the stack that a rank has dumped, and tells whose frames are whose. Pure.

A dump is what faulthandler of CPython 3.9 to 3.15 writes for one thread (Python/traceback.c), and what our own handler
writes in the same form (instrument/k8sddp_stacks.py): the innermost frame first, at most 100, each string of at most
500 characters and nothing but ASCII. faulthandler dumps in the middle of anything, so a frame may be invalid and a line
unknown; what is no frame is passed over. What a function waits for in C a dump does not know.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from typing import NamedTuple, Optional

from k8sddp.worker.contract.stacks import Frame

_FRAME = re.compile(r'  File (?:"(.*)"|\?\?\?), line ([0-9]+|\?\?\?) in (.*)')
_MORE = re.compile(r"  \.\.\.|plus [0-9]+ frames")  # 3.9 to 3.13; since 3.14
_ESCAPE = re.compile(r"\\(?:x([0-9a-f]{2})|u([0-9a-f]{4})|U([0-9a-f]{8}))")
_HEAD = "Stack (most recent call first):"

# Frames that are not the user's, by what their file's name holds.
_STDLIB = re.compile(r"/lib(?:64)?/python3[^/]*/(?!(?:site|dist)-packages/)|^<frozen ")
_INSTALLED = re.compile(r"/(?:site|dist)-packages/([^/]+)|^<(?!string>|stdin>|ipython)")
_OURS = re.compile(r"/instrument/(?:k8sddp_\w+|sitecustomize)\.py$")
_TORCH = re.compile(
    r"/(?:site|dist)-packages/torch/"
    r"|/torch/(?:_\w+|autograd|cuda|distributed|functional|fx|jit|multiprocessing|nn|optim|serialization|utils)(?:/|\.py$)"
    r"|/torchinductor_[^/]*/"  # what torch.compile has written
)

# Where the Python side of a rank stands while it waits for other ranks (torch 2.4 to 2.15): every entry point of c10d
# and what carries it on, DDP's own calls into the reducer and c10d, and the one way into the autograd engine, in which
# DDP's reductions run. Ranks that save by torch.distributed.checkpoint are in c10d only where they really meet.
_WAITS = re.compile(
    r"/torch/distributed/(?!checkpoint/|elastic/|optim/|launcher/|pipelining/|run\.py|tensor/)"
    r"|/torch/nn/parallel/distributed\.py$"
)
_ENGINE = re.compile(r"/torch/autograd/(?:graph|__init__)\.py$")
_ENGINE_CALLS = ("_engine_run_backward", "backward", "grad")  # before 2.3 there was no function of its own
# Torch's frames that only hand a call on: what called them decides.
_BETWEEN = re.compile(r"/torch/(?:_ops|_compile|_tensor|utils/_contextlib|_dynamo/eval_frame|cuda/nvtx)\.py$")


class Dump(NamedTuple):
    """The stack of one thread, the innermost frame first, without its outermost frames where it is cut."""

    frames: tuple[Frame, ...] = ()
    cut: bool = False


def parse(text: str) -> Optional[Dump]:
    """Return the last dump in `text`, None where there is none; one without Python frames is empty."""
    _, head, rest = text.rpartition(_HEAD)
    if not head:
        return None
    lines = rest.splitlines()
    found = [match for match in map(_FRAME.fullmatch, lines) if match]
    frames = tuple(Frame(_plain(one[1] or "???"), _number(one[2]), _plain(one[3])) for one in found)
    return Dump(frames, any(map(_MORE.fullmatch, lines)))


def without_ours(frames: Sequence[Frame]) -> tuple[Frame, ...]:
    """Return the frames that there would be without our hooks; nobody needs to know of these to read a stack."""
    return tuple(one for one in frames if not _OURS.search(one.file))


def user_frame(frames: Sequence[Frame]) -> Optional[Frame]:
    """Return the innermost frame of the user's own code.

    Where the whole program was installed (`-m package.train`), that of its package; where nothing is known to be
    anybody's, the innermost; None without frames.
    """
    own = [one for one in frames if not _INSTALLED.search(one.file)]
    own = [one for one in own if not any(kind.search(one.file) for kind in (_STDLIB, _TORCH, _OURS))]
    if own:
        return own[0]
    packages = [(one, _package(one)) for one in frames]
    program = next((package for _, package in reversed(packages) if package), "")
    found = [one for one, package in packages if program and package == program]
    return next(iter([*found, *frames]), None)


def waits(frames: Sequence[Frame]) -> bool:
    """Return whether these innermost frames mean that the thread waits for other ranks, or is in autograd's engine."""
    for one in frames:
        if _ENGINE.search(one.file):
            return one.function in _ENGINE_CALLS
        if _WAITS.search(one.file):
            return True
        if not (_BETWEEN.search(one.file) or _OURS.search(one.file)):
            return False
    return False


def signature(frames: Sequence[Frame]) -> str:
    """Return eight characters that are equal for equal stacks, empty without one."""
    if not frames:
        return ""
    text = "\n".join("%s:%d:%s" % one for one in frames)
    return "%08x" % zlib.crc32(text.encode("utf-8", "backslashreplace"))


def _number(text: str) -> int:
    return int(text) if text.isdigit() else 0


def _package(frame: Frame) -> str:
    """Return the installed package that a frame belongs to, empty where that is Python's, torch's or ours."""
    found = _INSTALLED.search(frame.file)
    foreign = _TORCH.search(frame.file) or _OURS.search(frame.file)
    return (found[1] or "") if found and not foreign else ""


def _plain(text: str) -> str:
    """Return what faulthandler has escaped as it was, where that is a character that can be shown."""

    def shown(found: re.Match[str]) -> str:
        code = int(found[1] or found[2] or found[3], 16)
        return chr(code) if 0xA0 <= code < 0xD800 or 0xE000 <= code <= 0x10FFFF else found[0]

    return _ESCAPE.sub(shown, text) if "\\" in text else text
