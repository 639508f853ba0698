"""Writes k8sddp/spec/core_v1.py: Kubernetes' own types, as far as job.yaml reaches them, as TypedDicts.

Source is the OpenAPI schema of the oldest Kubernetes that we support, as kubernetes-validate ships it: what that one
takes the newer ones take too (test_core_v1.py). `make golden-update` runs this; read the diff.
"""

from __future__ import annotations

import importlib.resources
import json
import re
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from k8sddp import constants

TARGET: Final = Path(__file__).parents[2] / "k8sddp" / "spec" / "core_v1.py"
OLDEST: Final = "{}.{}".format(*constants.MIN_KUBERNETES)

# The types that stand in job.yaml as they are
ROOTS: Final = (
    "EnvFromSource",
    "Toleration",
    "Affinity",
    "TopologySpreadConstraint",
    "PersistentVolumeClaimVolumeSource",
    "EmptyDirVolumeSource",
    "ConfigMapVolumeSource",
    "SecretVolumeSource",
    "HostPathVolumeSource",
    "NFSVolumeSource",
    "CSIVolumeSource",
    "EphemeralVolumeSource",
    "ProjectedVolumeSource",
    "DownwardAPIVolumeSource",
    "ImageVolumeSource",
)
# Fields that are left out, and why
LEFT_OUT: Final[Mapping[str, frozenset[str]]] = {
    # what they name has rules of its own, and feature gates
    "PersistentVolumeClaimSpec": frozenset(["dataSource", "dataSourceRef", "volumeName"]),
    "VolumeProjection": frozenset(["clusterTrustBundle"]),  # behind a feature gate
}
# The only fields where most make no sense: of a claim's template the API server takes no others
ONLY: Final[Mapping[str, frozenset[str]]] = {"ObjectMeta": frozenset(["annotations", "labels"])}
_SCALARS: Final[Mapping[tuple[str, str], str]] = {  # type and format -> ours (spec/fields.py)
    ("string", ""): "str",
    ("boolean", ""): "Flag",
    ("integer", "int32"): "Int32",
    ("integer", "int64"): "Int",
}
_QUANTITY: Final = "Quantity"
_WIDTH: Final = 120

HEADER: Final = f'''\
"""Kubernetes' own types, as far as job.yaml reaches them. Generated: `make golden-update` (tests/golden/core_v1.py).

Names, types and required fields of core/v1 in the OpenAPI schema of Kubernetes {OLDEST}. What that does not say
(choices, patterns, what excludes what) is in shapes.py.
"""

from collections.abc import Mapping

from typing_extensions import Required, TypedDict

from k8sddp.spec.fields import Flag, Int, Int32, Quantity
'''


def definitions(version: str) -> Mapping[str, Any]:
    """Return the OpenAPI definitions of a Kubernetes version by their short names, of core/v1 before others."""
    folder = importlib.resources.files("kubernetes_validate") / "kubernetes-json-schema"
    text = (folder / f"v{version}.0-local-strict" / "_definitions.json").read_text()
    found = json.loads(text)["$defs"]
    core = {name: one for name, one in found.items() if ".core.v1." in name or ".apimachinery." in name}
    return {_short(name): one for name, one in core.items()}


def fields(name: str, known: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the schemas of the fields that a type has for us."""
    properties = known[name]["properties"]
    wanted = ONLY.get(name, properties.keys()) - LEFT_OUT.get(name, frozenset())
    return {field: schema for field, schema in properties.items() if field in wanted}


def reached(known: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the types that ROOTS consist of, each after those that it consists of."""
    found: dict[str, None] = {}

    def visit(name: str) -> None:
        for schema in fields(name, known).values():
            inner = _reference(schema) or _reference(schema.get("items") or {})
            if inner not in ("", _QUANTITY, *found):
                visit(inner)
        found[name] = None

    for root in ROOTS:
        visit(root)
    return tuple(found)


def text() -> str:
    """Return the whole module."""
    known = definitions(OLDEST)
    return "\n\n".join([HEADER, *(_class(name, known) for name in reached(known))])


def _class(name: str, known: Mapping[str, Any]) -> str:
    lines = [f"class {name}(TypedDict, total=False):", *_docstring(known[name].get("description") or name), ""]
    required = known[name].get("required", ())
    for field, schema in fields(name, known).items():
        written = kind(schema)
        lines.append(f"    {field}: {f'Required[{written}]' if field in required else written}")
    return "\n".join(lines) + "\n"


def _docstring(description: str) -> list[str]:
    """Return the first sentence as a docstring."""
    sentence = re.split(r"\.\s+(?=[A-Z])", description)[0].rstrip(".") + "."
    wrapped = textwrap.wrap(f'"""{sentence}', _WIDTH - 4, break_on_hyphens=False)
    closing = [f'{wrapped[0]}"""'] if len(wrapped) == 1 and len(wrapped[0]) <= _WIDTH - 7 else [*wrapped, '"""']
    return [f"    {line}" for line in closing]


def kind(schema: Mapping[str, Any]) -> str:
    """Return a field's type as Python writes it."""
    if _reference(schema):
        return _reference(schema)
    name = next(one for one in _listed(schema["type"]) if one != "null")
    if name == "array":
        return f"list[{kind(schema['items'])}]"
    if name == "object":
        return f"Mapping[str, {kind(schema['additionalProperties'])}]"
    return _SCALARS[name, schema.get("format", "")]


def _listed(kind: Any) -> list[str]:
    return [kind] if isinstance(kind, str) else list(kind)


def _reference(schema: Mapping[str, Any]) -> str:
    return _short(schema.get("$ref", ""))


def _short(name: str) -> str:
    return name.rpartition(".")[2]


def main() -> None:
    """Write the module anew."""
    TARGET.write_text(text())
    print(TARGET.relative_to(Path(__file__).parents[2]))


if __name__ == "__main__":
    main()
