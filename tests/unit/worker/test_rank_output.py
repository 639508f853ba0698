"""The ranks' lines: every byte, in order, whole lines only, and never more than a bounded queue of them."""

from __future__ import annotations

import itertools
import os
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k8sddp.worker.net import loop
from k8sddp.worker.ranks import rank_output


@given(st.lists(st.binary(max_size=50) | st.sampled_from([b"\n", b"a\nb", b"\n\n"]), max_size=30))
def test_no_byte_is_lost(pieces: list[bytes]) -> None:
    """Lines joined again are the stream, however it was cut."""
    splitter = rank_output.LineSplitter()
    lines = [line for piece in [*pieces, b"\n"] for line in splitter.feed(piece)]
    assert b"".join([*pieces, b"\n"]) == b"".join(line + b"\n" for line in lines)


@given(st.integers(0, 3 * rank_output.MAX_LINE), st.booleans())
def test_a_long_line_is_cut_not_lost(length: int, ended: bool) -> None:
    """A line beyond the limit comes in pieces of at most that size, and no more than one piece is held back."""
    splitter = rank_output.LineSplitter()
    lines = splitter.feed(b"x" * length + b"\n" * ended)
    lines += splitter.feed(b"\n")
    assert length == sum(map(len, lines))
    assert all(len(line) <= rank_output.MAX_LINE for line in lines)


def make_pipes() -> tuple[loop.Loop, rank_output.Sink, int, tuple[int, int]]:
    """Return a loop, a sink on a pipe, that pipe's read end, and a pipe for a source."""
    events = loop.Loop()
    out_read, out_write = os.pipe()
    os.set_blocking(out_read, False)
    return events, rank_output.Sink(events, out_write), out_read, os.pipe()


def test_a_slow_reader_slows_the_ranks_not_the_memory() -> None:
    """While stdout takes nothing, pipes are not read beyond the queue's bound; then everything arrives."""
    events, sink, out_read, (read, write) = make_pipes()
    rank_output.Source(events, sink, read, prefix="[rank 0] ")
    os.set_blocking(write, False)
    line = b"y" * 99 + b"\n"
    sent = rounds = 0
    got = b""

    def pump() -> None:
        nonlocal sent, rounds
        rounds += 1
        try:
            while sent < 10_000:
                os.write(write, line)
                sent += 1
        except BlockingIOError:
            pass
        events.stop(0) if rounds > 50 else events.after(0.0, pump)

    events.after(0.0, pump)
    events.run()
    assert sent < 10_000
    assert len(sink._queue) < rank_output.HIGH_WATER + 3 * rank_output.READ_SIZE

    events._result = None  # the same loop goes on, now with a reader

    def read_out() -> None:
        nonlocal got
        got += os.read(out_read, 1 << 16)
        if sent == 10_000 and got.count(b"\n") == sent:
            events.stop(0)

    events.watch(out_read, read=read_out)
    rounds = -1_000_000
    events.after(0.0, pump)
    events.run()
    assert got == (b"[rank 0] " + line) * 10_000


def test_a_reader_that_goes_away_stops_nothing() -> None:
    """EPIPE: output is dropped, the ranks go on."""
    _, sink, out_read, _ = make_pipes()
    os.close(out_read)
    for _ in range(100):
        sink.write(b"z" * 9999 + b"\n")
    assert not sink.full


def test_a_pipe_that_is_filled_as_fast_as_it_is_read_does_not_hold_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last lines of a failed rank are read for their end only, and its children may still write."""
    events, sink, _, (read, _) = make_pipes()
    source = rank_output.Source(events, sink, read, prefix="[rank 0] ")
    reads: list[int] = []
    monkeypatch.setattr(os, "read", lambda fd, size: reads.append(fd) or b"again\n")
    monkeypatch.setattr(sink, "write", lambda data: None)
    source.read_now()
    assert rank_output.MAX_READS == len(reads)


def test_own_lines_are_single_lines() -> None:
    """A newline in what the worker says does not forge another line."""
    _, sink, out_read, _ = make_pipes()
    sink.say("one\n[rank 0] forged\rtoo")
    assert b"[k8sddp] one [rank 0] forged too\n" == os.read(out_read, 100)


def test_the_last_lines_are_remembered() -> None:
    """For exits that say nothing else."""
    events, sink, _, (read, write) = make_pipes()
    source = rank_output.Source(events, sink, read, prefix="[rank 0] ")
    os.write(write, b"".join(b"line %d\n" % i for i in range(50)))
    source.read_now()
    assert ["line 48", "line 49"] == source.tail().splitlines()[-2:]
    assert rank_output.TAIL_LINES == len(source.tail().splitlines())


def watched(*, live: bool, stroke: bytes, until: int) -> list[tuple[float, bytes]]:
    """Write `stroke` every 20 ms until `until` pieces of output have been seen; return them, each with its time."""
    events = loop.Loop()
    (out_read, out_write), (read, write) = os.pipe(), os.pipe()
    sink = rank_output.Sink(events, out_write, live=live)
    source = rank_output.Source(events, sink, read, prefix="[rank 0] ")
    seen: list[tuple[float, bytes]] = []
    done = threading.Event()

    def draw() -> None:
        number = 0
        while not done.wait(0.02):
            number += 1
            os.write(write, stroke % number)

    def look() -> None:
        seen.append((time.monotonic(), os.read(out_read, 1 << 16)))
        if len(seen) == until:
            done.set()
            events.stop(0)

    events.watch(out_read, read=look)
    drawing = threading.Thread(target=draw)
    drawing.start()
    events.after(60.0, lambda: events.stop(1))
    code = events.run()
    done.set()
    drawing.join()
    source.close()
    assert 0 == code, "nothing was shown"
    return seen


def test_a_fast_bar_is_seen_while_it_moves_once_a_second() -> None:
    """The pause before an unfinished line is shown begins with its first byte, not anew with each."""
    seen = watched(live=False, stroke=b"\r%d%%", until=3)
    for (before, _), (after, _) in itertools.pairwise(seen):
        assert after - before > 0.9
    assert all(shown.startswith(b"[rank 0] ") and shown.endswith(b"%\n") for _, shown in seen)
    assert [1, 1, 1] == [shown.count(b"\n") for _, shown in seen]


def test_dots_are_seen_while_they_come() -> None:
    """A line that never ends and never stops is shown in pieces."""
    assert all(shown.endswith(b".\n") for _, shown in watched(live=False, stroke=b"%d.", until=2))


def test_a_live_bar_may_be_overwritten() -> None:
    """Its states end with a carriage return, and more than one a second come."""
    seen = watched(live=True, stroke=b"\r%d%%", until=4)
    assert all(shown.startswith(b"[rank 0] ") and shown.endswith(b"%\r") for _, shown in seen)


def test_a_rank_that_ends_in_a_bar_is_told_with_its_last_state_only() -> None:
    """The last lines of a failed rank are lines, not the bar at every second."""
    events, sink, _, (read, write) = make_pipes()
    source = rank_output.Source(events, sink, read, prefix="[rank 0] ")
    os.write(write, b"epoch 3\n" + b"".join(b"\r%d%%" % i for i in range(100)))
    source.read_now()
    assert ["epoch 3", "99%"] == source.tail().splitlines()
