"""Fields that hold Kubernetes' own shapes: checked against a `*_shapes.py`, handed on as the plain mappings they are.

Building validators for all of Kubernetes' affinity and volume types costs more than everything else in this package,
and few jobs use them: a shape's validator is built when the first value arrives.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, TypeAdapter
from pydantic_core import CoreSchema, core_schema


@functools.cache
def _adapter(module: str, name: str) -> TypeAdapter[Any]:
    return TypeAdapter(getattr(importlib.import_module(f"k8sddp.spec.{module}"), name))


@dataclass(frozen=True)
class Shaped:
    """Marks a mapping as one of Kubernetes' shapes, by module and class name, which are looked up at the first use."""

    module: str
    shape: str

    def check(self, value: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return `value` unchanged; raise pydantic's ValidationError where it does not fit."""
        _adapter(self.module, self.shape).validate_python(value)
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, core_schema.dict_schema())

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return handler(_adapter(self.module, self.shape).core_schema)


Shape = Mapping[str, Any]
EnvFrom = Annotated[Shape, Shaped("volume_shapes", "EnvFromSource")]
Toleration = Annotated[Shape, Shaped("scheduling_shapes", "Toleration")]
Affinity = Annotated[Shape, Shaped("scheduling_shapes", "Affinity")]
TopologySpread = Annotated[Shape, Shaped("scheduling_shapes", "TopologySpreadConstraint")]
