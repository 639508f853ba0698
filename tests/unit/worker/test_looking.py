"""Looks at this node's ranks: stacks as short rows for node 0, and as lines of the log before anything is ended."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from k8sddp.worker.contract.stacks import Frame, RankStack
from k8sddp.worker.gang import looks, messages
from k8sddp.worker.net import loop
from k8sddp.worker.ranks import looking

HERE = str(Path(__file__).resolve())
LINE = 1 + Path(__file__).read_text().split("\n").index("HERE = str(Path(__file__).resolve())")


def make_stack(rank: int, **changes: object) -> RankStack:
    """Return a rank that is this process, in this file."""
    frame = Frame(HERE, LINE, "load")
    outer = tuple(Frame(HERE, LINE, f"f{number}") for number in range(99))
    stack = RankStack(rank, os.getpid(), "S", "", (frame, *outer), user_frame=frame, signature="abcd")
    return stack._replace(**changes)  # type: ignore[arg-type]


class Spoken:
    """A node whose log is a list."""

    def __init__(self, stacks: Sequence[RankStack]) -> None:
        self.now = 0.0
        self.lines: list[str] = []
        self.stacks = stacks
        self.looking = looking.Looking(loop.Loop(lambda: self.now), self._look, say=self.lines.append)

    def _look(self, done: Callable[[tuple[RankStack, ...]], None]) -> None:
        if not self.stacks:
            raise RuntimeError("no stacks today")
        done(tuple(self.stacks))

    def take(self, *, show: bool = False) -> tuple[looks.Seen, ...]:
        """Take a look."""
        answers: list[Sequence[object]] = []
        self.looking.take(messages.Look(0, 1, show), answers.append)
        (rows,) = answers
        return looks.from_rows(rows, range(64))


def test_a_rank_is_seen_with_its_state_place_line_and_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The file as seen from where the process runs, and the line that stands there."""
    monkeypatch.chdir(Path(HERE).parent)
    (seen,) = Spoken([make_stack(3)]).take()
    assert (3, "S", False, "abcd") == (seen.rank, seen.state, seen.waits, seen.stack)
    assert (f"test_looking.py:{LINE} in load", "HERE = str(Path(__file__).resolve())") == (seen.where, seen.source)
    assert 0 < seen.written <= looking.written(os.getpid())


def test_what_is_not_known_of_a_rank_is_not_made_up() -> None:
    """Without a pid it may not have begun; with one and without a state it has gone; a stopped one has no stack."""
    bare = {"frames": (), "user_frame": None, "signature": ""}
    stacks = [make_stack(0, pid=None), make_stack(1, state=None, **bare), make_stack(2, state="T", **bare)]
    assert [("?", ""), ("", ""), ("T", "")] == [(one.state, one.where) for one in Spoken(stacks).take()]


def test_a_source_that_cannot_be_read_leaves_the_place_alone() -> None:
    """No such file, no such line, no file at all, no such process."""
    for frame in (Frame("/none.py", 3, "f"), Frame(HERE, 10**6, "f"), Frame("<string>", 1, "f"), Frame("a\0b", 1, "f")):
        assert "" == looking.source(os.getpid(), frame)
    assert "" == looking.source(2**22 + 1, Frame("train.py", 1, "f"))
    assert looks.UNKNOWN == looking.written(2**22 + 1)


def test_a_long_place_keeps_its_end_and_a_long_line_its_beginning(tmp_path: Path) -> None:
    """Function and line number; what the line does."""
    path = tmp_path / ("a" * 200 + ".py")
    path.write_text("first(" + "x" * 200 + ")\n")
    frame = Frame(str(path), 1, "load")
    (seen,) = Spoken([make_stack(0, frames=(frame,), user_frame=frame)]).take()
    assert (looks.MAX_WHERE, looks.MAX_SOURCE) == (len(seen.where), len(seen.source))
    assert seen.where.startswith("...a")
    assert seen.where.endswith("a.py:1 in load")
    assert seen.source.startswith("first(xx")
    assert seen.source.endswith("x...")


def test_stacks_are_shown_once_each_and_those_that_wait_last() -> None:
    """Bounded, the innermost frame last with its line; not again for a minute."""
    stacks = [make_stack(rank, waits=True, signature="wait") for rank in range(3)] + [make_stack(3)]
    node = Spoken(stacks)
    node.take()
    assert [] == node.lines
    node.take(show=True)
    heads = [line for line in node.lines if line.startswith("stack of ")]
    assert ["stack of rank 3: ", "stack of ranks 0, 1, 2: "] == [head[: head.index(":") + 2] for head in heads]
    assert "HERE = str(Path(__file__).resolve())" == node.lines[node.lines.index(heads[1]) - 1].strip()
    assert 2 * (looking.MAX_LINES + 2) == len(node.lines)
    node.now = looking.QUIET - 1
    node.take(show=True)
    assert 2 == sum(line.startswith("stack of ") for line in node.lines)
    node.now = looking.QUIET
    node.take(show=True)
    assert 4 == sum(line.startswith("stack of ") for line in node.lines)


def test_a_look_that_goes_wrong_is_answered_all_the_same() -> None:
    """Node 0 must not be kept waiting; what went wrong is said, each kind once."""
    for stacks in ([make_stack(0, user_frame=7)], []):
        node = Spoken(stacks)
        assert () == node.take(show=True) == node.take(show=True)
        assert 1 == sum(line.startswith("looking at the ranks failed") for line in node.lines)
