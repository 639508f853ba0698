"""Tell k8sddp how far your training is: `k8sddp_report.report(step=7, total_steps=100, loss=0.5)`.

In every pod of a job this module is there, whatever the image holds; it also comes with `pip install k8sddp`. Outside
of a job, and in a process that is no rank of it, its functions do nothing. A script that shall run without either says

    try:
        from k8sddp_report import report
    except ImportError:
        report = lambda **_: None

What is reported shows in `k8sddp run`, in /status and in /metrics (docs/reporting.md). Nothing here raises, waits for
anybody, or changes your training: at most once a second the newest values go to the worker of this pod, and once more
when the process ends.
"""

from __future__ import annotations

import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

INTERVAL = 1.0  # seconds between two messages to the worker
MAX_METRICS = 16
MAX_NAME = 64  # characters, ASCII: all of it must fit into one atomic write
LARGEST = 2**53  # what every reader of JSON can hold
WHOLE = ("step", "total_steps")
LOSS = "loss"
METRIC = "metric "  # before the names of others, in what is sent

_latest: dict[str, Any] = {}  # the newest value of each name: a number, or a tensor that has not been read yet
_state: dict[str, Any] = {"pid": 0, "due": 0.0, "changed": False}
_said: set[str] = set()  # names of which has been told that they cannot be taken


def report(
    *,
    step: object = None,
    total_steps: object = None,
    loss: object = None,
    **metrics: object,
) -> None:
    """Report how far this rank is; what is left out stays as it was reported last.

    `step` and `total_steps` are whole numbers, as you count them: from `total_steps` comes the time that is left.
    `loss` and up to 16 metrics of your own are numbers, or tensors of one element, which are read at most once a
    second, so that a GPU is not waited for in each step. What is no number is left out, and stderr says so once.
    """
    try:
        events = sys.modules.get("k8sddp_events")
        if events is not None and events.own_rank() is not None:
            _keep({"step": step, "total_steps": total_steps, LOSS: loss}, "")
            _keep(metrics, METRIC)
            if time.monotonic() >= _state["due"]:
                _send()
    except Exception:
        pass  # no report is worth a training


def should_stop() -> bool:
    """Return whether the job asks its script to save and end: reserved, and False for now."""
    return False


def _keep(values: dict[str, Any], prefix: str) -> None:
    for name, value in values.items():
        if value is None:
            continue
        key = prefix + name
        if prefix and key not in _latest and not _has_room(name):
            continue
        # a tensor without the graph that it came from, which would stay in memory with it
        _latest[key] = value.detach() if hasattr(value, "detach") else value
        _state["changed"] = True


def _has_room(name: str) -> bool:
    if len(name) > MAX_NAME or not (name.isascii() and name.isprintable()):
        _complain(name, "its name must be ASCII, of at most %d characters" % MAX_NAME)
    elif sum(key.startswith(METRIC) for key in _latest) >= MAX_METRICS:
        _complain(name, "%d metrics are the most" % MAX_METRICS)
    else:
        return True
    return False


def _send(*, last: bool = False) -> None:
    """Write the newest values into the worker's pipe, if it takes them at once; else the next call tries again."""
    import json
    import os

    if _state["pid"] != os.getpid():
        import atexit

        _state["pid"] = os.getpid()
        atexit.register(_leave)
    for key, value in tuple(_latest.items()):
        if last and not getattr(value, "is_cpu", True):
            del _latest[key]  # a GPU that hangs would never answer, and the process would not end
            continue
        try:
            _latest[key] = _number(key, value)
        except Exception as error:
            del _latest[key]
            _complain(key[len(METRIC) :] if key.startswith(METRIC) else key, str(error).partition("\n")[0])
    _state["due"] = time.monotonic() + INTERVAL
    events = sys.modules["k8sddp_events"]
    record = {"event": "report", "pid": os.getpid(), "rank": events.own_rank(), **_latest}
    fd = os.open(os.path.join(os.environ[events.RANK_DIR], events.EVENTS), os.O_WRONLY | os.O_NONBLOCK)
    try:
        os.write(fd, json.dumps(record).encode("ascii") + b"\n")
        _state["changed"] = False
    finally:
        os.close(fd)


def _leave() -> None:
    import os

    try:
        if _state["changed"] and _state["pid"] == os.getpid():
            _send(last=True)
    except Exception:
        pass


def _number(key: str, value: Any) -> float:
    if isinstance(value, (str, bytes)):
        raise TypeError("%r is no number" % (value[:MAX_NAME],))
    if key not in WHOLE:
        return float(value)
    whole = int(value)
    if whole != value or not 0 <= whole <= LARGEST:
        raise ValueError("%s is no whole number from 0 to 2**53" % whole)
    return whole


def _complain(name: str, reason: str) -> None:
    if name not in _said and len(_said) < MAX_METRICS:
        _said.add(name)
        sys.stderr.write("k8sddp_report: %s is left out: %s\n" % (name[:MAX_NAME], reason))
