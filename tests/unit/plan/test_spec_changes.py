"""What changed between two specs, in the user's words."""

from __future__ import annotations

import json

import pytest

from k8sddp.plan import spec_changes

BASE = {"spec": {"image": "a", "nnodes": 2, "command": ["train.py", "--epochs", "10"], "env": {"TOKEN": "old"}}}


def changed(**fields: object) -> str:
    """Return the sentence for BASE with other fields; None leaves one out."""
    spec = {key: value for key, value in {**BASE["spec"], **fields}.items() if value is not None}
    return spec_changes.sentence(json.dumps(BASE), json.dumps({"spec": spec}))


@pytest.mark.parametrize(
    ("expected", "fields"),
    [
        pytest.param("spec.nnodes: 2 -> 4", {"nnodes": 4}, id="value"),
        pytest.param("spec.nnodes: 2 -> default", {"nnodes": None}, id="left-out"),
        pytest.param('spec.launcher: default -> "spawn"', {"launcher": "spawn"}, id="added"),
        pytest.param('spec.command[2]: "10" -> "20"', {"command": ["train.py", "--epochs", "20"]}, id="one-of-a-list"),
        pytest.param(
            'spec.command: ["train.py", "--epochs", "10"] -> ["train.py"]', {"command": ["train.py"]}, id="shorter-list"
        ),
        pytest.param("spec.resources.gpu: default -> 8", {"resources": {"gpu": 8}}, id="whole-mapping-added"),
        pytest.param('spec.image: "a" -> "b", spec.nnodes: 2 -> 3', {"image": "b", "nnodes": 3}, id="two"),
        pytest.param(
            "no field differs, but the recorded spec does: edited by hand, or by another version", {}, id="nothing"
        ),
    ],
)
def test_change_is_named_by_its_path_with_both_values(expected: str, fields: dict[str, object]) -> None:
    """Old and new value stand beside the field's path."""
    assert expected == changed(**fields)


@pytest.mark.parametrize(
    ("word", "env"),
    [
        pytest.param("another value", {"TOKEN": "s3cret"}, id="changed"),
        pytest.param("removed", {}, id="removed"),
        pytest.param("added", {"TOKEN": "old", "MORE": "s3cret"}, id="added"),
    ],
)
def test_values_of_env_are_never_said(word: str, env: dict[str, str]) -> None:
    """An environment variable may be a secret."""
    sentence = changed(env=env)
    assert sentence.endswith(f": {word}")
    assert "s3cret" not in sentence
    assert "old" not in sentence


def test_many_changes_are_counted_after_the_fifth() -> None:
    """The sentence stays readable."""
    sentence = changed(**{f"f{number}": number for number in range(9)})
    assert sentence.endswith("spec.f4: default -> 4 and 4 more")


def test_long_values_are_cut() -> None:
    """A command of a thousand words is not shown whole."""
    assert len(changed(image="x" * 1000)) < 100


def test_spec_that_cannot_be_read_is_a_change_that_cannot_be_named() -> None:
    """Somebody edited the annotation, or it was cut off."""
    expected = "which fields cannot be said: the spec it was made from is not readable"
    assert expected == spec_changes.sentence('{"spec": {', json.dumps(BASE))
