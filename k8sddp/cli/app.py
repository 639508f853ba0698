"""The `k8sddp` program: finds the command, and turns every end into an exit code and a sentence.

A fault of the user or of the cluster is one `error:` sentence without a traceback. Anything else is a bug of k8sddp:
the traceback is shown, because it is what a report needs, and the last line says so. `K8SDDP_DEBUG=1` shows the
traceback of every error. Exit codes: 0 done, 1 error, 2 usage or job.yaml, 4 timed out, 69 the job runs on and cannot
be followed any more, 70 a bug, 130 interrupted, 141 the reader of our output went away; `run` returns the job's own.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import Final

import click

import k8sddp
from k8sddp import errors
from k8sddp.cli import screen, usage

# In the order in which a user meets them; each is the module of that name, which holds `command`.
COMMANDS: Final = ("validate", "render", "preflight", "apply", "run", "get", "logs", "stacks", "delete", "version")

BUG: Final = 70  # sysexits EX_SOFTWARE: no fault of the user, no answer of the cluster
INTERRUPTED: Final = 130  # 128 + SIGINT
READER_GONE: Final = 141  # 128 + SIGPIPE, what a shell reports for any program that writes into a closed pipe

EXAMPLES: Final = (
    usage.Example("train on this machine, without a cluster", "run --local job.yaml"),
    usage.Example("train on the current cluster and follow rank 0", "run job.yaml"),
    usage.Example("see what would be created", "render job.yaml"),
)


class LazyGroup(usage.Examples, click.Group):
    """A group that imports a command's module when that command is asked for."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """Return the names in the order in which a user meets them."""
        return list(COMMANDS)

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command, None where there is no such name."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"k8sddp.cli.{cmd_name}")
        command = module.command
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that the words begin with; a name that does not exist is answered with the nearest."""
        if args[0] not in COMMANDS and not args[0].startswith("-"):
            import difflib

            close = difflib.get_close_matches(args[0], COMMANDS, n=1)
            remedy = f"; did you mean {close[0]!r}?" if close else f"; there are {', '.join(COMMANDS)}"
            raise click.UsageError(f"no such command {args[0]!r}{remedy}", ctx)
        return super().resolve_command(ctx, args)


@click.group(cls=LazyGroup, examples=EXAMPLES, context_settings=usage.SETTINGS, invoke_without_command=True)
@click.version_option(k8sddp.__version__, "--version", prog_name="k8sddp", message="%(prog)s %(version)s")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Train PyTorch DDP jobs on Kubernetes, or on this machine, from one job.yaml."""
    if ctx.invoked_subcommand is None:
        screen.out(ctx.get_help())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that `arguments` (default: the process's own) ask for; return the exit code."""
    screen.prepare()
    words = list(sys.argv[1:] if arguments is None else arguments)
    code = guarded(lambda: _run(words))
    # What is still buffered is written here, where a closed pipe can be caught, and not at the interpreter's end.
    return guarded(sys.stdout.flush) or code


def _run(words: list[str]) -> object:
    # Not `cli.main`: it answers a closed pipe itself, with exit code 1.
    try:
        with cli.make_context(screen.program(), words) as ctx:
            return cli.invoke(ctx)
    except click.exceptions.Exit as end:
        return end.exit_code


def guarded(step: Callable[[], object]) -> int:
    """Run `step`; return its exit code, having said on stderr why it is not 0."""
    try:
        return _said(step)
    except BrokenPipeError:  # of the step, or of what is said about its end
        # The interpreter flushes stdout once more at its end; that must not fail a second time.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return READER_GONE


def _said(step: Callable[[], object]) -> int:
    try:
        result = step()
    except click.ClickException as error:
        return usage.show(error)
    except errors.K8sddpError as error:
        if os.environ.get("K8SDDP_DEBUG"):
            screen.traceback()
        screen.error(str(error))
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except BrokenPipeError:
        raise
    except Exception as error:  # the outermost frame: whatever arrives here is a bug
        screen.traceback()
        screen.error(f"{type(error).__name__}: {error}; this is a bug in k8sddp {k8sddp.__version__}")
        screen.hint("please report it with the lines above and the output of: k8sddp version")
        return BUG
    return result if isinstance(result, int) else 0


if __name__ == "__main__":  # `python -m k8sddp.cli.app`: for a checkout that is not installed
    sys.exit(main())
