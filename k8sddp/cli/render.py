"""`k8sddp render`: print the Kubernetes objects of a job, byte-stable, and nothing else on stdout.

The output goes into `kubectl apply --server-side -f -` of any namespace, or into a repository. No cluster is asked.
"""

from __future__ import annotations

import click

from k8sddp.cli import job_file, screen, usage

EXAMPLES = (
    usage.Example("see what would be created", "render job.yaml"),
    usage.Example("create it with kubectl alone", "render job.yaml | kubectl apply --server-side -f -"),
)


@click.command(cls=usage.Examples, examples=EXAMPLES)
@job_file.argument
@click.option("-o", "--output", type=click.Choice(("yaml", "json")), default="yaml", help="Form of the documents.")
def command(file: str, output: str) -> None:
    """Print the Kubernetes objects of a job."""
    from k8sddp import manifest

    manifests = job_file.load(file).manifests()
    if output == "json":
        import json

        screen.out(json.dumps({"apiVersion": "v1", "kind": "List", "items": list(manifests)}, indent=2))
    else:
        screen.out(manifest.to_yaml(manifests).rstrip("\n"))
