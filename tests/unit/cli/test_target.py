"""Where a command acts, and how a hint reaches the same place."""

from __future__ import annotations

import click
import pytest

from k8sddp import errors
from k8sddp.cli import target


@pytest.mark.parametrize(
    ("flag", "in_file", "expected"),
    [
        pytest.param(None, None, None, id="the-contexts"),
        pytest.param("research", None, "research", id="flag"),
        pytest.param(None, "research", "research", id="file"),
        pytest.param("research", "research", "research", id="both-agree"),
    ],
)
def test_namespace_comes_from_the_flag_or_the_file(flag: str | None, in_file: str | None, expected: str | None) -> None:
    """None leaves it to the kubeconfig."""
    assert expected == target.Target(namespace=flag).for_job("job.yaml", in_file).namespace


def test_two_namespaces_are_refused() -> None:
    """The sentence names both and the way out."""
    with pytest.raises(errors.UsageError, match=r"metadata.namespace is a, but -n says b; pass -n a, or"):
        target.Target(namespace="b").for_job("job.yaml", "a")


def test_hint_repeats_the_flags_that_were_given() -> None:
    """A hint that acts on another cluster would be worse than none."""
    chosen = target.Target(context="prod", namespace="my ns", kubeconfig="/etc/kube config")
    expected = "k8sddp logs a -f --context prod --kubeconfig '/etc/kube config' -n 'my ns'"
    assert expected == chosen.command("logs a -f")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("30", 30.0), ("30s", 30.0), ("1.5m", 90.0), ("2h", 7200.0), ("250ms", 0.25)],
)
def test_durations_are_kubectls(text: str, expected: float) -> None:
    """A number alone means seconds."""
    assert expected == target.seconds(click.Context(click.Command("x")), click.Argument(["x"]), text)


@pytest.mark.parametrize("text", ["", "soon", "-1s", "1d", "٣s", "0", "0.0m"])
def test_other_durations_are_refused(text: str) -> None:
    """The message shows how to write one."""
    with pytest.raises(click.BadParameter, match="write 30s, 5m or 1h"):
        target.seconds(click.Context(click.Command("x")), click.Argument(["x"]), text)
