"""Plain scalars: what all readers agree on is taken, the rest is refused."""

import datetime

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from k8sddp.spec import scalars


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("train.py", "train.py"),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("0", 0),
        ("-12", -12),
        ("+5", 5),
        ("0.10", 0.1),
        (".5", 0.5),
        ("--lr", "--lr"),
        ("-m", "-m"),
        ("1.2.3", "1.2.3"),
        ("10.0.0.1", "10.0.0.1"),
        ("localhost:29400", "localhost:29400"),
        ("64Gi", "64Gi"),
        ("500m", "500m"),
        ("10m", "10m"),
        ("tRuE", "tRuE"),
        ("none", "none"),
        ("e3", "e3"),
        ("_1", "_1"),
        ("数", "数"),
    ],
    ids=str,
)
def test_plain_scalars_that_all_readers_agree_on_are_taken(text, value):
    """Decimal numbers, true, false, null and texts mean the same in YAML 1.1, YAML 1.2, kubectl and PyYAML."""
    assert (type(value), value) == (type(scalars.resolve(text)), scalars.resolve(text))


@pytest.mark.parametrize(
    ("text", "rule", "hint"),
    [
        ("on", "is true to kubectl and a text to others", 'write "on" for the text, or true'),
        ("yes", "is true to kubectl and a text to others", 'write "yes" for the text, or true'),
        ("y", "is true to kubectl and a text to others", 'write "y" for the text, or true'),
        ("n", "is false to kubectl and a text to others", 'write "n" for the text, or false'),
        ("NO", "is false to kubectl and a text to others", 'write "NO" for the text, or false'),
        ("Off", "is false to kubectl and a text to others", 'write "Off" for the text, or false'),
        ("010", "is 8 to kubectl and 10 to others", 'write "010", or the number in plain decimal digits'),
        ("08", "is a number to some YAML readers and a text to others", None),
        ("0o17", "is a number in base 8 to some YAML readers and a text to others", None),
        ("0x1F", "is a number in base 16 to some YAML readers and a text to others", None),
        ("0b11", "is a number in base 2 to some YAML readers and a text to others", None),
        ("1_000", "is 1000 to kubectl and a text to others", None),
        ("1e-3", "is a number to kubectl and a text to others", None),
        ("1e3", "is a number to kubectl and a text to others", None),
        ("-1.5E+3", "is a number to kubectl and a text to others", None),
        ("1.", "is a number to some YAML readers and a text to others", None),
        ("99999999999999999999", "is too large for a YAML number: readers round it", None),
        ("12:30:45", "is a number in base 60 to some YAML readers", 'write "12:30:45"'),
        ("2:4", "is a number in base 60 to some YAML readers", 'write "2:4"'),
        ("2026-01-01", "is a date to some YAML readers", 'write "2026-01-01"'),
        ("2026-01-01T10:00:00Z", "is a date to some YAML readers", 'write "2026-01-01T10:00:00Z"'),
        ("-.5", "is a number to some YAML readers and a text to others", None),
        (".inf", "is a number to YAML", 'write ".inf"'),
        ("-.Inf", "is a number to YAML", 'write "-.Inf"'),
        (".NaN", "is a number to YAML", 'write ".NaN"'),
    ],
    ids=lambda value: str(value)[:22],
)
def test_plain_scalars_that_readers_disagree_about_are_refused(text, rule, hint):
    """The rule says who reads what, the remedy is the quoted form."""
    hint = hint or f'write "{text}", or the number in plain decimal digits'
    assert scalars.Trap(f"`{text}` {rule}", hint) == scalars.resolve(text)


@given(st.text(alphabet="0123456789+-._:eExobTZynofrtuals~", min_size=1, max_size=9))
def test_whatever_is_taken_means_the_same_to_pyyaml(text):
    """PyYAML is the oracle for YAML 1.1: a scalar that we take has its type and value there too."""
    value = scalars.resolve(text)
    try:
        theirs = yaml.safe_load(f"[{text}]")
    except (yaml.YAMLError, ValueError):
        return
    if isinstance(value, scalars.Trap) or not isinstance(theirs, list) or len(theirs) != 1:
        return
    if isinstance(theirs[0], (dict, list)) or text.startswith(("-:", ":")) or text in ("-", "="):
        return  # no plain scalar at all
    assert not isinstance(theirs[0], datetime.date)
    assert (type(theirs[0]), theirs[0]) == (type(value), value)
