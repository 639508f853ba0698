"""The stacks of a whole gang on one screen: what differs first, what all do once.

Ranks that stand at the same place are one paragraph, because of a thousand ranks a person looks for the one that does
something else. So the paragraphs come in the order in which they may be the reason: ranks that cannot answer, ranks
that wait for nobody, then those in a collective or a backward; and the smaller group first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from k8sddp.worker.contract import stacks
from k8sddp.worker.contract.stacks import Frame, RankStack


def text(seen: Iterable[RankStack], *, source: Callable[[Frame], str] = lambda frame: "") -> str:
    """Return the paragraphs; `source` returns the text of a frame's line, empty where that is not known."""
    blocks = []
    for group in groups(seen):
        heading = f"{ranks([one.rank for one in group])} ({_heading(group)})"
        blocks.append("\n".join([heading, *stacks.lines(group[0], source=source)]))
    return "\n\n".join(blocks)


def groups(seen: Iterable[RankStack]) -> tuple[tuple[RankStack, ...], ...]:
    """Return the ranks that do the same, the odd ones out first."""
    alike: dict[tuple[object, ...], list[RankStack]] = {}
    for one in sorted(seen):
        alike.setdefault((one.problem, one.frames, one.waits, one.state if one.problem else ""), []).append(one)
    found = [tuple(group) for group in alike.values()]
    return tuple(sorted(found, key=lambda group: (not group[0].problem, group[0].waits, len(group), group[0].rank)))


def ranks(numbers: Sequence[int]) -> str:
    """Return `rank 1` or `ranks 0, 2-15`."""
    spans: list[list[int]] = []
    for number in sorted(numbers):
        if spans and spans[-1][-1] == number - 1:
            spans[-1] = [spans[-1][0], number]
        else:
            spans.append([number])
    return f"rank{'' if len(numbers) == 1 else 's'} " + ", ".join("-".join(map(str, span)) for span in spans)


def _heading(group: Sequence[RankStack]) -> str:
    """Return the ranks' states, phases and steps; one rank's pid too."""
    if len(group) == 1:
        (one,) = group
        return one.heading + (", in a collective or backward" if one.waits else "")
    steps = sorted({one.step for one in group if one.step is not None})
    parts = [
        _each(stacks.STATES.get(one.state, one.state or "") for one in group),
        _each(one.phase for one in group),
        f"step {steps[0]}" if len(steps) == 1 else f"steps {steps[0]}-{steps[-1]}" if steps else "",
        "in a collective or backward" if group[0].waits else "",
    ]
    return ", ".join(filter(None, parts))


def _each(words: Iterable[str]) -> str:
    return " or ".join(sorted({word for word in words if word}))
