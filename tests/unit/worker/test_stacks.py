"""What a rank does is seen from outside: in Python, in C, with the GIL held, stopped, ended, or without hooks."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from k8sddp.worker import main
from k8sddp.worker.contract.stacks import RankStack
from k8sddp.worker.net import loop
from k8sddp.worker.ranks import process_tree, stacks
from tests.unit.worker import serving, workers

LIMIT = 20.0  # seconds; only reached by a test that fails

HOOKED = """
import ctypes, os, signal, sys, time
sys.path.insert(0, sys.argv[1])
import k8sddp_stacks
k8sddp_stacks.install(sys.argv[2])
UP = b"up\\n"  # written by the function itself, which is where the rank is from then on
def busy():
    os.write(1, UP)
    while True:
        pass
def asleep():
    os.write(1, UP)
    while True:
        time.sleep(100)
def holding_the_gil():
    sleep = ctypes.PyDLL(None).sleep  # which keeps the GIL
    os.write(1, UP)
    while True:
        sleep(100)
def in_c():
    sleep = ctypes.CDLL(None).sleep
    os.write(1, UP)
    while True:
        sleep(100)
def ending():
    class Last:
        def __del__(self, write=os.write, sleep=time.sleep, up=UP):
            write(1, up)
            while True:
                sleep(100)
    sys.last = Last()  # which Python takes down after its handlers
def deaf():
    signal.pthread_sigmask(signal.SIG_BLOCK, {k8sddp_stacks.DUMP, k8sddp_stacks.ASK})
    in_c()
def closing():
    os.closerange(3, 256)
    sys.saved = open(sys.argv[2] + ".saved", "wb")  # which gets the number of a file that we had
    asleep()
def another():
    os.write(1, UP)
    os.execv("/bin/sleep", ["sleep", "100"])
def watched():
    import k8sddp_calls, k8sddp_page
    k8sddp_calls._function(k8sddp_page.Counter(), asleep, 1)()
globals()[sys.argv[3]]()
"""
UNHOOKED = "import time\nprint('up', flush=True)\ntime.sleep(100)\n"
TAKEN = (
    "import signal, sys\nfor number in (signal.SIGRTMIN + 5, signal.SIGRTMIN + 6):\n"
    "    signal.signal(number, lambda *_: sys.exit(9))\n" + HOOKED
)


class Ranks:
    """Some processes that stand for the ranks of a node, and a look at them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.events = loop.Loop()
        self.processes: dict[int, subprocess.Popen[str]] = {}
        self.looker = stacks.Looker(
            self.events,
            pids=lambda: {rank: process.pid for rank, process in self.processes.items()},
            path=lambda rank: str(folder / f"rank-{rank}.stack"),
            send=process_tree.send,
        )

    def start(self, does: str, script: str = HOOKED) -> int:
        """Start another rank, as a worker does, and return its number."""
        rank = len(self.processes)
        path = self.folder / f"rank-{rank}.stack"
        path.touch()
        self.processes[rank] = process = subprocess.Popen(
            [workers.PYTHON, "-c", script, main.instrument_dir(), str(path), does], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        assert "up\n" == process.stdout.readline()
        return rank

    def look(self, *ranks: int) -> dict[int, RankStack]:
        """Return what is seen of these ranks, by rank; all by default."""
        seen: list[tuple[RankStack, ...]] = []
        self.looker.look(seen.append, ranks or None)
        self.until(lambda: bool(seen))
        return {one.rank: one for one in seen[0]}

    def until(self, condition: Callable[[], bool]) -> None:
        """Serve the loop until `condition` holds."""
        serving.until(self.events, condition, limit=LIMIT, said=lambda: str(self.looker))

    def close(self) -> None:
        """End all of them."""
        for process in self.processes.values():
            process.kill()
            process.communicate()


@pytest.fixture
def ranks(tmp_path: Path) -> Iterator[Ranks]:
    """Give the ranks of a node, which ignore the signals of a look until they are ready, as below a worker."""
    before = {number: signal.getsignal(number) for number in (stacks.ASK, stacks.DUMP)}
    stacks.ignore_signals()
    found = Ranks(tmp_path)
    with contextlib.closing(found):
        yield found
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("does", ["busy", "asleep", "in_c", "holding_the_gil"])
def test_a_rank_tells_where_it_is_whatever_it_does(ranks: Ranks, does: str) -> None:
    """In Python code, in a call that Python waits in, in C, and in C with the GIL held."""
    rank = ranks.start(does)
    state = "R" if does == "busy" else "S"
    ranks.until(lambda: (found := stacks.process(ranks.processes[rank].pid)) is not None and found.state == state)
    seen = ranks.look()[rank]
    assert ("", does, "<module>") == (seen.problem, *(one.function for one in seen.frames))
    assert state == seen.state
    assert {"<string>"} == {one.file for one in seen.frames}
    assert seen.frames[0] == seen.user_frame
    assert ranks.processes[rank].poll() is None


def test_a_rank_in_a_function_that_we_watch_is_shown_without_us(ranks: Ranks) -> None:
    """Whoever reads a stack looks for their own code, and torch's."""
    rank = ranks.start("watched")
    assert ["asleep", "watched", "<module>"] == [one.function for one in ranks.look()[rank].frames]


def test_the_state_of_a_rank_is_that_before_it_was_asked(ranks: Ranks, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who answers runs, whatever it did before."""
    answers: list[int] = []
    path = ranks.folder / "rank-0.stack"
    own = path.open("ab")  # this process stands for the rank
    path.write_text(f"{os.getpid()} answers to fd{own.fileno()} ask\n")

    def send(_pid: int, number: int) -> None:
        answers.append(number)
        path.write_text(f'{path.read_text()}Stack (most recent call first):\n  File "a.py", line 1 in f\n{stacks.END}')

    monkeypatch.setattr(stacks, "process", lambda _: stacks.Process("R" if answers else "S", caught=-1))
    ranks.looker = stacks.Looker(ranks.events, pids=lambda: {0: os.getpid()}, path=lambda _: str(path), send=send)
    with own:
        assert "S" == ranks.look()[0].state
    assert [stacks.ASK] == answers


def test_a_stopped_rank_is_called_stopped_and_not_asked(ranks: Ranks) -> None:
    """What it was asked would be answered when it goes on."""
    rank = ranks.start("asleep")
    os.kill(ranks.processes[rank].pid, signal.SIGSTOP)
    ranks.until(lambda: (found := stacks.process(ranks.processes[rank].pid)) is not None and found.state == "T")
    seen = ranks.look()[rank]
    assert ("T", "is stopped", ()) == (seen.state, seen.problem, seen.frames)
    found = stacks.process(ranks.processes[rank].pid)
    assert found is not None and 0 == found.pending
    os.kill(ranks.processes[rank].pid, signal.SIGCONT)
    assert "asleep" == ranks.look()[rank].frames[0].function


@pytest.mark.parametrize(
    ("does", "script", "problem"),
    [
        pytest.param("", UNHOOKED, stacks.NO_HOOK, id="without hooks"),
        pytest.param("asleep", TAKEN, stacks.TAKEN, id="signals of the script"),
        pytest.param("deaf", HOOKED, stacks.NO_ANSWER, id="signals blocked"),
    ],
)
def test_a_rank_that_cannot_answer_is_not_harmed(ranks: Ranks, does: str, script: str, problem: str) -> None:
    """It is said why there is no stack, and the process goes on."""
    rank = ranks.start(does, script)
    assert problem == ranks.look()[rank].problem
    assert ranks.processes[rank].poll() is None


def test_a_rank_that_became_another_program_is_not_killed(ranks: Ranks) -> None:
    """An exec takes the handlers away, and the signal's own action would end the process."""
    rank = ranks.start("another")
    pid = ranks.processes[rank].pid
    ranks.until(lambda: "sleep" == Path(f"/proc/{pid}/comm").read_text().strip())
    assert stacks.TAKEN == ranks.look()[rank].problem
    assert ranks.processes[rank].poll() is None


def test_a_rank_whose_python_ends_is_seen_and_not_killed(ranks: Ranks) -> None:
    """Python takes its handlers back before it takes down modules, which may take long or hang."""
    rank = ranks.start("ending")
    seen = ranks.look()[rank]
    assert ("", "__del__") == (seen.problem, seen.frames[0].function)
    ranks.processes[rank].send_signal(stacks.ASK)  # as one that was sent a moment before
    assert "__del__" == ranks.look()[rank].frames[0].function
    assert ranks.processes[rank].poll() is None


def test_a_rank_that_has_ended_is_told(ranks: Ranks) -> None:
    """Whether it has been reaped or not."""
    rank = ranks.start("asleep")
    ranks.processes[rank].kill()
    os.waitid(os.P_PID, ranks.processes[rank].pid, os.WEXITED | os.WNOWAIT)
    assert ("Z", "has ended") == ranks.look()[rank][2:4]
    ranks.processes[rank].wait()
    assert (None, "has ended") == ranks.look()[rank][2:4]


def test_who_asks_while_a_look_runs_gets_the_next_one(ranks: Ranks) -> None:
    """Two callers in a hurry share it, and none gets what was seen before it asked."""
    rank = ranks.start("in_c")
    order: list[str] = []
    for name in ("first", "second", "third"):
        ranks.looker.look(lambda seen, name=name: order.append(f"{name}: {seen[0].frames[0].function}"))  # type: ignore[misc]
    forget = ranks.looker.look(lambda seen: order.append("nobody"))
    forget()
    ranks.until(lambda: len(order) == 3)
    assert ["first: in_c", "second: in_c", "third: in_c"] == order
    path = ranks.folder / f"rank-{rank}.stack"
    assert 2 == len(re.findall(r"^Stack ", path.read_text(), re.MULTILINE))


def test_only_the_ranks_that_are_asked_for_are_disturbed(ranks: Ranks) -> None:
    """A look at one rank of eight sends nothing to the others."""
    first, second = ranks.start("asleep"), ranks.start("asleep")
    assert [second] == list(ranks.look(second))
    assert "Stack" not in (ranks.folder / f"rank-{first}.stack").read_text()


def test_a_file_does_not_grow_without_end(ranks: Ranks, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody may look once a second for a week."""
    monkeypatch.setattr(stacks, "MAX_FILE", 500)
    rank = ranks.start("busy")
    for _ in range(12):
        assert "busy" == ranks.look()[rank].frames[0].function
    assert (ranks.folder / f"rank-{rank}.stack").stat().st_size < 1000


def test_nothing_is_written_into_a_file_that_got_our_number(ranks: Ranks) -> None:
    """A script that closes all descriptors opens its checkpoint where we had our file."""
    rank = ranks.start("closing")
    assert stacks.CLOSED == ranks.look()[rank].problem
    assert 0 == (ranks.folder / f"rank-{rank}.stack.saved").stat().st_size
    assert ranks.processes[rank].poll() is None


def test_a_rank_that_cannot_be_looked_at_ends_neither_the_look_nor_the_loop(ranks: Ranks) -> None:
    """Whatever a script has written into its file: the others are seen, and so they are the next time."""
    broken, other = ranks.start("asleep"), ranks.start("asleep")
    path = ranks.folder / f"rank-{broken}.stack"
    path.write_text("9" * 5000 + " answers to ask\n")  # no number that Python's int takes
    for _ in range(2):
        seen = ranks.look()
        assert seen[broken].problem.startswith("cannot be looked at: ValueError: ")
        assert "asleep" == seen[other].frames[0].function


@pytest.mark.parametrize("number", [stacks.ASK, stacks.DUMP])
def test_a_signal_that_comes_before_the_hooks_harms_nobody(ranks: Ranks, number: int) -> None:
    """What the worker ignores its ranks ignore, through every exec between."""
    rank = ranks.start("", UNHOOKED)
    process = ranks.processes[rank]
    process.send_signal(number)
    process.send_signal(signal.SIGTERM)
    assert -signal.SIGTERM == process.wait(LIMIT)
    assert sys.platform == "linux"
