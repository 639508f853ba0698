"""The JSON schema of job.yaml, for editors and for the names that an unknown field may have meant.

Made from the model, with what editors need and pydantic does not write: nothing may be null (the loader refuses it),
and a volume has exactly one source.
"""

from __future__ import annotations

import functools
from typing import Any

from k8sddp.spec.loading import Path
from k8sddp.spec.model import DDPJob
from k8sddp.spec.volumes import SOURCES


def json_schema() -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of job.yaml."""
    schema: dict[str, Any] = _clean(DDPJob.model_json_schema(by_alias=True))
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "DDPJob"
    definitions = schema["$defs"]
    definitions["Volume"]["oneOf"] = [{"required": [name]} for name in SOURCES]
    definitions["Code"]["oneOf"] = [{"required": [name]} for name in definitions["Code"]["properties"]]
    return schema


def field_names(path: Path) -> tuple[str, ...]:
    """Return the fields that may stand in the mapping at `path`, empty where any name may."""
    schema = _schema()
    found = schema
    for part in path:
        found = found.get("items", {}) if isinstance(part, int) else found.get("properties", {}).get(part, {})
        if "$ref" in found:
            found = schema["$defs"][found["$ref"].rpartition("/")[2]]
    return tuple(found.get("properties", ()))


@functools.cache
def _schema() -> dict[str, Any]:
    return json_schema()  # 20 ms, and a file may have many unknown fields


def _clean(node: Any) -> Any:
    if isinstance(node, list):
        return [_clean(item) for item in node]
    if not isinstance(node, dict):
        return node
    cleaned = {key: _clean(value) for key, value in node.items() if not _is_noise(key, value)}
    choices = cleaned.get("anyOf", ())
    if {"type": "null"} in choices:
        left = [choice for choice in choices if choice != {"type": "null"}]
        del cleaned["anyOf"]
        cleaned = {**left[0], **cleaned} if len(left) == 1 else {**cleaned, "anyOf": left}
    return cleaned


def _is_noise(key: str, value: Any) -> bool:
    return (key == "title" and isinstance(value, str)) or (key == "default" and value is None)
