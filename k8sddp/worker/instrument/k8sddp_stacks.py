"""Lets a rank tell the stack of its main thread when its worker asks: by one signal politely, by another in any case.

The polite one is answered by Python between two bytecodes, so only while Python runs or waits in its own way. The
other is faulthandler's: it answers also in the middle of a C call that holds the GIL, and must not be used while Python
runs, because it reads frames that are just being made or freed: one in 300 to 3,000 of its dumps of all threads crashed
a busy process, one in 2,000 to 10,000 of the main thread's, and no polite answer (docs/decisions/0010-stacks.md). So it
is used only where the polite signal stays without an answer.

The worker ignores both signals, and so does all that it starts until a rank is ready: asking too early harms nobody. A
process that was forked from a rank answers as well, and nobody asks it.
"""

from __future__ import annotations

import atexit
import faulthandler
import os
import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType

ASK = signal.SIGRTMIN + 6  # the same numbers as in ranks/stacks.py; SIGUSR1 and SIGUSR2 are the scripts'
DUMP = signal.SIGRTMIN + 5
MAX_FRAMES = 100
MAX_TEXT = 500  # characters of a name, as in CPython
HEAD = "Stack (most recent call first):\n"
END = "End of stack\n"

_state = {"fd": -1}


def install(path: str) -> None:
    """Answer into the file at `path`, which the worker has made; a signal that the script has taken is left to it."""
    fd = _state["fd"] = os.open(path, os.O_WRONLY | os.O_APPEND)
    answers = ["fd%d" % fd]  # a script that closes all descriptors gives the number to a file of its own
    if _is_free(DUMP):
        faulthandler.register(DUMP, file=fd, all_threads=False, chain=False)
        answers.append("dump")
    if _is_free(ASK):
        try:
            signal.signal(ASK, _answer)
        except ValueError:  # not in the main thread: a script that makes its process group elsewhere
            pass
        else:
            signal.siginterrupt(ASK, False)  # a system call goes on where the kernel can do that
            # when Python ends it takes its handlers back, and the signal's own action would kill what still ends
            atexit.register(signal.signal, ASK, signal.SIG_IGN)
            answers.append("ask")
    os.write(fd, ("%d answers to %s\n" % (os.getpid(), " ".join(answers))).encode())


def _is_free(number: int) -> bool:
    return signal.getsignal(number) in (signal.SIG_IGN, signal.SIG_DFL)


def _answer(_number: int, frame: FrameType | None) -> None:
    lines = [HEAD]
    while frame is not None:
        if len(lines) > MAX_FRAMES:
            lines.append("  ...\n")
            break
        code = frame.f_code
        names = code.co_filename[:MAX_TEXT], frame.f_lineno or 0, code.co_name[:MAX_TEXT]
        lines.append('  File "%s", line %d in %s\n' % names)
        frame = frame.f_back
    try:
        os.write(_state["fd"], ("".join(lines) + END).encode("ascii", "backslashreplace"))
    except OSError:
        pass  # the worker has gone, or the disk is full
