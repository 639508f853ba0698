"""How a process below the worker tells it something: events through a pipe, and what this process is, as they say it.

An event is one JSON line of at most PIPE_BUF bytes in one write, so the order in the pipe is that of the events. As in
all of this folder, nothing may change how the user's program runs or ends: a worker that is gone is no error, and
`guarded` swallows what is our own mistake.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

RANK_DIR = "K8SDDP_RANK_DIR"
EVENTS = "events"  # the worker's event pipe in RANK_DIR
MAX_EVENT = 4000  # PIPE_BUF is 4,096: a smaller write is atomic

state: dict[str, object] = {"rank": None, "pid": 0}  # of this process, or of the one that it was forked from


def is_own() -> bool:
    """Return whether `state` is about this process and not about the one that it was forked from."""
    return state["pid"] == os.getpid()


def own_rank() -> object:
    """Return the rank that this process is, None where it is none (yet)."""
    return state["rank"] if is_own() else None


def emit(event: str, **fields: object) -> bool:
    """Write one event, its texts cut until it fits into one atomic write; return whether the worker can read it."""
    import json

    fields.update(event=event, pid=os.getpid(), rank=state["rank"])
    data = json.dumps(fields).encode("ascii")
    while len(data) > MAX_EVENT:
        excess = max(1, (len(data) - MAX_EVENT) // 12)
        texts = {name: text for name, text in fields.items() if isinstance(text, str)}
        longest = max(texts, key=lambda name: len(texts[name]))
        text = texts[longest]
        fields[longest] = text[excess:] if longest == "traceback" else text[:-excess]
        data = json.dumps(fields).encode("ascii")
    return send(data)


def send(data: bytes) -> bool:
    """Write one line into the worker's event pipe; return whether the worker can read it."""
    try:
        fd = os.open(os.path.join(os.environ[RANK_DIR], EVENTS), os.O_WRONLY | os.O_NONBLOCK)
    except OSError:
        return False  # the worker is gone
    try:
        os.set_blocking(fd, True)  # a full pipe is emptied soon; an event must not be lost
        return os.write(fd, data + b"\n") > 0
    except OSError:
        return False
    finally:
        os.close(fd)


def load(name: str) -> Any:
    """Import a module of this folder, which is off sys.path once the script runs."""
    import importlib

    folder = os.path.dirname(__file__)
    sys.path.insert(0, folder)
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(folder)


def guarded(function: Callable[..., object], *args: object, **options: object) -> None:
    """Call `function` and swallow what it raises: reporting must never change how the program ends."""
    try:
        function(*args, **options)
    except Exception:
        pass
