"""Signals that end a run become readable events, and everything is put back."""

from __future__ import annotations

import os
import select
import signal
import threading

from k8sddp.local import signals


def test_signals_arrive_in_their_order() -> None:
    """A signal is read once; others than the watched ones are none of ours."""
    with signals.watching() as watch:
        os.kill(os.getpid(), signal.SIGTERM)
        assert select.select([watch], [], [], 5)[0]
        assert (signal.SIGTERM,) == watch.read()
        assert () == watch.read()


def test_handlers_are_given_back() -> None:
    """After the run the process handles signals as before."""
    before = [signal.getsignal(number) for number in signals.WATCHED]

    with signals.watching():
        assert before != [signal.getsignal(number) for number in signals.WATCHED]

    assert before == [signal.getsignal(number) for number in signals.WATCHED]


def test_an_ignored_signal_stays_ignored() -> None:
    """Under nohup a closed terminal ends nothing."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals.watching() as watch:
            os.kill(os.getpid(), signal.SIGHUP)
            assert () == watch.read()
    finally:
        signal.signal(signal.SIGHUP, before)


def test_another_thread_watches_nothing() -> None:
    """Python handles signals in the main thread alone; elsewhere a run goes on without them."""
    seen: list[object] = []

    def body() -> None:
        with signals.watching() as watch:
            seen.append(watch.read())

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()

    assert [()] == seen
