"""Time stamps of log lines: in UTC whatever the Node's zone, and the mark between past and present."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from k8sddp.cli import stamps

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=timezone.utc)
PAST, NEWS = b"2026-11-24T11:59:00.5Z ", b"2026-11-24T12:00:01.000000001Z "
MARK = "--- attached at 2026-11-24T12:00:00.000Z: the lines above are older ---"


def shown(capfd: pytest.CaptureFixture[str], clock: stamps.Stamps, *lines: bytes | None) -> list[str]:
    """Return what is printed for these lines, stdout and stderr as they come; None is a second of silence."""
    seen = []
    for line in lines:
        if line is None:
            clock.idle()
        else:
            clock.line(clock.take(line))
        out, err = capfd.readouterr()
        seen += [*err.splitlines(), *out.splitlines()]
    return seen


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"2026-11-24T12:00:00Z epoch 1", "2026-11-24T12:00:00.000Z epoch 1"),
        (b"2026-11-24T12:00:00.123456789Z epoch 1", "2026-11-24T12:00:00.123Z epoch 1"),
        (b"2026-11-24T17:30:00.1+05:30 epoch 1", "2026-11-24T12:00:00.100Z epoch 1"),
        (b"2026-11-24T12:00:00Z", "2026-11-24T12:00:00.000Z "),
        (b"no stamp", "no stamp"),
        (b"2026-11-31T12:00:00Z of a rank", "2026-11-31T12:00:00Z of a rank"),
        (b"2026-11-24T12:00:00+99:00 of a rank", "2026-11-24T12:00:00+99:00 of a rank"),
    ],
)
def test_a_stamp_is_shown_in_utc_to_the_millisecond(
    capfd: pytest.CaptureFixture[str], line: bytes, expected: str
) -> None:
    """Whatever zone and precision the container runtime of a Node writes."""
    assert [expected] == shown(capfd, stamps.Stamps(shown=True), line)


def test_a_stamp_that_nobody_asked_for_is_not_shown(capfd: pytest.CaptureFixture[str]) -> None:
    """The line is as the script printed it."""
    assert ["epoch 1"] == shown(capfd, stamps.Stamps(shown=False), b"2026-11-24T12:00:00Z epoch 1")


def test_a_remark_has_its_own_time_and_our_sentences_have_now(capfd: pytest.CaptureFixture[str]) -> None:
    """All of one output in one order of time."""
    clock = stamps.Stamps(shown=True, now=lambda: NOW)
    clock.take(b"2026-11-24T11:00:00Z x")
    clock.note("[k8sddp] all 2 nodes have joined")
    clock.tell("waiting 5s: x")
    assert [
        "2026-11-24T11:00:00.000Z [k8sddp] all 2 nodes have joined",
        "2026-11-24T12:00:00.000Z waiting 5s: x",
    ] == capfd.readouterr().err.splitlines()


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ((PAST + b"a", PAST + b"b", NEWS + b"c", NEWS + b"d"), ["a", "b", MARK, "c", "d"]),
        ((PAST + b"a", None, None, NEWS + b"c"), ["a", MARK, "c"]),
        ((PAST + b"a", None, PAST + b"b", None, None), ["a", "b", MARK]),
        ((NEWS + b"c", NEWS + b"d", None, None), ["c", "d"]),
        ((None, None, None, NEWS + b"c"), ["c"]),
    ],
    ids=["a new line", "silence", "a slow past", "no past", "nothing yet"],
)
def test_the_past_is_marked_once(
    capfd: pytest.CaptureFixture[str], lines: tuple[bytes | None, ...], expected: list[str]
) -> None:
    """Before the first line that is news, or once the past has been printed and nothing comes."""
    assert expected == shown(capfd, stamps.Stamps(shown=False, attached=NOW), *lines)


def test_a_new_job_has_no_past(capfd: pytest.CaptureFixture[str]) -> None:
    """A Node whose clock is behind makes none."""
    assert ["a", "c"] == shown(capfd, stamps.Stamps(shown=False), PAST + b"a", None, None, NEWS + b"c")
