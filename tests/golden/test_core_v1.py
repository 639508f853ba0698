"""k8sddp/spec/core_v1.py is what Kubernetes' schema says, and the rules of shapes.py are about what is there."""

from __future__ import annotations

from typing import Any

import kubernetes_validate
import pytest
from pydantic import TypeAdapter
from pydantic.fields import FieldInfo
from typing_extensions import Required

from k8sddp.spec import core_v1 as ours
from k8sddp.spec import model, shaped, shapes, volumes
from tests.golden import core_v1

NEWEST = kubernetes_validate.latest_version().rpartition(".")[0]
NEWER = [f"1.{minor}" for minor in range(int(core_v1.OLDEST[2:]) + 1, int(NEWEST[2:]) + 1)]


def test_the_module_is_what_the_schema_of_the_oldest_version_says() -> None:
    """`make golden-update` writes it anew."""
    assert core_v1.text() == core_v1.TARGET.read_text()


@pytest.mark.parametrize("version", NEWER)
def test_newer_versions_take_the_same(version: str) -> None:
    """No field went or changed its type, and none became required: what is valid for the oldest is for each of them."""
    oldest, newer = core_v1.definitions(core_v1.OLDEST), core_v1.definitions(version)
    for name in core_v1.reached(oldest):
        there = core_v1.fields(name, newer)
        for field, schema in core_v1.fields(name, oldest).items():
            assert core_v1.kind(schema) == core_v1.kind(there[field]), f"{name}.{field}"
        assert set(newer[name].get("required", ())) <= set(oldest[name].get("required", ())), name


def test_every_type_in_job_yaml_is_a_root_and_every_root_is_used() -> None:
    """A type that no field needs any more goes."""
    marks = [
        mark
        for module in (model, shaped, volumes)
        for one in vars(module).values()
        for mark in getattr(one, "__metadata__", ())
    ]
    assert set(core_v1.ROOTS) == {mark.name for mark in marks if isinstance(mark, shaped.Shaped)}


@pytest.mark.parametrize("name", shapes.RULES)
def test_a_rule_is_about_a_field_that_exists_and_keeps_its_type(name: str) -> None:
    """A choice stands for a text, a range for a whole number: the schema decides which, the rule how much of it."""
    plain = getattr(ours, name).__annotations__
    rules = shapes.RULES[name]
    assert set(rules.fields) | set(rules.required) <= set(plain)
    for field, rule in rules.fields.items():
        if not isinstance(rule, (FieldInfo, shapes.Rules)):
            assert _kind(plain[field]) == _kind(rule), field


def _kind(kind: Any) -> Any:
    """Return the JSON type of a type, and of what it holds."""
    if getattr(kind, "__origin__", None) is Required:
        (kind,) = kind.__args__
    return _of_schema(TypeAdapter(kind).json_schema())


def _of_schema(schema: dict[str, Any]) -> Any:
    inner = [schema.get("items"), schema.get("additionalProperties"), *schema.get("patternProperties", {}).values()]
    held = [_of_schema(one) for one in inner if isinstance(one, dict)]
    return schema.get("type") or [one["type"] for one in schema["anyOf"]], held
