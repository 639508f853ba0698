"""Whatever hook a script sets, before or after ours: each traceback is printed as without us, and is recorded."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.worker.test_instrument import Ranks, run

# What libraries make of sys.excepthook
WANDB = """
previous = sys.excepthook if sys.excepthook != sys.__excepthook__ else None
def handler(kind, value, trace):
    traceback.print_exception(kind, value, trace)
    if previous:
        previous(kind, value, trace)
sys.excepthook = handler
"""
SENTRY = """
class Integration:
    def __init__(self):
        self.previous = sys.excepthook
    def handle(self, *error):
        self.previous(*error)
sys.excepthook = Integration().handle
"""
RICH = """
def handler(kind, value, trace):
    traceback.print_exception(kind, value, trace)
sys.excepthook = handler
"""
FALLS_BACK = """
def handler(kind, value, trace):
    sys.__excepthook__(kind, value, trace)
sys.excepthook = handler
"""
CALLABLE = """
class Handler:
    previous = sys.excepthook
    def __call__(self, *error):
        Handler.previous(*error)
sys.excepthook = Handler()
"""
TORCH = """
import io
def wrap(old):
    def handler(*error):
        stderr, sys.stderr = sys.stderr, io.StringIO()
        try:
            old(*error)
        finally:
            text, sys.stderr = sys.stderr.getvalue(), stderr
        sys.stderr.write("".join("[rank3]: " + line for line in text.splitlines(True)))
    return handler
sys.excepthook = wrap(sys.excepthook)
"""
RESETS = "sys.excepthook = sys.__excepthook__\n"
LEAVES = RICH.replace("print_exception(kind, value, trace)", "print_exception(kind, value, trace); os._exit(1)")
HOOKS = {
    "none": "",
    "wandb": WANDB,
    "sentry": SENTRY,
    "rich": RICH,
    "falls back": FALLS_BACK,
    "callable": CALLABLE,
    "torch": TORCH,
    "wandb then torch": WANDB + TORCH,
    "sentry then torch": SENTRY + TORCH,
    "torch then sentry": TORCH + SENTRY,
    "resets": RESETS,
    "leaves": LEAVES,
}
JOIN = "sys.modules['k8sddp_rank'].become_rank(3)\n"


@pytest.mark.parametrize("process", ["a rank from its start", "hook, then rank", "rank, then hook", "launcher"])
@pytest.mark.parametrize("hook", HOOKS)
def test_a_traceback_is_printed_as_without_us_and_recorded(tmp_path: Path, hook: str, process: str) -> None:
    """Once, in all of these; a hook that calls neither ours nor Python's is told when the process ends."""
    before, after = (JOIN if process == one else "" for one in ("rank, then hook", "hook, then rank"))
    words = f"import os, sys, traceback\n{before}{HOOKS[hook]}{after}raise ValueError('bad')\n"
    bare = run(words.replace(JOIN, ""), {})
    with Ranks(tmp_path / "ranks") as ranks:
        env = {"a rank from its start": ranks.env, "launcher": ranks.spawn_env}
        done = run(words, env.get(process, {**ranks.spawn_env, "K8SDDP_LAUNCHER_PID": "1"}))
        output, events = done.stderr + ranks.output(), [event for event in ranks.events() if event["event"] != "start"]
    assert (1, 1, bare.stderr.count("\n")) == (done.returncode, output.count("ValueError: bad"), output.count("\n"))
    kinds = [event["event"] for event in events]
    assert {"ValueError: bad"} == {event["exception"] for event in events}
    assert ["exception"] == kinds or hook in ("rich", "leaves", "wandb", "wandb then torch"), kinds
    assert set(kinds) <= {"exception", "last"}


@pytest.mark.parametrize(
    "call",
    [
        "sys.excepthook(*sys.exc_info())",
        "thread = threading.Thread(target=sys.excepthook, args=sys.exc_info()); thread.start(); thread.join()",
    ],
    ids=["by hand", "in a thread"],
)
def test_a_script_that_calls_the_hook_goes_on(tmp_path: Path, call: str) -> None:
    """The exception is remembered, not believed: the process has not ended."""
    words = f"import sys, threading\ntry:\n    1/0\nexcept Exception:\n    {call}\nprint('goes on', flush=True)"
    with Ranks(tmp_path / "ranks") as ranks:
        done = run(words, ranks.env)
        assert (0, True) == (done.returncode, ranks.output().endswith("goes on\n"))
        assert ["start", "last"] == [event["event"] for event in ranks.events()]


def test_a_hook_that_fails_is_the_scripts_own(tmp_path: Path) -> None:
    """Python prints both, once each, as without us."""
    words = "import sys\ndef hook(*_):\n    raise KeyError('hook')\nsys.excepthook = hook\nraise ValueError('bad')"
    with Ranks(tmp_path / "ranks") as ranks:
        assert 1 == run(words, ranks.env).returncode
        output, events = ranks.output(), ranks.events()
    assert (1, 1) == (output.count("KeyError: 'hook'"), output.count("ValueError: bad"))
    assert "ValueError: bad" == events[-1]["exception"]


def test_os_exit_ends_the_process_as_ever(tmp_path: Path) -> None:
    """With its code, by position or by name."""
    with Ranks(tmp_path / "ranks") as ranks:
        assert 7 == run("import os; os._exit(7)", ranks.env).returncode
        assert 8 == run("import os; os._exit(status=8)", ranks.env).returncode
        assert ["start", "start"] == [event["event"] for event in ranks.events()]
