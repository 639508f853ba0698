"""Fields that hold Kubernetes' own shapes: checked against shapes.py, handed on as the plain mappings they are.

Building validators for all of Kubernetes' affinity and volume types costs more than everything else in this package,
and few jobs use them: a shape's validator is built when the first value arrives.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, TypeAdapter
from pydantic_core import CoreSchema, core_schema


@dataclass(frozen=True)
class Shaped:
    """Marks a mapping as one of Kubernetes' types, by its name in core_v1.py, which is looked up at the first use."""

    name: str

    @property
    def adapter(self) -> TypeAdapter[Any]:
        """Return the validator, and load all that is needed for it."""
        from k8sddp.spec import shapes

        return shapes.adapter(self.name)

    def check(self, value: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return `value` unchanged; raise pydantic's ValidationError where it does not fit."""
        self.adapter.validate_python(value)
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, core_schema.dict_schema())

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return handler(self.adapter.core_schema)


Shape = Mapping[str, Any]
EnvFrom = Annotated[Shape, Shaped("EnvFromSource")]
Toleration = Annotated[Shape, Shaped("Toleration")]
Affinity = Annotated[Shape, Shaped("Affinity")]
TopologySpread = Annotated[Shape, Shaped("TopologySpreadConstraint")]
