"""Foreign bytes on a terminal: text and colours pass, everything that would act on the terminal does not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k8sddp.cli import escapes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("plain ä 中\ttab", "plain ä 中\ttab", id="text"),
        pytest.param("\x1b[31mred\x1b[0m", "\x1b[31mred\x1b[0m", id="colour"),
        pytest.param("\x1b[1;38:5:9mred", "\x1b[1;38:5:9mred\x1b[0m", id="a colour ends with its line"),
        pytest.param("\x1b[31mred\nplain", "\x1b[31mred\x1b[0m\nplain", id="and not later"),
        pytest.param("\x1b[2J\x1b[Hgone", "gone", id="clear the screen"),
        pytest.param("a\x1b[1Ab", "ab", id="cursor up"),
        pytest.param("\x1b]0;title\x07text", "text", id="title"),
        pytest.param("\x1b]52;c;Zm9v\x1b\\text", "text", id="clipboard"),
        pytest.param("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link", id="hyperlink"),
        pytest.param("\x1b]52;c;never ended", "52;c;never ended", id="a string without an end hides nothing"),
        pytest.param("\x1bP$q\x1b\\a\x1b_x\x1b\\b\x1b^y\x1b\\c", "abc", id="device strings"),
        pytest.param("\x9b2Ja\x9d0;t\x9cb\x85", "ab", id="C1"),
        pytest.param("\x1bca\x1b(0b\x1b#8c", "abc", id="reset and character sets"),
        pytest.param("\x1b[>c\x1b[6n\x05a", "a", id="questions that the terminal would answer as if typed"),
        pytest.param("safe\rEVIL\r", "safe EVIL", id="carriage returns"),
        pytest.param("a\x08\x7fb\x00\x07", "ab", id="backspace and bell"),
        pytest.param("\x1b", "", id="a lone escape"),
        pytest.param("\x1b[", "", id="an unfinished one"),
    ],
)
def test_what_reaches_a_terminal(text: str, expected: str) -> None:
    """Each kind of sequence, by what it would do."""
    assert expected == escapes.clean(text)


@given(st.text(alphabet=st.sampled_from("a\x1b[]P\\m0;:1AJ?\x07\x9b\x9c\x9d\r\n\t \x85中")))
def test_no_other_control_character_is_left(text: str) -> None:
    """Whatever is combined, what is left over is text, tabs, newlines and colours."""
    shown = escapes._SGR.sub("", escapes.clean(text))
    assert not [character for character in shown if character < " " and character not in "\t\n"]
    assert not [character for character in shown if "\x7f" <= character <= "\x9f"]


@given(st.text(alphabet=st.characters(exclude_categories=["Cc"])))
def test_text_passes_unchanged(text: str) -> None:
    """Without control characters there is nothing to do."""
    assert text == escapes.clean(text)


def test_bytes_that_are_no_text_are_spelled_out() -> None:
    """0x9b alone is CSI to a terminal with 8-bit controls."""
    assert b"\\x9b2J \\xff \xc3\xa4" == escapes.clean_bytes(b"\x9b2J \xff \xc3\xa4")


@pytest.mark.parametrize(
    ("text", "cells", "expected"),
    [
        pytest.param("abc", 3, "abc", id="fits"),
        pytest.param("abcd", 3, "abc", id="cut"),
        pytest.param("\x1b[31mabcd", 3, "abc", id="colours take no room"),
        pytest.param("中文", 3, "中", id="wide"),
        pytest.param("a\u0301b", 2, "a\u0301b", id="combining"),
    ],
)
def test_a_line_is_cut_to_the_width_of_the_terminal(text: str, cells: int, expected: str) -> None:
    """One that wraps could not be overwritten by a carriage return."""
    assert expected == escapes.fitting(text, cells)
