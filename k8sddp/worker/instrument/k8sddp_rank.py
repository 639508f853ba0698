"""Turns a process into a reporting rank: its output to the worker's pipe, its end to the worker's event pipe.

Which process is what: under torchrun and direct RANK and LOCAL_RANK make a rank, from its start. Under spawn, where
RANK is the node's, the first process below the worker is the launcher, and it and what it starts become ranks when
their process group has formed, with the rank that torch gives them (k8sddp_world). Processes below a rank report
nothing, so that a rank's own subprocess never names a false cause. Light: no torch, no traceback module until something
fails. An event is one JSON line of at most PIPE_BUF bytes in one write, so the order in the pipe is that of the events.
"""

from __future__ import annotations

import os
import sys
import time

import k8sddp_teardown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any, NoReturn

RANK_DIR = "K8SDDP_RANK_DIR"
RANK_PID = "K8SDDP_RANK_PID"
LAUNCHER_PID = "K8SDDP_LAUNCHER_PID"
JOINED = "K8SDDP_JOINED"  # the rank of RANK_PID while it is in a process group, empty when it has left it
EVENTS = "events"  # the worker's event pipe in RANK_DIR
MAX_EVENT = 4000  # PIPE_BUF is 4,096: a smaller write is atomic
QUIET = ("ChildFailedError", "SignalException")  # torchrun's own report about ranks that have reported themselves

_state: dict[str, object] = {"rank": None, "pid": 0, "recorded": False, "watched": False}


def install() -> None:
    """Find out what this process is and install what that needs."""
    environ = os.environ
    pid = os.getpid()
    _state["pid"] = pid
    if below_a_rank():
        _watch_group()
        return
    if environ.get("K8SDDP_LAUNCHER") != "spawn" and "RANK" in environ and "LOCAL_RANK" in environ:
        become_rank(int(environ["RANK"]))
        guarded(_watch_group)
        return
    import k8sddp_hooks
    import k8sddp_page  # noqa: F401  now, for a child that becomes a rank when this folder is off sys.path

    if environ.get("K8SDDP_FAULTS"):
        import k8sddp_faults  # noqa: F401
    place = environ.get("LOCAL_RANK", "")
    if environ.setdefault(LAUNCHER_PID, str(pid)) == str(pid):
        import k8sddp_stop

        k8sddp_stop.install()
        _watch_end(is_no_news=k8sddp_stop.is_no_news)
        k8sddp_hooks.watch_launcher()
    elif environ[LAUNCHER_PID] == str(os.getppid()) and place.isdigit() and int(place):
        # the script has started itself again, as Lightning does; what has LOCAL_RANK=0 may as well be its helper
        _watch_end()
        emit("starting", local_rank=int(place))
    k8sddp_hooks.watch_children()


def below_a_rank() -> bool:
    """Return whether a rank has started or forked this process."""
    pid = str(os.getpid())
    return os.environ.get(RANK_PID, pid) != pid


def own_rank() -> object:
    """Return the rank that this process is, None where it is none (yet)."""
    return _state["rank"] if _state["pid"] == os.getpid() else None


def become_rank(rank: int) -> None:
    """Send this process's output and end to the worker as those of `rank`; later calls do nothing."""
    pid = os.getpid()
    if own_rank() is not None:
        return
    os.environ[RANK_PID] = str(pid)
    _state.update(rank=rank, pid=pid, recorded=False)
    _send(b'{"event": "start", "pid": %d, "rank": %d}' % (pid, rank))  # json costs 2 ms in a process that just starts
    _redirect(os.path.join(os.environ[RANK_DIR], "rank-%d.out" % rank))
    _watch_end()
    guarded(_count, rank)


def load(name: str) -> Any:
    """Import a module of this folder, which is off sys.path once the script runs."""
    import importlib

    folder = os.path.dirname(__file__)
    sys.path.insert(0, folder)
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(folder)


def _watch_group() -> None:
    import k8sddp_hooks

    k8sddp_hooks.watch_group()


def _count(rank: int) -> None:
    counter = load("k8sddp_page").counter
    counter.start(os.path.join(os.environ[RANK_DIR], "rank-%d.page" % rank))
    if os.environ.get("K8SDDP_FAULTS"):
        counter.after_step = load("k8sddp_faults").of_rank(rank)


def emit(event: str, **fields: object) -> bool:
    """Write one event, its texts cut until it fits into one atomic write; return whether the worker can read it."""
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
    return _send(data)


def _send(data: bytes) -> bool:
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


def record_exception(
    kind: type[BaseException], value: BaseException, trace: TracebackType | None, *, sure: bool = True
) -> None:
    """Report an exception that ends this process, to the worker and in torch's own file.

    Where that is not `sure`, the worker believes it only when the process exits with code 1.
    """
    if _state["pid"] != os.getpid() or _state["recorded"] or kind.__name__ in QUIET:
        return
    lines = "".join(_traceback(kind, value, trace))
    told, origin = _judge(value)
    text = describe(type(told), told)
    if not sure:
        emit("last", exception=text, traceback=lines, origin=origin)
        return
    _state["recorded"] = True
    # torch.multiprocessing.spawn: a child of this process failed, which is a rank only where this one is none
    index = getattr(value, "error_index", None) if _state["rank"] is None else None
    child = getattr(value, "error_pid", getattr(value, "pid", None))  # torch 2.4 says pid
    if isinstance(index, int) and isinstance(child, int):
        code, said = getattr(value, "exit_code", None), str(value)
        words = {"exception": _last_line(said), "traceback": said} if code is None else {}
        emit("child", index=index, child_pid=child, exit_code=code, **words)
        return
    emit("exception", exception=text, traceback=lines, origin=origin)
    path = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if _state["rank"] is not None and path and not os.path.exists(path):
        import json

        extra = {"py_callstack": lines, "timestamp": str(int(time.time()))}
        with open(path, "w") as file:  # the format of torch/distributed/elastic/multiprocessing/errors/error_handler.py
            json.dump({"message": {"message": text, "extraInfo": extra}}, file)


def record_caught(status: object) -> None:
    """Report what the script is handling while it ends itself, where another rank is to blame for it.

    No hook hears of that, and SystemExit is gone before atexit's callbacks are. Of the script's own failures its last
    line says more than an exception that it knows how to handle.
    """
    value = sys.exc_info()[1]
    code = status if isinstance(status, int) else int(status is not None)  # text is printed, and means 1
    if value is None or not code or _state["pid"] != os.getpid() or _state["recorded"]:
        return
    told, origin = _judge(value)
    if origin not in (None, "own"):
        lines = "".join(_traceback(type(value), value, value.__traceback__))
        emit("last", exception=describe(type(told), told), traceback=lines, origin=origin, exit_code=code)


def _judge(value: BaseException) -> tuple[BaseException, str | None]:
    """Return what is to be told of an exception and whose failure that is, None where that cannot be found out.

    k8sddp_origin is loaded only now: read from the zip it costs every process that starts 5 ms.
    """
    try:
        origins = load("k8sddp_origin")
        own = origins.hidden(value)
        return (value, origins.of(value)) if own is None else (own, origins.DOUBTFUL)
    except Exception:
        return value, None


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


def _watch_end(is_no_news: Callable[[type[BaseException]], bool] = lambda kind: False) -> None:
    import atexit

    if _state["watched"]:
        return  # a launcher that became a rank, or a child forked from one
    _state["watched"] = True
    previous, end, stop = sys.excepthook, os._exit, sys.exit

    def hook(kind: type[BaseException], value: BaseException, trace: TracebackType | None) -> None:
        guarded(record_exception, kind, value, trace, sure=_uncaught())
        if not is_no_news(kind):
            previous(kind, value, trace)

    def last_words() -> None:
        value = getattr(sys, "last_value", None)  # what ends the process, even if no hook of the script called ours
        if value is not None:
            record_exception(type(value), value, value.__traceback__, sure=False)

    def leave() -> None:
        guarded(last_words)
        guarded(k8sddp_teardown.let_gloo_finish)

    def _exit(status: int) -> NoReturn:
        guarded(last_words)  # a hook of the script's that waits for no teardown
        guarded(record_caught, status)
        end(status)

    def exit(status: str | int | None = None) -> NoReturn:
        guarded(record_caught, status)
        stop(status)

    if previous is sys.__excepthook__:
        # Who finds another hook than Python's own calls it after printing the traceback itself, as wandb does
        # (wandb_run.py, ExitHooks), so ours is not to be told from Python's own.
        sys.__excepthook__ = hook
    sys.excepthook, os._exit, sys.exit = hook, _exit, exit
    atexit.register(leave)


def _uncaught() -> bool:
    """Return whether Python itself calls sys.excepthook: what the script calls by hand ends nothing.

    It does so with no frame below the hook; the script's hook, or torch's, may have called ours.
    """
    frame = sys._getframe()
    while frame.f_back is not None:
        frame = frame.f_back
    hook = sys.excepthook
    code = getattr(hook, "__code__", None) or getattr(type(hook).__call__, "__code__", None)
    return frame.f_code is code


def guarded(function: Callable[..., object], *args: object, **options: object) -> None:
    """Call `function` and swallow what it raises: reporting must never change how the program ends."""
    try:
        function(*args, **options)
    except Exception:
        pass
