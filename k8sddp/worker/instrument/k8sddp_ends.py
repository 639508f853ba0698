"""Reports what ends a process to the worker: exceptions that nobody catches, and exits while one is handled.

It stands in front of sys.excepthook, sys.exit and os._exit, and calls what was there. An exception is told with its
traceback and whose failure it is (k8sddp_origin), in torch's own file, too. Light: no traceback module until something
fails. Nothing in here changes how the process ends.
"""

from __future__ import annotations

import os
import sys
import time

import k8sddp_teardown
from k8sddp_events import emit, guarded, is_own, load, state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import NoReturn

QUIET = ("ChildFailedError", "SignalException")  # torchrun's own report about ranks that have reported themselves

_done = {"watched": False, "recorded": False}


def watch(is_no_news: Callable[[type[BaseException]], bool] = lambda kind: False) -> None:
    """Report what ends this process; later calls do nothing. What `is_no_news` is not printed."""
    import atexit

    if _done["watched"]:
        return  # a launcher that became a rank, or a child forked from one
    _done["watched"] = True
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


def begin() -> None:
    """Take note that nothing has been recorded of what this process is from now on: a rank."""
    _done["recorded"] = False


def record_exception(
    kind: type[BaseException], value: BaseException, trace: TracebackType | None, *, sure: bool = True
) -> None:
    """Report an exception that ends this process, to the worker and in torch's own file.

    Where that is not `sure`, the worker believes it only when the process exits with code 1.
    """
    if not is_own() or _done["recorded"] or kind.__name__ in QUIET:
        return
    lines = "".join(_traceback(kind, value, trace))
    told, origin = _judge(value)
    text = describe(type(told), told)
    if not sure:
        emit("last", exception=text, traceback=lines, origin=origin)
        return
    _done["recorded"] = True
    # torch.multiprocessing.spawn: a child of this process failed, which is a rank only where this one is none
    index = getattr(value, "error_index", None) if state["rank"] is None else None
    child = getattr(value, "error_pid", getattr(value, "pid", None))  # torch 2.4 says pid
    if isinstance(index, int) and isinstance(child, int):
        code, said = getattr(value, "exit_code", None), str(value)
        words = {"exception": _last_line(said), "traceback": said} if code is None else {}
        emit("child", index=index, child_pid=child, exit_code=code, **words)
        return
    emit("exception", exception=text, traceback=lines, origin=origin)
    path = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if state["rank"] is not None and path and not os.path.exists(path):
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
    if value is None or not code or not is_own() or _done["recorded"]:
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
