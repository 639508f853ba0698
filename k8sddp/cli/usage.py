"""How commands are declared and how a wrong call is answered: examples in every help, one `error:` sentence.

click's own layout (`Usage: ... Error: ...`) is replaced, so that a wrong flag and a wrong job.yaml look alike. Examples
begin with the name by which the user called us, `k8sddp` or `kubectl k8sddp`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import click

from k8sddp.cli import screen

SETTINGS: Final[dict[str, Any]] = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class Example(NamedTuple):
    """One example of a command's help: what it does, and the words after the program's name."""

    comment: str
    words: str


class Examples(click.Command):
    """A command whose help ends with examples."""

    def __init__(self, *args: Any, examples: Sequence[Example] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = tuple(examples)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples, each under its comment line."""
        super().format_epilog(ctx, formatter)
        if not self.examples:
            return
        with formatter.section("Examples"):
            for example in self.examples:
                formatter.write(f"{'':>{formatter.current_indent}}# {example.comment}\n")
                formatter.write(f"{'':>{formatter.current_indent}}{screen.program()} {example.words}\n")


def show(error: click.ClickException) -> int:
    """Print click's complaint in our form; return its exit code."""
    message = error.format_message().strip().rstrip(".").replace(". Did you mean", "; did you mean")
    capital = message[:1].isupper() and not message[1:2].isupper()  # `FILE is missing` stays as it is
    screen.error(message[:1].lower() + message[1:] if capital else message)
    if isinstance(error, click.UsageError) and error.ctx is not None:
        screen.hint(f"{error.ctx.command_path} --help")
    return error.exit_code
