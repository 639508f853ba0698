"""`k8sddp version`: what a bug report needs: our version, Python, torch, and the API server's where one answers.

A cluster that cannot be reached is part of the answer, not an error. torch is looked up, never imported.
"""

from __future__ import annotations

import click

import k8sddp
from k8sddp import errors
from k8sddp.cli import screen, target, usage

EXAMPLES = (
    usage.Example("without asking a cluster", "version --client"),
    usage.Example("for a program", "version -o json"),
)


@click.command(cls=usage.Examples, examples=EXAMPLES)
@target.options
@click.option("--client", is_flag=True, help="Do not ask the cluster.")
@click.option("-o", "--output", type=click.Choice(("text", "json")), default="text", help="Form of the answer.")
def command(at: target.Target, client: bool, output: str) -> None:
    """Print the versions of k8sddp, Python, torch and the API server."""
    import platform

    versions = {"k8sddp": k8sddp.__version__, "Python": platform.python_version(), "torch": _torch()}
    if not client:
        versions["Kubernetes"] = _server(at)
    if output == "json":
        import json

        screen.out(json.dumps(versions, indent=2))
    else:
        screen.out("\n".join(f"{name} {version}" for name, version in versions.items()))


def _torch() -> str:
    from importlib import metadata

    try:
        return metadata.version("torch")
    except metadata.PackageNotFoundError:
        return "not installed (only run --local needs it)"


def _server(at: target.Target) -> str:
    try:
        connection = at.connect()
        major, minor = connection.server_version()
        return f"{major}.{minor} ({target.where(connection)})"
    except errors.ClusterError as error:
        return f"not reached: {error}"
