"""Turns a process into a reporting rank: its output to the worker's pipe, its end to the worker's event pipe.

Which process is what: RANK and LOCAL_RANK make a rank; the first process below the worker is the launcher; children of
the launcher become ranks when they call init_process_group; children of a rank are nothing, however many there are, so
that a rank's own subprocess never names a false cause. Light: no torch, no traceback module until something fails. An
event is one JSON line of at most PIPE_BUF bytes in one write, so the order in the pipe is the order of events.
"""

from __future__ import annotations

import os
import sys
import time

import k8sddp_teardown  # now: once the script runs, this folder is off sys.path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

RANK_DIR = "K8SDDP_RANK_DIR"
RANK_PID = "K8SDDP_RANK_PID"
LAUNCHER_PID = "K8SDDP_LAUNCHER_PID"
EVENTS = "events"  # the worker's event pipe in RANK_DIR
MAX_EVENT = 4000  # PIPE_BUF is 4,096: a smaller write is atomic
QUIET = ("ChildFailedError", "SignalException")  # torchrun's own report about ranks that have reported themselves

_state: dict[str, object] = {"rank": None, "pid": 0, "recorded": False, "watched": False}


def install() -> None:
    """Find out what this process is and install what that needs."""
    environ = os.environ
    pid = os.getpid()
    _state["pid"] = pid
    if "RANK" in environ and "LOCAL_RANK" in environ:
        become_rank(int(environ["RANK"]))
        guarded(_watch_teardown)
        return
    import k8sddp_hooks
    import k8sddp_page  # noqa: F401  now, for a child that becomes a rank when this folder is off sys.path

    if environ.get("K8SDDP_FAULTS"):
        import k8sddp_faults  # noqa: F401
    if environ.setdefault(LAUNCHER_PID, str(pid)) == str(pid):
        _watch_end()
        k8sddp_hooks.watch_launcher()
    k8sddp_hooks.watch_children()


def become_rank(rank: int) -> None:
    """Send this process's output and end to the worker as those of `rank`; later calls do nothing."""
    pid = os.getpid()
    if _state["rank"] is not None and _state["pid"] == pid:
        return
    if os.environ.get(RANK_PID, str(pid)) != str(pid):
        return  # forked or started by a rank
    os.environ[RANK_PID] = str(pid)
    _state.update(rank=rank, pid=pid, recorded=False)
    _send(b'{"event": "start", "pid": %d, "rank": %d}' % (pid, rank))  # json costs 2 ms in a process that just starts
    _redirect(os.path.join(os.environ[RANK_DIR], "rank-%d.out" % rank))
    _watch_end()
    guarded(_count, rank)


def _watch_teardown() -> None:
    import k8sddp_hooks

    k8sddp_hooks.watch_teardown()


def _count(rank: int) -> None:
    import k8sddp_page

    k8sddp_page.counter.start(os.path.join(os.environ[RANK_DIR], "rank-%d.page" % rank))
    if os.environ.get("K8SDDP_FAULTS"):
        import k8sddp_faults

        k8sddp_page.counter.after_step = k8sddp_faults.of_rank(rank)


def emit(event: str, **fields: object) -> None:
    """Write one event; the text fields are cut until it fits into one atomic write."""
    import json

    fields.update(event=event, pid=os.getpid(), rank=_state["rank"])
    data = json.dumps(fields).encode("ascii")
    while len(data) > MAX_EVENT:
        excess = max(1, (len(data) - MAX_EVENT) // 12)
        texts = {name: text for name, text in fields.items() if isinstance(text, str)}
        longest = max(texts, key=lambda name: len(texts[name]))
        text = texts[longest]
        fields[longest] = text[excess:] if longest == "traceback" else text[:-excess]
        data = json.dumps(fields).encode("ascii")
    _send(data)


def _send(data: bytes) -> None:
    try:
        fd = os.open(os.path.join(os.environ[RANK_DIR], EVENTS), os.O_WRONLY | os.O_NONBLOCK)
    except OSError:
        return  # the worker is gone
    try:
        os.set_blocking(fd, True)  # a full pipe is emptied soon; an event must not be lost
        os.write(fd, data + b"\n")
    except OSError:
        pass
    finally:
        os.close(fd)


def record_exception(
    kind: type[BaseException], value: BaseException, trace: TracebackType | None, *, sure: bool = True
) -> None:
    """Report an exception that ends this process, to the worker and in torch's own file.

    Where that is not `sure`, the worker believes it only when the process exits with code 1.
    """
    if _state["pid"] != os.getpid() or _state["recorded"] or kind.__name__ in QUIET:
        return
    text = describe(kind, value)
    lines = "".join(_traceback(kind, value, trace))
    if not sure:
        emit("last", exception=text, traceback=lines)
        return
    _state["recorded"] = True
    index = getattr(value, "error_index", None)  # torch.multiprocessing.spawn: a child of this process failed
    child = getattr(value, "error_pid", getattr(value, "pid", None))  # torch 2.4 says pid
    if isinstance(index, int) and isinstance(child, int):
        emit(
            "child",
            index=index,
            child_pid=child,
            exit_code=getattr(value, "exit_code", None),
            exception=None if hasattr(value, "exit_code") else _last_line(str(value)),
            traceback=None if hasattr(value, "exit_code") else str(value),
        )
        return
    emit("exception", exception=text, traceback=lines)
    path = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if _state["rank"] is not None and path and not os.path.exists(path):
        import json

        extra = {"py_callstack": lines, "timestamp": str(int(time.time()))}
        with open(path, "w") as file:  # the format of torch/distributed/elastic/multiprocessing/errors/error_handler.py
            json.dump({"message": {"message": text, "extraInfo": extra}}, file)


def describe(kind: type[BaseException], value: BaseException) -> str:
    """Return `ValueError: bad data`."""
    try:
        text = str(value)
    except Exception:
        text = "<no text>"
    return "%s: %s" % (kind.__name__, text) if text else kind.__name__


def _traceback(kind: type[BaseException], value: BaseException, trace: TracebackType | None) -> list[str]:
    import traceback

    return traceback.format_exception(kind, value, trace)


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip() if lines else text


def _redirect(path: str) -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):
            pass
    try:
        # no O_CREAT: a rank that the worker did not expect keeps the launcher's output
        fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:
        return
    os.set_blocking(fd, True)
    os.dup2(fd, 1)
    os.dup2(fd, 2)
    os.close(fd)


def _watch_end() -> None:
    import atexit

    if _state["watched"]:
        return  # a launcher that became a rank, or a child forked from one
    _state["watched"] = True
    previous = sys.excepthook

    def hook(kind: type[BaseException], value: BaseException, trace: TracebackType | None) -> None:
        # the interpreter itself calls with no frame above; a script that calls sys.excepthook by hand goes on
        guarded(record_exception, kind, value, trace, sure=sys._getframe().f_back is None)
        previous(kind, value, trace)

    def leave() -> None:
        value = getattr(sys, "last_value", None)  # what ends the process, even if the script took our hook away
        if value is not None:
            guarded(record_exception, type(value), value, value.__traceback__, sure=False)
        guarded(k8sddp_teardown.let_gloo_finish)

    sys.excepthook = hook
    atexit.register(leave)


def guarded(function: Callable[..., object], *args: object, **options: object) -> None:
    """Call `function` and swallow what it raises: reporting must never change how the program ends."""
    try:
        function(*args, **options)
    except Exception:
        pass
