"""The event loop: timers in order, children with their codes, signals as callbacks."""

from __future__ import annotations

import os
import signal
import socket
import sys

import pytest

from k8sddp.worker.net import loop
from k8sddp.worker.ranks import process_tree


def test_timers_fire_in_order_unless_cancelled() -> None:
    """By time, then by the order of their making; a cancelled one never."""
    events, fired = loop.Loop(), []
    events.after(0.02, lambda: events.stop(7))
    events.after(0.01, lambda: fired.append("late"))
    events.after(0.0, lambda: fired.append("early"))
    events.after(0.0, lambda: fired.append("never")).cancel()
    assert 7 == events.run()
    assert ["early", "late"] == fired


@pytest.mark.parametrize(
    ("jump", "expected"),
    [(loop.ASLEEP + 50.0, [60, "source", "timer"]), (loop.ASLEEP - 1.0, ["source", "timer"])],
    ids=["stopped", "slow"],
)
def test_a_process_that_was_stopped_hears_so_before_what_came_meanwhile(jump: float, expected: list[object]) -> None:
    """The clock has jumped: the sleep is told first, then sources and timers as ever."""
    now = [0.0]
    heard: list[object] = []
    read, write = os.pipe()

    def stopped() -> None:
        now[0] += jump
        events.after(0.0, lambda: heard.append("timer"))
        os.write(write, b"x")

    events = loop.Loop(lambda: now[0])
    events.on_sleep(lambda seconds: heard.append(round(seconds)))
    events.watch(read, read=lambda: (os.read(read, 1), heard.append("source"), events.stop(0)))
    events.after(0.0, stopped)
    events.run()
    os.close(read)
    os.close(write)
    assert expected == heard


def test_a_callback_that_comes_back_at_once_does_not_starve_others() -> None:
    """A timer made by a timer waits for the next round."""
    events, rounds = loop.Loop(), []

    def again() -> None:
        rounds.append(1)
        events.after(0.0, again)

    events.after(0.0, again)
    events.after(0.01, lambda: events.stop(0))
    events.run()
    assert rounds


def test_a_source_closed_in_this_round_is_not_served_though_its_number_is_in_use_again() -> None:
    """Of two readable sockets the first one served closes both; new, silent ones get their numbers."""
    events = loop.Loop()
    served: list[str] = []
    pairs = [socket.socketpair() for _ in range(2)]
    kept: list[tuple[socket.socket, socket.socket]] = []

    def serve() -> None:
        served.append("readable")
        for here, _ in pairs:
            events.watch(here.fileno())
            here.close()
        kept.extend(socket.socketpair() for _ in range(2))
        for end in (end for pair in kept for end in pair):
            events.watch(end.fileno(), read=lambda: served.append("silent"))

    old = {here.fileno() for here, _ in pairs}
    for here, there in pairs:
        events.watch(here.fileno(), read=serve)
        there.send(b"x")
    events.after(0.05, lambda: events.stop(0))
    events.run()
    new = {end.fileno() for pair in kept for end in pair}
    for end in (end for pair in (*pairs, *kept) for end in pair):
        end.close()
    assert old <= new
    assert ["readable"] == served


def test_children_and_signals_reach_their_callbacks() -> None:
    """In a process of its own: exit codes as they are, signals as negative numbers, SIGTERM as a callback."""
    script = """
import os, signal, sys
from k8sddp.worker.net import loop
from k8sddp.worker.ranks import process_tree
events = loop.Loop()
events.handle_signals(lambda number: (print("signal", number), events.stop(0)))
ended = []
def note(code):
    ended.append(code)
    if len(ended) == 2:
        print(sorted(ended))
        os.kill(os.getpid(), signal.SIGTERM)
for words in ("raise SystemExit(3)", "import os; os.kill(os.getpid(), 9)"):
    pid = process_tree.spawn((sys.executable, "-c", words), dict(os.environ), output=2)
    events.on_child(pid, note)
events.run()
"""
    read, write = os.pipe()
    pid = process_tree.spawn((sys.executable, "-c", script), dict(os.environ), output=write)
    os.close(write)
    with os.fdopen(read) as output:
        text = output.read()
    assert os.waitpid(pid, 0)[1] == 0
    assert [f"[-9, 3]\nsignal {signal.SIGTERM:d}\n"] == [text]
