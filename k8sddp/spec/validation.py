"""Text -> DDPJob: loading, the model and the rules between fields, run so that every problem shows at once."""

from __future__ import annotations

from pydantic import ValidationError

from k8sddp.errors import Problem, SpecError
from k8sddp.spec import loading
from k8sddp.spec.model import DDPJob


def load(text: str, *, source: str = "job.yaml") -> DDPJob:
    """Return the job that `text` describes.

    Raises SpecError with every problem of the YAML, of single fields and between fields; `source` names the file in it.
    """
    document = loading.read(text)
    if document.problems:
        raise SpecError(source, document.problems)
    try:
        return DDPJob.model_validate(document.value)
    except ValidationError as error:
        raise SpecError(
            source, [Problem(str(item["msg"]), path=loading.format_path(item["loc"])) for item in error.errors()]
        ) from None
