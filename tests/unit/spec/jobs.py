"""Builders for job.yaml texts, and one line per problem."""

import json

from k8sddp import spec
from k8sddp.errors import SpecError


def make_text(*, metadata=None, **fields):
    """Return a valid job.yaml as JSON, which is YAML, with `fields` of its spec set; None removes a field."""
    values = {"image": "img", "command": ["train.py"], **fields}
    job = {
        "apiVersion": "k8sddp.dev/v1alpha1",
        "kind": "DDPJob",
        "metadata": {"name": "digits", **(metadata or {})},
        "spec": {name: value for name, value in values.items() if value is not None},
    }
    return json.dumps(job, ensure_ascii=False)


def make_job(*, metadata=None, **fields):
    """Return the job of `make_text`."""
    return spec.load(make_text(metadata=metadata, **fields))


def yaml_with(lines):
    """Return a valid job.yaml in block style whose spec ends with `lines`; these begin on line 7."""
    head = "apiVersion: k8sddp.dev/v1alpha1\nkind: DDPJob\nmetadata: {name: digits}\nspec:\n"
    return head + "  image: img\n  command: [train.py]\n" + lines


def problems(text):
    """Return every problem as `path: message (hint)`."""
    try:
        spec.load(text)
    except SpecError as error:
        return [
            f"{problem.path}: {problem.message}" + (f" ({problem.hint})" if problem.hint else "")
            for problem in error.problems
        ]
    return []


def places(text):
    """Return line, column and width of every problem."""
    try:
        spec.load(text)
    except SpecError as error:
        return [(problem.line, problem.column, problem.width) for problem in error.problems]
    return []
