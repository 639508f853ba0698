"""Where a command acts: the shared cluster options, and the one place where a connection is opened.

The flags are kubectl's (`--context`, `-n`, `--kubeconfig`, `--request-timeout`) and mean the same. A hint repeats those
that the user gave, so that the command in it really reaches the same job.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import click

from k8sddp import errors
from k8sddp.cli import screen

if TYPE_CHECKING:
    from k8sddp import cluster

_DURATION: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)?")
MAX_SECONDS: Final = 366 * 86400.0
_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, None: 1.0}


class Target(NamedTuple):
    """The cluster and namespace that the user named; None where the kubeconfig decides."""

    context: str | None = None
    namespace: str | None = None
    kubeconfig: str | None = None
    request_timeout: float | None = None  # seconds for one answer of the API server

    def connect(self) -> cluster.Cluster:
        """Return a connection; raises KubeconfigError where there is no usable kubeconfig or context."""
        from k8sddp import cluster

        return cluster.connect(
            kubeconfig=self.kubeconfig,
            context=self.context,
            namespace=self.namespace,
            request_timeout=self.request_timeout,
        )

    def for_job(self, source: str, namespace: str | None) -> Target:
        """Return the target of a job file whose metadata.namespace is `namespace`; a second opinion is refused."""
        if namespace and self.namespace and namespace != self.namespace:
            raise errors.UsageError(
                f"{source}: metadata.namespace is {namespace}, but -n says {self.namespace}; "
                f"pass -n {namespace}, or take metadata.namespace out of the file"
            )
        return self._replace(namespace=self.namespace or namespace)

    def command(self, words: str) -> str:
        """Return the shell command that acts on the same target, for a hint."""
        import shlex

        flags = (("--context", self.context), ("--kubeconfig", self.kubeconfig), ("-n", self.namespace))
        return " ".join([screen.program(), words, *(f"{flag} {shlex.quote(value)}" for flag, value in flags if value)])


def where(connection: cluster.Cluster) -> str:
    """Return where a connection acts: `context kind, namespace research`."""
    place = f"context {connection.context}" if connection.context else "this pod's own cluster"
    return f"{place}, namespace {connection.namespace}"


def seconds(_ctx: click.Context, _param: click.Parameter, value: str | None) -> float | None:
    """Return the seconds of a duration as kubectl writes it: `30s`, `5m`, `1h`, or a plain number."""
    if value is None:
        return None
    match = _DURATION.fullmatch(value)
    if match is None:
        raise click.BadParameter(f"{value!r} is not a duration; write 30s, 5m or 1h")
    if not float(match[1]):
        raise click.BadParameter(f"{value!r} must be longer than zero; write 30s, 5m or 1h")
    found = float(match[1]) * _SECONDS[match[2]]
    if found > MAX_SECONDS:  # timers have an end, and so have the numbers in a request
        raise click.BadParameter(f"{value!r} is longer than a year; write 30s, 5m or 1h")
    return found


def options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the four cluster options; its function gets them as `at`."""

    @click.option("--context", metavar="NAME", help="Context of the kubeconfig (default: its current one).")
    @click.option("-n", "--namespace", metavar="NAME", help="Namespace (default: the context's).")
    @click.option("--kubeconfig", metavar="PATH", help="Kubeconfig (default: KUBECONFIG, then ~/.kube/config).")
    @click.option("--request-timeout", callback=seconds, metavar="TIME", help="Longest wait for one answer, as in 30s.")
    @functools.wraps(function)
    def with_options(
        *,
        context: str | None,
        namespace: str | None,
        kubeconfig: str | None,
        request_timeout: float | None,
        **others: Any,
    ) -> Any:
        return function(at=Target(context, namespace, kubeconfig, request_timeout), **others)

    return with_options
