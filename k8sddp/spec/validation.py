"""Text -> DDPJob: loading, the model and the rules between fields, run so that every problem shows at once."""

from __future__ import annotations

import json
from collections.abc import Iterable

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from k8sddp import constants
from k8sddp.errors import Problem, SpecError
from k8sddp.spec import loading, problems, rules
from k8sddp.spec.loading import Document
from k8sddp.spec.model import DDPJob, canonical


def load(text: str, *, source: str = "job.yaml") -> DDPJob:
    """Return the job that `text` describes.

    Raises SpecError with every problem of the YAML, of single fields and between fields; `source` names the file in it.
    """
    document = loading.read(text)
    if not isinstance(document.value, dict):
        raise SpecError(source, document.problems or [_not_a_job(document)])
    job, errors = _validate(document)
    if problems.is_foreign(document.value):
        errors = [error for error in errors if error["loc"] in (("apiVersion",), ("kind",))]
        raise SpecError(source, list(problems.of_errors(errors, document)))
    found = [*document.problems, *problems.of_errors(errors, document)]
    wrong = problems.wrong_paths(errors, document)
    found += problems.of_faults(rules.broken(document.value, wrong), document)
    if job is not None and not found:
        found += _too_big(job)
    if job is None or found:
        raise SpecError(source, _sorted(found))
    return job


def _validate(document: Document) -> tuple[DDPJob | None, list[ErrorDetails]]:
    try:
        return DDPJob.model_validate(document.value), []
    except ValidationError as error:
        return None, error.errors(include_url=False)


def _not_a_job(document: Document) -> Problem:
    remedy = f"begin with apiVersion: {constants.API_VERSION} and kind: {constants.KIND}"
    if document.value is None:
        return Problem("is empty", hint=remedy)
    place = document.value_place(())
    return document.problem(place, "is no mapping of names to values", hint=remedy)


def _too_big(job: DDPJob) -> Iterable[Problem]:
    size = len(json.dumps(canonical(job)).encode())
    if size > constants.MAX_SPEC_ANNOTATION:
        rule = f"is {size // 1024} KiB as JSON; at most {constants.MAX_SPEC_ANNOTATION // 1024} KiB fit the annotation"
        yield Problem(rule, path="spec", hint="move long texts into the code folder or a ConfigMap")


def _sorted(found: Iterable[Problem]) -> list[Problem]:
    return sorted(dict.fromkeys(found), key=lambda problem: (problem.line or 1 << 30, problem.column))
